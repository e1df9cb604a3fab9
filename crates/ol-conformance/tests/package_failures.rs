//! Packages that can't be had: each failure is named and is its own function's only.
//!
//! Another function keeps answering, nothing unfinished is seen, and what was wrong can be put right. (Honest packages: `packages`; harmful
//! ones: `package_harm`.)

use ol_testkit::index::Gate;
use ol_testkit::{Dist, Mischief, Place, Worker, eventually, wheel, with_victim};
use serde_json::json;
use std::fs;
use std::path::Path;

const KEPT: &str = env!("CARGO_TARGET_TMPDIR");

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

/// The store's entries of this package whose names begin with `start`.
fn traces(place: &Place, start: &str, name: &str) -> Vec<String> {
    let entries = fs::read_dir(place.dir().join("lambda/packages"));
    let names = entries.into_iter().flatten().filter_map(Result::ok);
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|found| found.starts_with(&format!("{start}{name}==")))
        .collect()
}

/// Checks that no finished entry of the package is in the store, and that unfinished ones disappear.
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

/// Waits until the function works, without another upload.
fn works_now(worker: &Worker<'_>, name: &str) {
    eventually(&format!("{name} to work"), 30.0, || {
        let reply = worker.call(name, &json!(null));
        (reply.status == 200).then(|| assert_eq!(reply.json(), json!("1.0")))
    });
}

const RETRY: &str = "registry_cache_ms=100";

#[test]
fn an_index_that_fails_has_a_name_and_may_come_back() {
    with_victim(Path::new(KEPT), &[RETRY], |worker, index| {
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
        Path::new(KEPT),
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
        Path::new(KEPT),
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
            // A member with a path outside of the package is left out; the rest is a package like any other.
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

#[test]
fn a_disk_that_fails_is_told_without_a_path_of_the_host() {
    with_victim(Path::new(KEPT), &[RETRY], |worker, index| {
        index.add(plain("first"));
        install(worker, "first");
        works_now(worker, "first");
        // Root can write anywhere, but can't make a folder where a file is.
        let wheels = worker.place.dir().join("lambda/packages/.wheels");
        eventually("the wheel to go", 20.0, || fs::remove_dir(&wheels).ok());
        fs::write(&wheels, "").expect("written");
        index.add(plain("lost"));
        install(worker, "lost");
        let text = worker.call("lost", &json!(null)).error(500, "no-packages");
        let pid = worker.process.pid.to_string();
        assert!(text.contains("this worker's disk"), "{text}");
        assert!(
            !text.contains(".wheels") && !text.contains("lambda/") && !text.contains(&pid),
            "{text}"
        );
        let log = worker.place.log_text();
        assert!(log.contains(&wheels.display().to_string()), "{log}");
        fs::remove_file(&wheels).expect("removed");
        fs::create_dir(&wheels).expect("made");
        works_now(worker, "lost");
    });
}
