//! A leaf, the worker or the warden dies at the wrong moment: that is noticed and explained, and nothing is left behind.

use ol_testkit::patience::within;
use ol_testkit::process::{Process, descendants};
use ol_testkit::{Client, Starts, Worker, eventually, in_place, patience, with_worker};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Instant;

/// Sleeps for long if the event says so, in a child process by which the test sees on the host that it sleeps.
const SLEEPER: &str = "
import subprocess

def f(event):
    if event:
        subprocess.run(['sleep', '600'])
    return event
";

/// Begins a call that won't end; returns the leaf that serves it.
fn begin_a_call(worker: &Worker<'_>) -> (Client, Process) {
    let mut connection = worker.connect();
    connection
        .send_part("POST", "/run/sleeper", 4, b"true")
        .expect("sent");
    let leaf = worker.program("sleep").parent().and_then(Process::of);
    let leaf = leaf.expect("it waits for its child");
    (connection, leaf)
}

#[test]
fn a_leaf_that_is_killed_during_a_call() {
    with_worker(&[], |worker| {
        worker.install("sleeper", &[("f.py", SLEEPER)]);
        for _ in 0..3 {
            let (mut connection, leaf) = begin_a_call(worker);
            leaf.signal(Signal::KILL);
            let begun = Instant::now();
            let text = connection.reply().expect("an answer").error(502, "died");
            assert!(
                text.contains("signal 9") || text.contains("SIGKILL"),
                "{text}"
            );
            assert!(begun.elapsed() < patience(2.0), "{:?}", begun.elapsed());
            assert_eq!(worker.call("sleeper", &json!(0)).ok(), json!(0));
            eventually("the dead sandbox to go", 5.0, || {
                (worker.leaves().len() == 1).then_some(())
            });
        }
    });
}

/// A leaf that dies while nobody uses it, frozen or not, costs no caller an error: a call which finds it dead goes to
/// another.
#[test]
fn a_leaf_that_is_killed_between_calls() {
    for options in [&["pause_after_ms=1"], &["pause_after_ms=60000"]] {
        with_worker(options, |worker| {
            worker.install("sleeper", &[("f.py", SLEEPER)]);
            assert_eq!(worker.call("sleeper", &json!(0)).ok(), json!(0));
            for number in 0..20 {
                let leaves = worker.leaves();
                for (leaf, _) in &leaves {
                    leaf.signal(Signal::KILL);
                }
                // Then the leaf's end of the socket is closed, and only by that can the worker notice its death.
                let gone = || leaves.iter().all(|(leaf, _)| !leaf.lives());
                eventually("its end", 5.0, || gone().then_some(()));
                assert_eq!(worker.call("sleeper", &json!(0)).ok(), json!(0), "{number}");
            }
        });
    }
}

/// What a function can do to its own process and to its socket to the worker.
#[test]
fn functions_that_end_themselves() {
    let source = "
import os, signal, sys

def f(event):
    exec(event)
    return 'back'
";
    with_worker(&[], |worker| {
        let limits = "limits: {runtime_sec: 2}\n";
        worker.install("end", &[("f.py", source), ("ol.yaml", limits)]);
        worker.install("victim", &[("f.py", "def f(event):\n    return event\n")]);
        for (code, status, named) in [
            ("os._exit(3)", 502, "3"),
            ("os.kill(os.getpid(), signal.SIGSEGV)", 502, "signal 11"),
            ("os.close(3)", 502, ""),
            ("os.write(3, bytes(range(200)))", 502, ""),
            ("os.write(3, bytes([255] * 12))", 502, ""),
            ("os.write(3, bytes([0,0,0,0, 19,1,0,0, 77,0,0,0]))", 502, ""),
            ("os.kill(os.getpid(), signal.SIGSTOP)", 504, "2 s"),
            ("signal.pause()", 504, "2 s"),
            ("sys.exit(3)", 500, "SystemExit"),
        ] {
            let reply = worker.call("end", &json!(code));
            let text = reply.text();
            assert!(
                reply.status == status && text.contains(named),
                "{code}: {reply:?} {text}"
            );
            assert_eq!(
                worker.call("end", &json!("pass")).ok(),
                json!("back"),
                "after {code}"
            );
            assert_eq!(
                worker.call("victim", &json!(1)).ok(),
                json!(1),
                "after {code}"
            );
        }
        eventually("dead sandboxes to go", 5.0, || {
            (worker.leaves().len() == 2).then_some(())
        });
    });
}

