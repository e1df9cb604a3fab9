//! Starts by forking: which process is a leaf's parent, what a blank is, and what becomes of calls when a zygote dies, hangs or is stopped.

use ol_testkit::http::Reply;
use ol_testkit::process::Process;
use ol_testkit::{Over, Starts, Worker, eventually, in_place, measured};
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const PIDS: &str =
    "import os\ndef f(event):\n    return [os.getpid(), os.getppid(), os.uname().nodename]\n";
const ONCE: &str = "reuse-sandbox: false\n";

fn forking(options: &[&str], test: impl FnOnce(&Worker<'_>)) {
    in_place(|place| {
        let worker = place.up_with(Starts::Fork, options);
        test(&worker);
        worker.down();
    });
}

/// The zygote that serves now, if there is one.
fn zygote(worker: &Worker<'_>) -> Option<Process> {
    let debug = worker.debug();
    let line = debug
        .lines()
        .find(|line| line.contains("zygote in sandbox"))?;
    Process::of(line.rsplit(' ').next()?.parse().ok()?)
}

fn timed(worker: &Worker<'_>, name: &str) -> Reply {
    let path = format!("/run/{name}");
    worker
        .connect()
        .request("POST", &path, &[("X-OL-Timing", "1")], b"{}")
        .expect("an answer")
}

fn kind(reply: &Reply) -> String {
    let timing = reply.header("x-ol-timing").unwrap_or_default();
    let kind = timing
        .split(';')
        .find_map(|part| part.strip_prefix("kind="));
    kind.unwrap_or_default().to_owned()
}

#[test]
fn a_start_is_a_fork_and_its_leaf_the_wardens_child() {
    forking(&[], |worker| {
        worker.install_untried("pids", &[("f.py", PIDS)]);
        let reply = timed(worker, "pids");
        assert_eq!(kind(&reply), "fork");
        // As in a sandbox that wasn't forked: the leaf is pid 2, and its parent isn't visible (0).
        assert_eq!(reply.ok(), json!([2, 0, "sandbox"]));
        let (leaf, _) = worker.leaf();
        assert_eq!(leaf.parent(), Some(worker.warden.pid));
        let zygote = zygote(worker).expect("a zygote");
        let inside = |process: Process| {
            let numbers = process.status("NSpid").expect("it lives");
            numbers
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        // The pid on the host, that in the zygote's namespace, and that in the leaf's own.
        let (leaf, zygote) = (inside(leaf), inside(zygote));
        assert_eq!((leaf.len(), leaf[2].as_str()), (3, "2"));
        assert_eq!((zygote.len(), zygote[1].as_str()), (2, "1000"));
    });
}

#[test]
fn a_zygote_has_no_privilege() {
    forking(&[], |worker| {
        let zygote = zygote(worker).expect("a zygote");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(
                zygote.status(set).as_deref(),
                Some("0000000000000000"),
                "{set}"
            );
        }
        let facts = ["NoNewPrivs", "Seccomp", "Threads"].map(|key| zygote.status(key));
        assert_eq!(facts, ["1", "2", "1"].map(|text| Some(text.to_owned())));
        let uid: u64 = zygote.number("Uid");
        assert!(uid >= 1 << 16, "{uid} may be a user of this host");
        for kind in ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"] {
            let of = |process: Process| process.link(&format!("ns/{kind}"));
            assert_ne!(of(zygote), of(worker.process), "{kind}");
        }
    });
}

#[test]
fn a_blank_is_bound_once_and_another_comes() {
    in_place(|place| {
        let worker = place.up_with(Starts::Blank, &[]);
        let mut served = BTreeSet::new();
        for number in 0..6 {
            let name = format!("pids{number}");
            worker.install_untried(&name, &[("f.py", PIDS)]);
            eventually("a blank", 10.0, || {
                worker.debug().contains("blank in sandbox").then_some(())
            });
            let reply = timed(&worker, &name);
            assert_eq!(kind(&reply), "blank", "{name}");
            assert_eq!(reply.ok(), json!([2, 0, "sandbox"]));
        }
        for (leaf, group) in worker.leaves() {
            assert_eq!(leaf.parent(), Some(worker.warden.pid));
            assert!(served.insert(group), "two functions share a sandbox");
        }
        assert_eq!(served.len(), 6);
        worker.down();
    });
}

