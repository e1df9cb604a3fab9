//! A version that can't be started doesn't replace one that works, in whatever way it is installed, and the installer is told why.

use ol_testkit::{Worker, bundle, eventually, in_place, with_worker};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::thread;

fn answering(number: u64) -> String {
    format!("def f(event):\n    return {number}\n")
}

fn called(worker: &Worker<'_>, name: &str) -> Value {
    worker.call(name, &json!({})).ok()
}

/// Versions that can't be started, each with a part of the error.
fn broken() -> Vec<(Vec<(&'static str, &'static str)>, &'static str)> {
    let f = |source| vec![("f.py", source)];
    vec![
        (f("def f(event)\n    return 2\n"), "SyntaxError"),
        (
            f("import json\nimport no_such_module\n"),
            "No module named 'no_such_module'",
        ),
        (f("x = 1\n"), "defines no function f(event) and no app"),
        (f("f = 2\n"), "f in f.py is not callable"),
        (f("import sys\nsys.exit('enough')\n"), "SystemExit: enough"),
        (f("import os\nos._exit(7)\n"), "exited with status 7"),
        (
            f("kept = bytearray(200 << 20)\ndef f(event):\n    return 2\n"),
            "limits.mem_mb is 50",
        ),
        (
            f("import subprocess\nall = [subprocess.Popen(['sleep', '9']) for _ in range(30)]\n"),
            "Resource temporarily unavailable",
        ),
        (
            vec![
                ("f.py", "import time\ntime.sleep(600)\n"),
                ("ol.yaml", "limits: {runtime_sec: 1}\n"),
            ],
            "limit of 1 s",
        ),
        (
            vec![
                ("f.py", "def f(event):\n    return 2\n"),
                ("ol.yaml", "environment: {OL_WSGI_ENTRY: absent}\n"),
            ],
            "f.py has no absent (OL_WSGI_ENTRY)",
        ),
        (
            f("
async def app(scope, receive, send):
    assert scope['type'] == 'lifespan'
    await receive()
    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})
"),
            "no database",
        ),
    ]
}

fn install(worker: &Worker<'_>, folder: &Path, more: &[&str]) -> ol_testkit::Said {
    let folder = folder.to_str().expect("text");
    let arguments = [&["admin", "install", "-n", "f", folder][..], more].concat();
    worker.place.ol(&arguments)
}

#[test]
fn a_version_that_can_not_be_started_is_not_installed() {
    with_worker(&[], |worker| {
        worker.install("f", &[("f.py", &answering(1))]);
        assert_eq!(called(worker, "f"), json!(1));
        for (number, (files, part)) in broken().into_iter().enumerate() {
            let folder = worker.place.source(&format!("broken-{number}"), &files);
            let said = install(worker, &folder, &[]);
            assert_eq!(said.code, Some(1), "{part}: {said:?}");
            for word in [part, "the version before it stays in service"] {
                assert!(said.err.contains(word), "{word}: {said:?}");
            }
            assert!(!said.out.contains("installed"), "{said:?}");
            assert_eq!(called(worker, "f"), json!(1), "{part}");
            let state = worker.request("GET", "/registry/f/config", b"").ok();
            assert_eq!(state["Preparation"]["state"], "failed", "{state}");
            assert!(state.get("Granted").is_some(), "{state}");
            assert!(worker.log_of("f").contains(part), "{part}");
        }
        let folder = worker.place.source("mended", &[("f.py", &answering(3))]);
        assert_eq!(install(worker, &folder, &[]).code, Some(0));
        assert_eq!(called(worker, "f"), json!(3));
        let state = worker.request("GET", "/registry/f/config", b"").ok();
        assert_eq!(state["Preparation"], json!({"state": "ready"}));
    });
}

