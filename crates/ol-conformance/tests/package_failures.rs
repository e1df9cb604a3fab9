//! Packages that can't be had, or that do harm: each failure is its own function's and has a name, another function keeps answering,
//! nothing half-done is seen, and what was wrong can be put right. (Honest packages: `packages`.)

use ol_testkit::index::{Gate, uv};
use ol_testkit::{
    Dist, Hostile, Mischief, Over, PackageIndex, Place, Worker, eventually, in_place, measured,
    sdist, wheel,
};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Runs `test` on a worker of its own whose index is `index`, while a function without packages is called all the time.
fn with_victim(options: &[&str], test: impl FnOnce(&Worker<'_>, &PackageIndex)) {
    in_place(|place| {
        place.find_first(&uv(Path::new(env!("CARGO_TARGET_TMPDIR"))));
        let index = PackageIndex::start();
        let mirror = format!("pip_mirror={}", index.url());
        let worker = place.up(&[&[mirror.as_str()][..], options].concat());
        worker.install("victim", &[("f.py", "def f(event):\n    return event\n")]);
        let over = Over::default();
        thread::scope(|scope| {
            let until = over.when_dropped();
            let victim = scope.spawn(|| {
                let mut calls = 0;
                while !over.is() {
                    assert_eq!(worker.call("victim", &json!(calls)).ok(), json!(calls));
                    calls += 1;
                    thread::sleep(Duration::from_millis(20));
                }
                calls
            });
            test(&worker, &index);
            drop(until);
            let calls = victim.join().expect("its asserts hold");
            assert!(calls > 10, "{calls} calls prove little");
        });
        worker.down();
    });
}

fn plain(name: &str) -> Dist {
    wheel(name, "1.0")
        .file(&format!("{name}.py"), "version = '1.0'\n")
        .build()
}

fn install(worker: &Worker<'_>, name: &str) {
    let source = format!("import {name}\ndef f(event):\n    return {name}.version\n");
    let wanted = format!("{name}\n");
    worker.install(name, &[("f.py", &source), ("requirements.txt", &wanted)]);
}

/// What of this package is in the store, as `start` has it.
fn traces(place: &Place, start: &str, name: &str) -> Vec<String> {
    let entries = fs::read_dir(place.dir().join("lambda/packages"));
    let names = entries.into_iter().flatten().filter_map(Result::ok);
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|found| found.starts_with(&format!("{start}{name}==")))
        .collect()
}

/// Nothing that anybody sees is there, and what was unfinished goes.
fn no_traces(place: &Place, name: &str) {
    assert_eq!(traces(place, "", name), Vec::<String>::new(), "{name}");
    eventually("what is unfinished to go", 20.0, || {
        traces(place, ".partial-", name).is_empty().then_some(())
    });
}

fn fails(worker: &Worker<'_>, name: &str, words: &str) {
    let text = worker.call(name, &json!(null)).error(500, "no-packages");
    assert!(text.contains(words), "{name}: {words} is not in: {text}");
    no_traces(worker.place, name);
}

/// The same upload, without another word.
fn works_now(worker: &Worker<'_>, name: &str) {
    eventually(&format!("{name} to work"), 30.0, || {
        let reply = worker.call(name, &json!(null));
        (reply.status == 200).then(|| assert_eq!(reply.json(), json!("1.0")))
    });
}

const RETRY: &str = "registry_cache_ms=100";

#[test]
fn an_index_that_fails_has_a_name_and_may_come_back() {
    with_victim(&[RETRY], |worker, index| {
        let all = [
            ("down", Mischief::HangsUp, "can't be reached"),
            ("broken", Mischief::Status(503), "can't be reached"),
            ("garbage", Mischief::GarbagePage, "no package index"),
            ("lies", Mischief::WrongHash, "not the one that was locked"),
            ("rubbish", Mischief::GarbageFile, "the file is broken"),
        ];
        for (name, mischief, _) in all.clone() {
            index.add(plain(name));
            index.misbehave(name, mischief);
            install(worker, name);
        }
        for (name, _, words) in &all {
            fails(worker, name, words);
        }
        for (name, _, _) in &all {
            index.behave(name);
        }
        for (name, _, _) in &all {
            works_now(worker, name);
        }
    });
}

#[test]
fn a_slow_index_is_given_up() {
    with_victim(
        &[RETRY, "installer_limits.runtime_sec=2"],
        |worker, index| {
            let gate = Gate::closed();
            index.add(plain("slow"));
            index.misbehave("slow", Mischief::Waits(gate.clone()));
            install(worker, "slow");
            fails(worker, "slow", "installer_limits.runtime_sec");
            gate.open();
            works_now(worker, "slow");
        },
    );
}

#[test]
fn wheels_that_can_t_be_installed_have_a_name_and_may_be_replaced() {
    with_victim(
        &[RETRY, "installer_limits.scratch_mb=128"],
        |worker, index| {
            let of =
                |name: &str| wheel(name, "1.0").file(&format!("{name}.py"), "version = '1.0'\n");
            let all = [
                (
                    of("foreign").tag("cp27-cp27m-win32").build(),
                    "no wheel for this Python",
                ),
                (
                    of("absent").requires("nowhere==1").build(),
                    "no set of packages",
                ),
                (of("torn").requires("other<1").build(), "no set of packages"),
                (
                    of("many").many_files(100_000).build(),
                    "larger than an installer may unpack",
                ),
                (
                    of("bomb").bomb("bomb.bin", 300).build(),
                    "larger than an installer may unpack",
                ),
            ];
            index.add(wheel("other", "1.0").build());
            for (dist, _) in &all {
                index.add(dist.clone());
                install(worker, &dist.project);
            }
            for (dist, words) in &all {
                fails(worker, &dist.project, words);
            }
            for (dist, _) in &all {
                index.withdraw(&dist.project);
                index.add(plain(&dist.project));
            }
            for (dist, _) in &all {
                works_now(worker, &dist.project);
            }
            // A member that would climb out is left out; the rest is a package as any other.
            index.add(of("climber").file("../climbed.py", "").build());
            install(worker, "climber");
            works_now(worker, "climber");
            let store = worker.place.dir().join("lambda/packages");
            for folder in ["", "climber==1.0", "climber==1.0/files"] {
                assert!(!store.join(folder).join("climbed.py").exists());
            }
        },
    );
}

