//! The slice: one path through every part of the worker, and each limit.
//!
//! It must also pass on a slow machine that has cgroup v2 only. Every test's name begins with `slice`, because the run on that machine
//! chooses its tests by that.

use ol_testkit::{eventually, in_place, patience, slowness, with_worker};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Instant;

const ECHO: &str = "def f(event):\n    return event\n";

#[test]
fn slice_from_an_empty_path_to_an_answer_and_back() {
    in_place(|place| {
        let worker = place.up(&[]);
        let status = place.ol(&["worker", "status"]);
        assert!(
            status
                .ok()
                .starts_with(&format!("ready at http://{}", worker.address)),
            "{status:?}"
        );
        assert_eq!(worker.request("GET", "/status", b"").text(), "ready\n");

        let source = place.source("echo", &[("f.py", ECHO)]);
        let installed = place.ol(&["admin", "install", source.to_str().expect("text")]);
        assert!(installed.ok().contains("echo"), "{installed:?}");
        assert_eq!(place.ol(&["ls"]).ok().trim(), "echo");
        let event = json!({"text": "žluťoučký", "list": [1, 2.5, null]});
        let invoked = place.ol(&["invoke", "echo", "-d", &event.to_string()]);
        assert_eq!(
            serde_json::from_str::<Value>(invoked.ok()).expect("JSON"),
            event
        );
        assert_eq!(worker.call("echo", &event).ok(), event);
        assert_eq!(worker.request("GET", "/run/echo", b"").ok(), json!({}));

        worker.down();
        assert!(place.dir().join("worker/stats.json").exists());
        assert!(place.dir().join("registry/echo.tar.gz").exists());
        assert!(
            place
                .ol(&["worker", "status"])
                .refusal()
                .contains("ol worker up")
        );
    });
}

/// Uses memory page by page, so that the kernel's limit is what stops it.
const EATER: &str = "
def f(event):
    kept = []
    for _ in range(event['mb']):
        kept.append(bytearray(1 << 20))
    return len(kept)
";

#[test]
fn slice_memory_is_limited() {
    with_worker(&[], |worker| {
        worker.install(
            "eater",
            &[("f.py", EATER), ("ol.yaml", "limits: {mem_mb: 64}\n")],
        );
        assert_eq!(worker.call("eater", &json!({"mb": 20})).ok(), json!(20));
        let text = worker.call("eater", &json!({"mb": 200})).error(502, "died");
        assert!(
            text.contains("memory") && text.contains("mem_mb") && text.contains("64"),
            "{text}"
        );
        assert_eq!(worker.call("eater", &json!({"mb": 20})).ok(), json!(20));
    });
}

/// Starts as many children as possible, which wait to be told to end; the answer is how many there were.
const BOMB: &str = "
import os

def f(event):
    pids = []
    try:
        while len(pids) < 500:
            pid = os.fork()
            if pid == 0:
                os.read(R, 1)
                os._exit(0)
            pids.append(pid)
    except OSError as error:
        refused = error.errno
    else:
        refused = None
    if event.get('stay'):
        return [len(pids), refused]
    os.close(W)
    for pid in pids:
        os.waitpid(pid, 0)
    return [len(pids), refused]

R, W = os.pipe()
os.register_at_fork(after_in_child=lambda: os.close(W))
";

#[test]
fn slice_processes_are_limited() {
    with_worker(&[], |worker| {
        worker.install(
            "bomb",
            &[
                ("f.py", BOMB),
                ("ol.yaml", "limits: {procs: 12, mem_mb: 128}\n"),
            ],
        );
        worker.install("victim", &[("f.py", ECHO)]);
        let eagain = 11;
        assert_eq!(
            worker.call("bomb", &json!({"stay": true})).ok(),
            json!([11, eagain])
        );
        // The bomb has all the processes it may, and is frozen with them; other functions aren't affected.
        assert_eq!(worker.call("victim", &json!(1)).ok(), json!(1));
        let mut population: Vec<usize> = Vec::new();
        let leaves = worker.leaves();
        for (_, group) in &leaves {
            population.push(leaves.iter().filter(|(_, other)| other == group).count());
        }
        population.sort_unstable();
        population.dedup();
        assert_eq!(population, [1, 12]);
    });
}

#[test]
fn slice_a_fork_bomb_that_never_stops_hurts_nobody() {
    let bomb = "import os\ndef f(event):\n    while True:\n        try:\n            os.fork()\n        except OSError:\n            pass\n";
    with_worker(&[], |worker| {
        let seconds = 2 * slowness().min(5);
        let limits = format!("limits: {{procs: 20, runtime_sec: {seconds}}}\n");
        worker.install("bomb", &[("f.py", bomb), ("ol.yaml", &limits)]);
        worker.install("victim", &[("f.py", ECHO)]);
        assert_eq!(worker.call("victim", &json!(0)).ok(), json!(0));
        let mut connection = worker.connect();
        connection
            .send_part("POST", "/run/bomb", 0, b"")
            .expect("sent");
        eventually("the bomb to go off", 10.0, || {
            (worker.leaves().len() >= 15).then_some(())
        });
        for number in 0..5 {
            assert_eq!(worker.call("victim", &json!(number)).ok(), json!(number));
            assert!(worker.leaves().len() <= 20 + 1);
        }
        let text = connection
            .reply()
            .expect("an answer")
            .error(504, "time-limit");
        assert!(text.contains(&format!("{seconds} s")), "{text}");
        eventually("the bomb to be gone", 5.0, || {
            (worker.leaves().len() == 1).then_some(())
        });
    });
}