/// Without an earlier version, the broken one is in service: its calls and its installation say what is wrong.
#[test]
fn the_first_version_of_a_function_says_what_is_wrong_with_it() {
    with_worker(&[], |worker| {
        for (number, (files, part)) in broken().into_iter().take(4).enumerate() {
            let folder = worker.place.source(&format!("broken-{number}"), &files);
            let said = install(worker, &folder, &[]);
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.err.contains(part), "{said:?}");
            assert!(!said.err.contains("version before"), "{said:?}");
            for _ in 0..2 {
                let text = worker.call("f", &json!({})).error(502, "cannot-start");
                assert!(text.contains(part), "{text}");
            }
        }
        worker.install("f", &[("f.py", &answering(1))]);
        assert_eq!(called(worker, "f"), json!(1));
    });
}

#[test]
fn who_insists_has_it_served() {
    in_place(|place| {
        let worker = place.up(&[]);
        worker.install("f", &[("f.py", &answering(1))]);
        let folder = place.source("broken", &[("f.py", "import no_such_module\n")]);
        let said = install(&worker, &folder, &["--force"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let text = worker.call("f", &json!({})).error(502, "cannot-start");
        assert!(text.contains("no_such_module"), "{text}");
        let reply = worker.request("POST", "/registry/f?force=maybe", b"");
        assert!(reply.error(400, "bad-request").contains("force=1"));
        worker.down();
        let worker = place.up(&[]);
        let _ = worker.call("f", &json!({})).error(502, "cannot-start");
        worker.down();
    });
}

/// After a restart the version that works serves again, until a newer one works.
#[test]
fn the_version_before_outlives_a_restart() {
    in_place(|place| {
        let worker = place.up(&[]);
        worker.install("f", &[("f.py", &answering(1))]);
        worker.install("f", &[("f.py", "import no_such_module\n")]);
        worker.install("f", &[("f.py", "def f(event)\n")]);
        worker.down();
        for _ in 0..2 {
            let worker = place.up(&[]);
            assert_eq!(called(&worker, "f"), json!(1));
            let state = worker.request("GET", "/registry/f/config", b"").ok();
            assert_eq!(state["Preparation"]["state"], "failed", "{state}");
            worker.down();
        }
        let worker = place.up(&[]);
        worker.install("f", &[("f.py", &answering(2))]);
        let kept = place.dir().join("registry/f.tar.gz#before");
        eventually("the old bundle to go", 10.0, || {
            (!kept.exists()).then_some(())
        });
        worker.install("f", &[("f.py", "def f(event)\n")]);
        assert_eq!(called(&worker, "f"), json!(2));
        assert_eq!(place.ol(&["rm", "f"]).code, Some(0));
        assert!(!kept.exists(), "it is kept for nobody");
        worker.down();
    });
}

/// The sandbox of the trial becomes the first instance: nothing is started twice.
#[test]
fn what_a_version_was_tried_in_serves_its_first_call() {
    with_worker(&[], |worker| {
        let made = worker.count("create");
        let source = "import os\npid = os.getpid()\nprint('imported')\ndef f(event):\n    return pid == os.getpid()\n";
        worker.install("f", &[("f.py", source)]);
        assert_eq!(called(worker, "f"), json!(true));
        assert_eq!(called(worker, "f"), json!(true));
        assert_eq!(worker.count("create"), made + 1);
        assert_eq!(worker.log_of("f").matches("imported").count(), 1);
    });
}

/// Bundles that are put into the registry's folder are tried too; one that failed isn't tried again at every look at the folder.
#[test]
fn a_bundle_in_the_folder_is_tried_as_well() {
    with_worker(&["registry_cache_ms=20"], |worker| {
        let folder = worker.place.dir().join("registry");
        let put = |files: &[(&str, &str)]| {
            fs::write(folder.join(".next"), bundle(files)).expect("written");
            fs::rename(folder.join(".next"), folder.join("f.tar.gz")).expect("renamed");
        };
        put(&[("f.py", &answering(1))]);
        assert_eq!(called(worker, "f"), json!(1));
        for (files, part) in broken().into_iter().take(4) {
            put(&files);
            eventually("it to be tried", 10.0, || {
                assert_eq!(called(worker, "f"), json!(1));
                worker.log_of("f").contains(part).then_some(())
            });
        }
        let tried = worker.log_of("f").len();
        for _ in 0..5 {
            thread::sleep(std::time::Duration::from_millis(25));
            assert_eq!(called(worker, "f"), json!(1));
        }
        assert_eq!(worker.log_of("f").len(), tried, "it was tried again");
        put(&[("f.py", &answering(2))]);
        eventually("the mended one to serve", 10.0, || {
            (called(worker, "f") == json!(2)).then_some(())
        });
    });
}

/// While a version is tried, the one before serves; the next upload ends a trial that hangs.
#[test]
fn a_trial_holds_nobody_up() {
    with_worker(&[], |worker| {
        worker.install("f", &[("f.py", &answering(1))]);
        assert_eq!(called(worker, "f"), json!(1));
        let hangs = "import subprocess\nsubprocess.run(['sleep', '600'])\n";
        let yaml = "limits: {runtime_sec: 900}\n";
        thread::scope(|scope| {
            let upload = scope.spawn(|| {
                worker.install("f", &[("f.py", hangs), ("ol.yaml", yaml)]);
            });
            let _ = worker.program("sleep");
            assert_eq!(called(worker, "f"), json!(1));
            upload.join().expect("it is taken");
        });
        let state = worker.request("GET", "/registry/f/config", b"").ok();
        assert_eq!(state["Preparation"]["step"], "starting it", "{state}");
        assert_eq!(called(worker, "f"), json!(1));
        worker.install("f", &[("f.py", &answering(2))]);
        assert_eq!(called(worker, "f"), json!(2));
        eventually("the trial to end", 10.0, || {
            (worker.leaves().len() == 1).then_some(())
        });
        // The worker's end doesn't wait for a trial either.
        worker.install("f", &[("f.py", hangs), ("ol.yaml", yaml)]);
        let _ = worker.program("sleep");
    });
}

/// A version that can't be tried for want of memory serves untried: that isn't its fault.
#[test]
fn what_can_not_be_tried_for_want_of_memory_serves() {
    let options = [
        "mem_pool_mb=100",
        "queue_wait_sec=1",
        "features.import_cache=",
    ];
    with_worker(&options, |worker| {
        let hold = "import subprocess\ndef f(event):\n    subprocess.run(['sleep', '600'])\n    return event\n";
        worker.install("f", &[("f.py", &answering(1))]);
        assert_eq!(called(worker, "f"), json!(1));
        worker.install("hold", &[("f.py", hold)]);
        let mut held: Vec<_> = (0..2)
            .map(|_| {
                let mut connection = worker.connect();
                let sent = connection.send_part("POST", "/run/hold", 1, b"1");
                sent.expect("sent");
                connection
            })
            .collect();
        let sleeps = eventually("all memory to be in use", 10.0, || {
            let leaves = worker.leaves().into_iter().map(|(leaf, _)| leaf);
            let sleeps: Vec<_> = leaves
                .filter(|leaf| leaf.status("Name").as_deref() == Some("sleep"))
                .collect();
            (sleeps.len() == 2).then_some(sleeps)
        });
        worker.install("f", &[("f.py", &answering(2))]);
        eventually("it to serve", 10.0, || {
            let state = worker.request("GET", "/registry/f/config", b"").ok();
            let why = state["Preparation"]["untried"].as_str()?;
            why.contains("50 MiB").then_some(())
        });
        for sleep in sleeps {
            sleep.signal(Signal::KILL);
        }
        for connection in &mut held {
            assert_eq!(connection.reply().expect("an answer").ok(), json!(1));
        }
        assert_eq!(called(worker, "f"), json!(2));
        let state = worker.request("GET", "/registry/f/config", b"").ok();
        assert_eq!(state["Preparation"], json!({"state": "ready"}));
    });
}