/// What a package may do, and what its owner is then told, and nobody else: when it is built, when it is imported. Those that can end
/// well may, for what they made is a package as any other.
struct Harm {
    name: &'static str,
    does: Hostile,
    built: Option<&'static str>,
    imported: Option<&'static str>,
}

const HARM: [Harm; 7] = [
    harm("writes", Hostile::WritesEverywhere, None, None),
    harm("forks", Hostile::Forks, None, None),
    harm("sockets", Hostile::OpensSockets, None, None),
    harm(
        "swarm",
        Hostile::ForksUntilRefused,
        Some("installer_limits.procs"),
        Some("Resource temporarily unavailable"),
    ),
    harm(
        "disk",
        Hostile::FillsDisk,
        Some("installer_limits.scratch_mb"),
        Some("No space left on device"),
    ),
    harm(
        "memory",
        Hostile::TakesMemory,
        Some("installer_limits.mem_mb"),
        Some("limits.mem_mb is 128"),
    ),
    harm(
        "forever",
        Hostile::RunsForever,
        Some("installer_limits.runtime_sec"),
        Some("ran past its limit of 8 s"),
    ),
];

const fn harm(
    name: &'static str,
    does: Hostile,
    built: Option<&'static str>,
    imported: Option<&'static str>,
) -> Harm {
    Harm {
        name,
        does,
        built,
        imported,
    }
}

/// Seconds that an attack may take in the two tests below.
const LIMIT: u32 = 8;

/// Only its own reason is given, and none but the one for time was waited for.
fn told(harm: &Harm, reason: fn(&Harm) -> Option<&'static str>, text: &str, took: Duration) {
    for other in &HARM {
        if let Some(words) = reason(other) {
            assert_eq!(
                text.contains(words),
                reason(harm) == Some(words),
                "{}: {words}: {text}",
                harm.name
            );
        }
    }
    let timed = harm.does == Hostile::RunsForever;
    let limit = Duration::from_secs(LIMIT.into());
    measured(&format!("{}: {took:?}", harm.name));
    assert!(timed || took < limit * 3 / 4, "{} took {took:?}", harm.name);
    assert!(!timed || took >= limit, "{} took {took:?}", harm.name);
}

/// What a build does stays in its sandbox: when it is run to find out what it needs, and when it is run to be installed.
#[test]
fn hostile_sources_do_no_harm_when_they_are_built() {
    let limit = format!("installer_limits.runtime_sec={LIMIT}");
    with_victim(
        &[RETRY, "packages.allow_sdist=true", &limit],
        |worker, index| {
            for harm in &HARM {
                for late in [false, true] {
                    let name = format!("{}{}", harm.name, if late { "late" } else { "" });
                    let sources = sdist(&name, "1.0").hostile(harm.does).backend_in_tree();
                    index.add(if late {
                        sources.tells_what_it_needs().build()
                    } else {
                        sources.build()
                    });
                    let begun = Instant::now();
                    install(worker, &name);
                    let reply = worker.call(&name, &json!(null));
                    let took = begun.elapsed();
                    if harm.built.is_some() || reply.status != 200 {
                        let text = reply.error(500, "no-packages");
                        let doing = if late {
                            format!("building {name}==1.0")
                        } else {
                            "finding out".to_owned()
                        };
                        assert!(text.contains(&doing), "{doing}: {text}");
                        told(harm, |harm| harm.built, &text, took);
                        no_traces(worker.place, &name);
                    }
                }
            }
            worker.place.assert_canaries();
        },
    );
}

/// What a package does when it is imported is its function's doing.
#[test]
fn hostile_modules_do_no_harm_when_they_are_imported() {
    let limit = format!("limits.runtime_sec={LIMIT}");
    with_victim(&[&limit, "limits.mem_mb=128"], |worker, index| {
        for harm in &HARM {
            let name = harm.name;
            let program = format!("{}\nversion = '1.0'\n", harm.does.program());
            let module = format!("{name}.py");
            index.add(wheel(name, "1.0").file(&module, program).build());
            install(worker, name);
        }
        for harm in &HARM {
            let name = harm.name;
            let package = worker
                .place
                .dir()
                .join(format!("lambda/packages/{name}==1.0"));
            eventually("the package to be there", 60.0, || {
                package.exists().then_some(())
            });
            let begun = Instant::now();
            let reply = worker.call(name, &json!(null));
            let took = begun.elapsed();
            let text = reply.text();
            assert_ne!(
                reply.header("x-ol-error"),
                Some("no-packages"),
                "{name}: {text}"
            );
            if harm.imported.is_some() {
                assert_ne!(reply.status, 200, "{name}: {text}");
                told(harm, |harm| harm.imported, &text, took);
            }
            let module = package.join(format!("files/{name}.py"));
            let text = fs::read_to_string(module).expect("installed");
            assert!(text.starts_with(harm.does.program()), "{name} was changed");
        }
        worker.place.assert_canaries();
    });
}
