//! Packages that do harm when they are built or imported.
//!
//! The harm stays in their sandbox, the function's owner is told which limit was reached, and another function keeps answering. (Packages
//! that can't be had: `package_failures`.)

use ol_testkit::{Hostile, Worker, eventually, measured, sdist, wheel, with_victim};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const KEPT: &str = env!("CARGO_TARGET_TMPDIR");

const RETRY: &str = "registry_cache_ms=100";

fn install(worker: &Worker<'_>, name: &str) {
    let source = format!("import {name}\ndef f(event):\n    return {name}.version\n");
    let wanted = format!("{name}\n");
    worker.install(name, &[("f.py", &source), ("requirements.txt", &wanted)]);
}

/// Checks that nothing of the package is in the store, and that unfinished files disappear.
fn no_traces(worker: &Worker<'_>, name: &str) {
    let store = worker.place.dir().join("lambda/packages");
    eventually("everything of it to go", 20.0, || {
        let entries = ol_testkit::place::listing(&store);
        let is_its =
            |path: &std::path::PathBuf| path.to_string_lossy().contains(&format!("{name}=="));
        (!entries.iter().any(is_its)).then_some(())
    });
    assert!(!store.join(format!("{name}==1.0")).exists());
}

/// A harm that a package may do, and what only the owner of its function is told then: when it is built, and when it is imported.
///
/// A build that can succeed all the same may, because what it made is a package like any other.
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

/// Checks that the text gives the reason of this harm only, and that only the time limit was waited for.
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

/// The harm of a build stays in its sandbox: when the package is built to find its requirements, and when it is built to be installed.
#[test]
fn hostile_sources_do_no_harm_when_they_are_built() {
    let limit = format!("installer_limits.runtime_sec={LIMIT}");
    with_victim(
        Path::new(KEPT),
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
                        no_traces(worker, &name);
                    }
                }
            }
            worker.place.assert_canaries();
        },
    );
}

/// The harm that a package does when it is imported is treated as its function's.
#[test]
fn hostile_modules_do_no_harm_when_they_are_imported() {
    let limit = format!("limits.runtime_sec={LIMIT}");
    with_victim(
        Path::new(KEPT),
        &[&limit, "limits.mem_mb=128"],
        |worker, index| {
            let uploaded = Instant::now();
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
                let called = Instant::now();
                let reply = worker.call(name, &json!(null));
                // The import begins as soon as the package is installed, whether anybody calls or not.
                let endless = harm.does == Hostile::RunsForever;
                let took = if endless { uploaded } else { called }.elapsed();
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
        },
    );
}
