//! Uploads: a new version is in service when the upload is answered, wholly or not at all, whatever happens on the way.

use ol_testkit::{Client, Worker, bundle, eventually, in_place, with_worker};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

fn version(number: u64) -> String {
    format!("def f(event):\n    return {number}\n")
}

fn called(worker: &Worker<'_>, name: &str) -> Value {
    worker.call(name, &json!({})).ok()
}

/// An update is in service as soon as its upload is answered, while callers hammer the function.
///
/// Each call's answer must be that of a version between the newest whose upload was answered 201 when the call began, and the newest
/// that was sent when the call ended.
#[test]
fn an_update_is_in_service_when_it_is_answered() {
    with_worker(&[], |worker| {
        worker.install("f", &[("f.py", &version(0))]);
        let (sent, installed, done) =
            (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut connection = worker.connect();
                        let mut calls = 0;
                        while !done.load(Ordering::SeqCst) {
                            let least = installed.load(Ordering::SeqCst);
                            let reply = connection
                                .request("GET", "/run/f", &[], b"")
                                .expect("an answer");
                            let got = reply.ok().as_u64().expect("a number");
                            let most = sent.load(Ordering::SeqCst);
                            assert!(
                                (least..=most).contains(&got),
                                "{got} is not in {least}..={most}"
                            );
                            calls += 1;
                        }
                        calls
                    })
                })
                .collect();
            for number in 1..=15 {
                sent.store(number, Ordering::SeqCst);
                worker.install("f", &[("f.py", &version(number))]);
                installed.store(number, Ordering::SeqCst);
                assert_eq!(called(worker, "f"), json!(number));
            }
            done.store(true, Ordering::SeqCst);
            let calls: u64 = callers
                .into_iter()
                .map(|caller| caller.join().expect("its asserts hold"))
                .sum();
            assert!(calls > 15, "{calls} calls prove little");
        });
        // The code of versions that nothing uses any more is removed.
        let code = worker.place.dir().join("worker/code");
        let versions = || fs::read_dir(&code).expect("there").count();
        eventually("old versions to be removed", 10.0, || {
            (versions() == 1).then_some(())
        });
    });
}

/// A running call keeps the version with which it began, files included.
#[test]
fn a_running_call_keeps_its_version() {
    with_worker(&[], |worker| {
        let source = "import subprocess\ndef f(event):\n    subprocess.run(['sleep', '600'])\n    return open('/handler/data').read()\n";
        worker.install("f", &[("f.py", source), ("data", "old")]);
        let mut connection = worker.connect();
        connection.send_part("GET", "/run/f", 0, b"").expect("sent");
        let sleep = worker.program("sleep");
        worker.install("f", &[("f.py", &version(2))]);
        assert_eq!(called(worker, "f"), json!(2));
        sleep.signal(Signal::KILL);
        assert_eq!(connection.reply().expect("an answer").ok(), json!("old"));
        eventually("the old sandbox to go", 10.0, || {
            (worker.leaves().len() == 1).then_some(())
        });
    });
}