#[test]
fn a_blank_has_the_limits_of_its_function() {
    in_place(|place| {
        let worker = place.up_with(Starts::Blank, &[]);
        let source = "def f(event):\n    return len(bytearray(event << 20))\n";
        let yaml = "limits: {mem_mb: 120, scratch_mb: 8}\n";
        worker.install_untried("large", &[("f.py", source), ("ol.yaml", yaml)]);
        let reply = timed(&worker, "large");
        assert_eq!(kind(&reply), "blank");
        assert_eq!(worker.call("large", &json!(90)).ok(), json!(90 << 20));
        let reply = worker.call("large", &json!(130));
        assert_eq!(reply.status, 502, "{}", reply.text());
        assert!(
            reply.text().contains("limits.mem_mb is 120"),
            "{}",
            reply.text()
        );
        worker.down();
    });
}

/// Clients call functions that are started anew for every call, while `harm` is done to the zygote again and again.
///
/// This lasts for the given seconds, and on a slow machine until there were more than `calls` calls.
fn under_load(
    worker: &Worker<'_>,
    seconds: f64,
    enough: u64,
    mut harm: impl FnMut(&Worker<'_>),
) -> u64 {
    for number in 0..4 {
        worker.install_untried(
            &format!("once{number}"),
            &[("f.py", PIDS), ("ol.yaml", ONCE)],
        );
    }
    let (over, calls) = (Over::default(), AtomicU64::new(0));
    thread::scope(|scope| {
        let until = over.when_dropped();
        for number in 0..4 {
            let (over, calls) = (&over, &calls);
            scope.spawn(move || {
                while !over.is() {
                    let reply = worker.call(&format!("once{number}"), &json!({}));
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs_f64(seconds)
            || (calls.load(Ordering::Relaxed) <= enough
                && begun.elapsed() < Duration::from_secs_f64(12.0 * seconds))
        {
            harm(worker);
        }
        drop(until);
    });
    calls.into_inner()
}

#[test]
fn zygotes_killed_at_any_moment_fail_no_call() {
    forking(&[], |worker| {
        let mut killed = 0_u32;
        let calls = under_load(worker, 5.0, 20, |worker| {
            if let Some(zygote) = zygote(worker) {
                zygote.signal(Signal::KILL);
                killed += 1;
            }
            // Each time at another moment of the calls that are going on.
            thread::sleep(Duration::from_millis(u64::from(7 + killed * 13 % 50)));
        });
        measured(&format!(
            "{calls} calls, {killed} zygotes killed, no call failed"
        ));
        assert!(killed >= 5 && calls > 20, "{killed} {calls}");
        eventually("a zygote again, and starts from it", 40.0, || {
            (kind(&timed(worker, "once0")) == "fork").then_some(())
        });
    });
}

#[test]
fn a_zygote_that_hangs_is_replaced_and_calls_go_on() {
    forking(&[], |worker| {
        worker.install_untried("once", &[("f.py", PIDS), ("ol.yaml", ONCE)]);
        let stopped = zygote(worker).expect("a zygote");
        stopped.signal(Signal::STOP);
        // Each call waits in vain for its fork, then its sandbox is started in another way.
        for _ in 0..3 {
            let reply = timed(worker, "once");
            assert_eq!(kind(&reply), "fresh");
            assert_eq!(reply.status, 200);
        }
        eventually("the hanging zygote to go", 10.0, || {
            (!stopped.lives()).then_some(())
        });
        eventually("starts from another", 10.0, || {
            (kind(&timed(worker, "once")) == "fork").then_some(())
        });
    });
}

/// Forked leaves live on when their zygote is gone; the zygote's memory is given back when the last leaf is gone.
#[test]
fn leaves_outlive_their_zygote() {
    forking(&[], |worker| {
        worker.install_untried("pids", &[("f.py", PIDS)]);
        assert_eq!(worker.call("pids", &json!({})).status, 200);
        let (leaf, _) = worker.leaf();
        let first = zygote(worker).expect("a zygote");
        first.signal(Signal::KILL);
        eventually("another zygote", 10.0, || {
            zygote(worker).filter(|other| *other != first)
        });
        assert_eq!(worker.call("pids", &json!({})).status, 200);
        assert_eq!(worker.leaf().0, leaf);
        let with_both = worker.place.census().network_namespaces.len();
        let _ = worker.request("DELETE", "/registry/pids", b"");
        eventually(
            "the leaf's and the dead zygote's namespaces to go",
            10.0,
            || (worker.place.census().network_namespaces.len() + 2 == with_both).then_some(()),
        );
    });
}

#[test]
fn without_a_zygote_everything_starts_afresh() {
    in_place(|place| {
        let worker = place.up_with(Starts::Fresh, &[]);
        worker.install_untried("pids", &[("f.py", PIDS)]);
        let reply = timed(&worker, "pids");
        assert_eq!(kind(&reply), "fresh");
        assert_eq!(reply.ok(), json!([2, 0, "sandbox"]));
        assert_eq!(zygote(&worker), None);
        worker.down();
    });
}