/// Many deaths leave no more cgroups, namespaces, descriptors and threads behind than there were after the first.
#[test]
fn many_deaths_leave_no_trace() {
    // No blanks, because their number depends on how often sandboxes were started.
    with_worker(&["shells_ready=2", "blanks.max=0"], |worker| {
        worker.install(
            "end",
            &[(
                "f.py",
                "import os\ndef f(event):\n    if event:\n        os._exit(1)\n    return 0\n",
            )],
        );
        let counts = || {
            assert_eq!(worker.call("end", &json!(0)).ok(), json!(0));
            // Two shells are ready, and one is in use.
            let wanted = Starts::of_this_run().namespaces(2) + 1;
            eventually("one more sandbox than are ready", 5.0, || {
                let census = worker.place.census();
                let settled = census.network_namespaces.len() == wanted;
                settled.then(|| {
                    let descriptors = |process: Process| process.descriptors().len();
                    [
                        census.cgroups.len(),
                        descendants(worker.warden.pid).len(),
                        descriptors(worker.process),
                        descriptors(worker.warden),
                    ]
                })
            })
        };
        // The first death opens the function's log, which stays open.
        assert_eq!(worker.call("end", &json!(1)).status, 502);
        let first = counts();
        for _ in 0..60 {
            assert_eq!(worker.call("end", &json!(1)).status, 502);
        }
        // Sandboxes that are being made or ended may change the counts by a few at any moment; a leak would be one for each death.
        let mut now = first;
        let as_before = within(5.0, || {
            now = counts();
            let near = |(now, first): (&usize, &usize)| now.abs_diff(*first) < 6;
            now.iter().zip(&first).all(near).then_some(())
        });
        assert!(
            as_before.is_some(),
            "groups, processes, descriptors of worker and warden: {first:?} at first, {now:?} now"
        );
    });
}

#[test]
fn a_worker_that_is_killed() {
    in_place(|place| {
        let mut worker = place.up(&[]);
        worker.install("sleeper", &[("f.py", SLEEPER)]);
        let (mut connection, leaf) = begin_a_call(&worker);
        let children = descendants(worker.warden.pid);
        worker.process.signal(Signal::KILL);
        let (status, _) = worker.wait();
        assert_eq!(status.code(), Some(1), "{status}");
        assert!(connection.reply().is_err());
        let log = place.log_text();
        let reason = log
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("error: "));
        let reason = reason.unwrap_or_else(|| panic!("no reason: {log}"));
        assert!(
            reason.contains("signal 9") && reason.contains("ol worker up"),
            "{reason}"
        );
        assert!(!leaf.lives() && children.iter().all(|child| !child.lives()));
        place.assert_nothing_left();

        let worker = place.up(&[]);
        assert_eq!(worker.call("sleeper", &json!(0)).ok(), json!(0));
        worker.down();
    });
}

/// When the warden is killed, nothing is left that could clean up: the kernel ends every process, and the next start removes the rest.
#[test]
fn a_warden_that_is_killed() {
    in_place(|place| {
        let mut worker = place.up(&[]);
        worker.install("sleeper", &[("f.py", SLEEPER)]);
        let (mut connection, _) = begin_a_call(&worker);
        let children = descendants(worker.warden.pid);
        assert!(children.len() > 3);
        worker.warden.signal(Signal::KILL);
        let (status, _) = worker.wait();
        assert!(!status.success());
        eventually("its children to end", 10.0, || {
            children.iter().all(|child| !child.lives()).then_some(())
        });
        assert!(connection.reply().map_or(true, |reply| reply.status >= 500));
        let log = place.log_text();
        assert!(log.contains("the warden is gone"), "{log}");
        let census = place.census();
        assert_eq!(
            (census.processes.len(), census.mounts.len()),
            (0, 0),
            "{census:?}"
        );
        assert!(
            !census.cgroups.is_empty(),
            "somebody removed the groups: this test has lost its subject"
        );

        let worker = place.up(&[]);
        assert_eq!(worker.call("sleeper", &json!(0)).ok(), json!(0));
        worker.down();
    });
}