#[test]
fn a_deleted_function_is_unknown() {
    with_worker(&[], |worker| {
        worker.install("f", &[("f.py", &version(1))]);
        assert_eq!(called(worker, "f"), json!(1));
        assert_eq!(worker.request("DELETE", "/registry/f", b"").status, 200);
        let _ = worker.call("f", &json!({})).error(404, "unknown-function");
        let _ = worker
            .request("DELETE", "/registry/f", b"")
            .error(404, "unknown-function");
        assert_eq!(worker.request("GET", "/registry/", b"").ok(), json!([]));
        assert!(!worker.place.dir().join("registry/f.tar.gz").exists());
        eventually("its sandbox to go", 10.0, || {
            worker.leaves().is_empty().then_some(())
        });
        worker.install("f", &[("f.py", &version(2))]);
        assert_eq!(called(worker, "f"), json!(2));
        let said = worker.place.ol(&["rm", "f"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let _ = worker.call("f", &json!({})).error(404, "unknown-function");
    });
}

/// An upload may break off at any byte: the version from before still serves, and a new name stays unknown.
#[test]
fn an_upload_that_is_cut_changes_nothing() {
    with_worker(&[], |worker| {
        worker.install("f", &[("f.py", &version(1))]);
        assert_eq!(called(worker, "f"), json!(1));
        let padding: String = (0..20_000)
            .map(|number: u64| format!("{:x}\n", number.wrapping_mul(0x9e37_79b9)))
            .collect();
        let new = bundle(&[("f.py", &version(2)), ("padding", &padding)]);
        let cuts = [
            0,
            1,
            9,
            10,
            11,
            100,
            new.len() / 3,
            new.len() / 2,
            new.len() - 9,
            new.len() - 8,
            new.len() - 1,
        ];
        for cut in cuts {
            for (name, all) in [("f", true), ("new", true), ("f", false)] {
                let mut connection = worker.connect();
                // Either the whole length is announced and the body cut, or the shorter length is announced, so that the bundle itself
                // ends too early.
                let length = if all { new.len() } else { cut };
                connection
                    .send_part("POST", &format!("/registry/{name}"), length, &new[..cut])
                    .expect("sent");
                if all {
                    connection.finish_sending().expect("open");
                }
                let status = connection.reply().map(|reply| reply.status);
                assert!(
                    status.as_ref().map_or(all, |status| *status == 400),
                    "cut at {cut}, {all}: {status:?}"
                );
            }
            assert_eq!(called(worker, "f"), json!(1), "cut at {cut}");
            let _ = worker
                .call("new", &json!({}))
                .error(404, "unknown-function");
        }
        // The connection is reset instead of closed, before the worker has answered.
        for _ in 0..5 {
            let mut connection = worker.connect();
            connection
                .send_part("POST", "/registry/f", new.len(), &new[..1000])
                .expect("sent");
            drop(connection);
        }
        assert_eq!(called(worker, "f"), json!(1));
        let uploads = worker.place.dir().join("worker/uploads");
        let waiting = || fs::read_dir(&uploads).expect("there").count();
        eventually("parts of uploads to be removed", 10.0, || {
            (waiting() == 0).then_some(())
        });
        let reply = worker.request("POST", "/registry/f", &new);
        assert_eq!((reply.status, called(worker, "f")), (201, json!(2)));
    });
}

/// If the worker is killed at any moment of an upload, the next worker serves the old version or the new one.
#[test]
fn a_worker_that_is_killed_while_it_stores() {
    in_place(|place| {
        let mut stored = 0;
        for round in 1..=6_u64 {
            let mut worker = place.up(&[]);
            if round == 1 {
                worker.install("f", &[("f.py", &version(0))]);
            }
            assert_eq!(called(&worker, "f"), json!(stored));
            let bytes = bundle(&[("f.py", &version(round))]);
            let mut connection = Client::connect(&worker.address).expect("it listens");
            // All but the last byte is sent first, so that the kill hits what the worker does after it.
            let (last, most) = bytes.split_last().expect("not empty");
            connection
                .send_part("POST", "/registry/f", bytes.len(), most)
                .expect("sent");
            connection.send(&[*last]).expect("sent");
            // The kill comes later from round to round: from before anything was done to after the answer.
            if round > 4 {
                let _ = connection.reply();
            } else {
                for _ in 1..round {
                    let _ = worker.request("GET", "/status", b"");
                }
            }
            worker.process.signal(Signal::KILL);
            let (status, _) = worker.wait();
            assert!(!status.success());
            drop(worker);

            let worker = place.up(&[]);
            let now = called(&worker, "f").as_u64().expect("a number");
            assert!(
                now == round || (now == stored && round <= 4),
                "round {round}: {now}, before it {stored}"
            );
            stored = now;
            worker.down();
        }
    });
}

/// Bundles that people put into the folder with `cp` or `mv` are noticed at the first call after `registry_cache_ms`.
#[test]
fn a_bundle_put_into_the_folder() {
    with_worker(&["registry_cache_ms=50"], |worker| {
        let folder = worker.place.dir().join("registry");
        let put = |text: &[u8]| {
            fs::write(folder.join(".next"), text).expect("written");
            fs::rename(folder.join(".next"), folder.join("f.tar.gz")).expect("renamed");
        };
        put(&bundle(&[("f.py", &version(1))]));
        assert_eq!(called(worker, "f"), json!(1));
        put(&bundle(&[("f.py", &version(2))]));
        eventually("the new bundle to be seen", 5.0, || {
            (called(worker, "f") == json!(2)).then_some(())
        });
        // A bundle that can't be read leaves the version before it in service.
        put(b"no bundle");
        let complaint = "the version before stays in service";
        eventually("the bad bundle to be looked at", 5.0, || {
            assert_eq!(called(worker, "f"), json!(2));
            worker.place.log_text().contains(complaint).then_some(())
        });
        put(&bundle(&[("f.py", &version(3))]));
        eventually("the mended bundle to be seen", 5.0, || {
            (called(worker, "f") == json!(3)).then_some(())
        });
        fs::remove_file(folder.join("f.tar.gz")).expect("removed");
        eventually("its removal to be seen", 5.0, || {
            (worker.call("f", &json!({})).status == 404).then_some(())
        });
    });
}
