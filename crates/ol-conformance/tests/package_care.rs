//! Packages from an upload to their removal: progress is shown to whoever waits, a function's packages are listed, and those in use stay.

use ol_testkit::index::{Gate, Mischief, wheel};
use ol_testkit::{PackageIndex, Said, Worker, eventually, with_worker};
use serde_json::{Value, json};
use std::path::Path;

const FUNCTION: &str = "import left\ndef f(event):\n    return left.WHO\n";

/// An index that has `left` 1.0 and 2.0, which require `right`, and PyPI's packages.
fn index() -> PackageIndex {
    let index = PackageIndex::passing_pypi(Path::new(env!("CARGO_TARGET_TMPDIR")));
    for version in ["1.0", "2.0"] {
        let left = wheel("left", version).requires("right");
        index.add(
            left.file("left.py", format!("WHO = 'left {version}'\n"))
                .build(),
        );
    }
    index.add(wheel("right", "3.0").file("right.py", "x = 1\n").build());
    index
}

fn with_packages(test: impl FnOnce(&Worker<'_>, &PackageIndex)) {
    let index = index();
    let mirror = format!("pip_mirror={}", index.url());
    with_worker(&[&mirror], |worker| test(worker, &index));
}

/// Runs `ol admin install` for a function with these `requirements`.
fn install(worker: &Worker<'_>, name: &str, requirements: &str, options: &[&str]) -> Said {
    let files = [("f.py", FUNCTION), ("requirements.txt", requirements)];
    let source = worker.place.source(name, &files);
    let source = source.to_str().expect("text");
    worker
        .place
        .ol(&[&["admin", "install", source], options].concat())
}

fn config(worker: &Worker<'_>, path: &str) -> Value {
    worker
        .request("GET", &format!("/registry/{path}"), b"")
        .ok()
}

fn json(said: &Said) -> Value {
    serde_json::from_str(said.ok()).expect("JSON")
}

#[test]
fn installing_waits_for_the_packages_and_says_what_it_does() {
    with_packages(|worker, _| {
        let said = install(worker, "fn", "left==1.0\n", &[]);
        assert!(said.ok().contains("2 packages"), "{said:?}");
        // Two packages are installed at once, so one of the two steps may not be shown.
        for step in ["finding out which packages", "installing ", "of 2)"] {
            assert!(said.err.contains(step), "{said:?}");
        }
        assert!(!said.err.contains('\x1b'), "no terminal: {said:?}");
        assert_eq!(worker.call("fn", &json!({})).ok(), "left 1.0");

        let state = config(worker, "fn/config");
        assert_eq!(state["Preparation"], json!({"state": "ready"}));
        let lock = &state["Packages"];
        assert!(
            lock["python"].is_string() && lock["platform"].is_string(),
            "{state}"
        );
        let packages = lock["packages"].as_array().expect("a list");
        let named: Vec<_> = packages
            .iter()
            .map(|p| (&p["name"], &p["version"]))
            .collect();
        assert_eq!(
            named,
            [
                (&json!("left"), &json!("1.0")),
                (&json!("right"), &json!("3.0"))
            ]
        );
        assert_eq!(packages[0]["sha256"][0].as_str().map(str::len), Some(64));

        // Packages that are installed already need no steps, but are reported all the same.
        let said = install(worker, "second", "left==1.0\n", &["--output", "json"]);
        assert_eq!(json(&said)["packages"], json!(["left==1.0", "right==3.0"]));
        assert_eq!(json(&said)["state"], "ready");
    });
}

#[test]
fn what_fails_says_why_and_the_version_before_stays() {
    with_packages(|worker, _| {
        let said = install(worker, "fn", "left==9.9\n", &[]);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        assert!(said.err.contains("left==9.9"), "{said:?}");
        assert!(!said.err.contains("stays in service"), "{said:?}");
        let state = config(worker, "fn/config");
        assert_eq!(state["Preparation"]["state"], "failed");
        let why = state["Preparation"]["error"].as_str().expect("words");
        assert!(why.contains("left==9.9"), "{why}");
        assert_eq!(state.get("Granted"), None, "nothing is in service");

        let _ = install(worker, "fn", "left==1.0\n", &[]).ok();
        let said = install(worker, "fn", "left==9.9\n", &["--output", "json"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("stays in service"), "{said:?}");
        let result: Value = serde_json::from_str(&said.out).expect("JSON");
        assert_eq!(result["state"], "failed");
        assert_eq!(result["version_before_in_service"], true);
        assert_eq!(worker.call("fn", &json!({})).ok(), "left 1.0");
        let state = config(worker, "fn/config");
        assert_eq!(state["Preparation"]["state"], "failed");
        assert_eq!(state["Packages"]["packages"][0]["version"], "1.0");
        assert_eq!(
            worker.request("GET", "/registry/nobody/config", b"").status,
            404
        );
    });
}

#[test]
fn a_preparation_that_runs_is_shown_and_not_waited_for() {
    with_packages(|worker, index| {
        let _ = install(worker, "fn", "left==1.0\n", &[]).ok();
        let gate = Gate::closed();
        index.misbehave("left", Mischief::Waits(gate.clone()));
        let said = install(
            worker,
            "fn",
            "left==2.0\n",
            &["--no-wait", "--output", "json"],
        );
        assert_eq!(json(&said)["state"], "uploaded");
        gate.until_waiting(1);
        let state = config(worker, "fn/config");
        assert_eq!(state["Preparation"]["state"], "preparing", "{state}");
        assert!(state["Preparation"]["step"].is_string(), "{state}");
        assert_eq!(
            state["Packages"]["packages"][0]["version"], "1.0",
            "the one in service"
        );
        // A function that has no version yet.
        let _ = install(worker, "new", "left==2.0\n", &["--no-wait"]).ok();
        let state = config(worker, "new/config");
        assert_eq!(state["Preparation"]["state"], "preparing", "{state}");
        assert_eq!(
            state.as_object().map(serde_json::Map::len),
            Some(1),
            "{state}"
        );

        index.behave("left");
        gate.open();
        eventually("the new version serves", 30.0, || {
            let state = config(worker, "fn/config?wait=30&after=1000");
            (state["Preparation"]["state"] == "ready").then_some(())
        });
        assert_eq!(worker.call("fn", &json!({})).ok(), "left 2.0");
        let wrong = worker.request("GET", "/registry/fn/config?wait=soon", b"");
        assert_eq!(wrong.status, 400, "{}", wrong.text());
    });
}

#[test]
fn packages_are_listed_removed_and_collected_but_not_those_in_use() {
    with_packages(|worker, _| {
        let ol = |arguments: &[&str]| worker.place.ol(&[&["packages"], arguments].concat());
        assert_eq!(json(&ol(&["ls", "--output", "json"])), json!([]));
        let _ = install(worker, "fn", "left==1.0\n", &[]).ok();
        // The code of this function imports a package that it doesn't ask for.
        let _ = install(worker, "other", "right\n", &["--force"]).ok();

        let listed = json(&ol(&["ls", "--output", "json"]));
        assert_eq!(listed[0]["name"], "left");
        assert_eq!(listed[0]["in_use"], json!(["fn"]));
        assert_eq!(listed[1]["in_use"], json!(["fn", "other"]));
        assert!(ol(&["ls"]).ok().contains("left==1.0"));

        let held = worker.request("DELETE", "/packages/left==1.0", b"");
        assert_eq!(held.status, 409);
        assert!(held.text().contains("fn"), "{}", held.text());
        let refused = ol(&["rm", "right==3.0"]).refusal().to_owned();
        assert!(refused.contains("fn, other"), "{refused}");
        assert!(ol(&["rm", "left==7"]).refusal().contains("404"));
        assert_eq!(ol(&["rm", "left"]).code, Some(2));
        let none = json(&ol(&["gc", "--quota", "0", "--output", "json"]));
        assert_eq!(none["removed"], json!([]), "all are in use");

        // The version of the removed function is gone after its last call.
        let _ = worker.place.ol(&["rm", "fn"]).ok();
        eventually("the version lets go", 10.0, || {
            ol(&["rm", "left==1.0"]).code.filter(|code| *code == 0)
        });
        let none = json(&ol(&["gc", "--output", "json"]));
        assert_eq!(none["removed"], json!([]), "within the quota");
        let _ = worker.place.ol(&["rm", "other"]).ok();
        eventually("the rest is collected", 10.0, || {
            let collected = json(&ol(&["gc", "--quota", "0", "--output", "json"]));
            (collected["left"] == 0).then_some(())
        });
        assert_eq!(json(&ol(&["ls", "--output", "json"])), json!([]));
        // A removed package is installed anew.
        let _ = install(worker, "fn", "left==1.0\n", &[]).ok();
    });
}

#[test]
fn without_a_worker_packages_are_left_alone() {
    ol_testkit::in_place(|place| {
        let _ = place.ol(&["worker", "init"]).ok();
        let refused = place.ol(&["packages", "ls"]).refusal().to_owned();
        assert!(refused.contains("ol worker up"), "{refused}");
    });
}

#[test]
fn a_quota_removes_what_nobody_uses_when_something_is_installed() {
    let index = index();
    let mirror = format!("pip_mirror={}", index.url());
    with_worker(&[&mirror, "packages.quota_mb=1"], |worker| {
        let big = wheel("big", "1.0").bomb("big.bin", 2);
        index.add(big.file("left.py", "WHO = 'big'\n").build());
        let has_big = || {
            let installed = worker.request("GET", "/packages", b"").ok();
            let installed = installed.as_array().expect("a list");
            installed.iter().any(|p| p["name"] == "big")
        };
        let _ = install(worker, "small", "left==1.0\n", &[]).ok();
        let _ = install(worker, "fn", "big\n", &[]).ok();
        assert_eq!(
            worker.call("fn", &json!({})).ok(),
            "big",
            "in use, whatever the quota"
        );
        let _ = worker.place.ol(&["rm", "fn"]).ok();
        let _ = install(worker, "again", "left==1.0\n", &[]).ok();
        assert!(has_big(), "the store didn't grow, so nothing was collected");
        let _ = install(worker, "next", "left==2.0\n", &[]).ok();
        eventually("the big one is gone", 10.0, || (!has_big()).then_some(()));
        // The package loses its name first; the log line comes when its files are deleted.
        eventually("the log says so", 10.0, || {
            let log = worker.place.log_text();
            log.contains("removed big==1.0").then_some(())
        });
    });
}

/// The files in the folder of packed copies.
fn copies(worker: &Worker<'_>) -> Vec<std::path::PathBuf> {
    let folder = worker.place.dir().join("worker/packages/packed");
    let entries = std::fs::read_dir(folder).expect("there");
    entries.map(|entry| entry.expect("read").path()).collect()
}

#[test]
fn a_package_that_was_removed_comes_back_from_its_copy() {
    with_packages(|worker, index| {
        let sandboxes = || worker.count("create");
        let again = |name: &str| {
            let _ = worker.place.ol(&["rm", name]).ok();
            let all = ["left==1.0", "right==3.0"];
            let _ = worker
                .place
                .ol(&[&["packages", "rm"][..], &all].concat())
                .ok();
        };
        let _ = install(worker, "fn", "left==1.0\n", &[]).ok();
        assert_eq!(copies(worker).len(), 2);
        again("fn");
        let (asked, made) = (index.asked().len(), sandboxes());
        let _ = install(worker, "fn", "left==1.0\n", &[]).ok();
        // One new sandbox: the function's own, in which it was tried, and none of an installer.
        assert_eq!((index.asked().len(), sandboxes()), (asked, made + 1));
        assert_eq!(worker.call("fn", &json!({})).ok(), "left 1.0");

        again("fn");
        for copy in copies(worker) {
            let whole = std::fs::read(&copy).expect("readable");
            std::fs::write(&copy, &whole[..whole.len() / 2]).expect("written");
        }
        // Only the log tells of it.
        let _ = install(worker, "fn", "left==1.0\n", &[]).ok();
        assert!(
            worker
                .place
                .log_text()
                .contains("the copy of left==1.0 is damaged")
        );
        assert!(index.asked().len() > asked);
        assert_eq!(worker.call("fn", &json!({})).ok(), "left 1.0");

        // `gc` with a quota of 0 removes all packed copies too.
        let _ = worker.place.ol(&["rm", "fn"]).ok();
        let _ = worker.place.ol(&["packages", "gc", "--quota", "0"]).ok();
        assert_eq!(copies(worker), Vec::<std::path::PathBuf>::new());
    });
}