/// Callers that wait for a sandbox at the moment the warden dies are all answered by 503 with Retry-After.
///
/// A call that had begun is answered by 502, since nobody knows how far it came.
#[test]
fn calls_in_the_instant_in_which_the_warden_dies() {
    in_place(|place| {
        // Few sandboxes at a time, so that many callers wait when the warden dies.
        let mut worker = place.up(&["shells_ready=1", "blanks.max=0"]);
        for number in 0..8 {
            worker.install_untried(&format!("cold{number}"), &[("f.py", SLEEPER)]);
        }
        let mut callers: Vec<Client> = (0..8).map(|_| worker.connect()).collect();
        // All requests are sent before the worker, which is stopped, reads any.
        worker.process.signal(Signal::STOP);
        for (number, caller) in callers.iter_mut().enumerate() {
            let path = format!("/run/cold{number}");
            caller.send_part("POST", &path, 1, b"0").expect("sent");
        }
        worker.warden.signal(Signal::KILL);
        eventually("the warden to end", 5.0, || {
            (!worker.warden.lives()).then_some(())
        });
        worker.process.signal(Signal::CONT);
        for caller in &mut callers {
            let reply = caller.reply().expect("an answer");
            assert_eq!(reply.status, 503, "{reply:?} {}", reply.text());
            assert_eq!(reply.header("retry-after"), Some("1"), "{reply:?}");
            assert!(["ending", "draining"].contains(&reply.header("x-ol-error").unwrap_or("")));
        }
        let (status, _) = worker.wait();
        assert!(!status.success());
        drop(worker);
        let _ = place.ol(&["worker", "force-cleanup"]);
        place.assert_nothing_left();
    });
}

/// If the worker isn't started again after its warden was killed, `force-cleanup` does what a start would have done.
#[test]
fn force_cleanup_after_a_killed_warden() {
    in_place(|place| {
        let mut worker = place.up(&[]);
        worker.install("sleeper", &[("f.py", SLEEPER)]);
        let _ = begin_a_call(&worker);
        worker.warden.signal(Signal::KILL);
        let _ = worker.wait();
        drop(worker);
        eventually("its processes to end", 10.0, || {
            place.census().processes.is_empty().then_some(())
        });
        let said = place.ol(&["--output", "json", "worker", "force-cleanup"]);
        let said: Value = serde_json::from_str(said.ok()).expect("JSON");
        assert!(
            said["cgroups"].as_u64().is_some_and(|count| count > 0),
            "{said}"
        );
        place.assert_nothing_left();
    });
}

/// A client that leaves gives up its call; the sandbox serves others when the function is done.
#[test]
fn a_client_that_leaves() {
    let source = "
import subprocess
n = 0

def f(event):
    global n
    n += 1
    if event:
        subprocess.run(['sleep', '600'])
    return n
";
    with_worker(&[], |worker| {
        let yaml = "instances: {max: 1}\n";
        worker.install("count", &[("f.py", source), ("ol.yaml", yaml)]);
        for _ in 0..3 {
            let mut connection = worker.connect();
            connection
                .send_part("POST", "/run/count", 1, b"1")
                .expect("sent");
            let sleep = worker.program("sleep");
            drop(connection);
            sleep.signal(Signal::KILL);
            eventually("the call to end", 10.0, || {
                (worker.leaves().len() == 1).then_some(())
            });
        }
        assert_eq!(worker.call("count", &json!(0)).ok(), json!(4));
    });
}