#[test]
fn slice_time_is_limited() {
    let sleeper = "import time\ndef f(event):\n    time.sleep(event)\n    return event\n";
    with_worker(&[], |worker| {
        worker.install(
            "sleeper",
            &[("f.py", sleeper), ("ol.yaml", "limits: {runtime_sec: 1}\n")],
        );
        let begun = Instant::now();
        let text = worker.call("sleeper", &json!(600)).error(504, "time-limit");
        assert!(text.contains("1 s"), "{text}");
        assert!(begun.elapsed() < patience(4.0), "{:?}", begun.elapsed());
        assert_eq!(worker.call("sleeper", &json!(0)).ok(), json!(0));
    });
}

/// Returns which share of a second it got the processor: a proportion, so that it holds on a slow machine too.
const BURNER: &str = "
import time

def f(event):
    start, used = time.monotonic(), time.process_time()
    while time.monotonic() - start < 1:
        pass
    return (time.process_time() - used) / (time.monotonic() - start)
";

#[test]
fn slice_processor_time_is_limited() {
    with_worker(&[], |worker| {
        worker.install(
            "burner",
            &[("f.py", BURNER), ("ol.yaml", "limits: {cpu_percent: 20}\n")],
        );
        let share = worker
            .call("burner", &json!({}))
            .ok()
            .as_f64()
            .expect("a number");
        // The start's processor time counts too, and the quota of the present period may be used up already.
        assert!((0.05..0.35).contains(&share), "{share}");
    });
}

/// A thread that never rests, and a count that shows whether it got anywhere.
const RESTLESS: &str = "
import threading

count = 0

def spin():
    global count
    while True:
        count += 1

threading.Thread(target=spin, daemon=True).start()

def f(event):
    return count
";

#[test]
fn slice_an_idle_sandbox_is_frozen() {
    with_worker(&[], |worker| {
        worker.install("restless", &[("f.py", RESTLESS)]);
        let before = worker
            .call("restless", &json!({}))
            .ok()
            .as_u64()
            .expect("a count");
        let (leaf, group) = worker.leaf();
        eventually("the sandbox to be frozen", 1.0, || {
            is_frozen(&group).then_some(())
        });
        let ticks = leaf.ticks().expect("it lives");
        // Another function runs for so long that the restless thread, if it ran, would use many ticks.
        worker.install("other", &[("f.py", BURNER)]);
        let _ = worker.call("other", &json!({})).ok();
        assert_eq!(leaf.ticks(), Some(ticks));
        assert!(is_frozen(&group));

        let after = worker
            .call("restless", &json!({}))
            .ok()
            .as_u64()
            .expect("a count");
        assert!(leaf.lives() && after > before, "{before} {after}");
    });
}

fn is_frozen(group: &Path) -> bool {
    let read = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    read("cgroup.events").lines().any(|line| line == "frozen 1")
        || read("freezer.state").trim() == "FROZEN"
}

#[test]
fn slice_a_stop_leaves_nothing_of_many_sandboxes() {
    with_worker(&[], |worker| {
        for name in ["a", "b", "c"] {
            worker.install(name, &[("f.py", RESTLESS)]);
            let _ = worker.call(name, &json!({})).ok();
        }
        let census = worker.place.census();
        assert!(
            census.processes.len() > 3 && census.network_namespaces.len() >= 3,
            "{census:?}"
        );
        // One of the leaves is dead when the worker is stopped.
        let (leaf, _) = worker.leaves().remove(0);
        leaf.signal(Signal::KILL);
    });
}

#[test]
fn slice_memory_that_is_out_ends_the_process_or_the_sandbox() {
    with_worker(&[], |worker| {
        let source = r#"
import os, signal
def f(event):
    child = os.fork()
    if child == 0:
        hoard = [bytearray(1 << 20) for _ in range(300)]
        os._exit(len(hoard))
    return os.WTERMSIG(os.waitpid(child, 0)[1])
"#;
        worker.install("child", &[("f.py", source)]);
        assert_eq!(
            worker.call("child", &json!({})).ok(),
            json!(9),
            "it alone is killed"
        );
        worker.install("all", &[("f.py", source), ("ol.yaml", "oom: sandbox\n")]);
        let text = worker.call("all", &json!({})).error(502, "died");
        assert!(text.contains("ran out of memory"), "{text}");
        let text = worker.call("all", &json!({})).error(502, "died");
        assert!(text.contains("ran out of memory"), "again: {text}");
    });
}
