//! Idle functions give back memory that they don't use, and get it again before they are called.

use ol_testkit::{Client, Worker, eventually, with_worker};
use serde_json::json;

/// Takes more memory than a paused sandbox keeps.
const HUNGRY: &str = "def f(event):\n    return len(bytearray(30 << 20)) >> 20\n";

const BUSY: &str = "import subprocess\n\ndef f(event):\n    subprocess.run(['sleep', '600'])\n";

/// How many sandboxes are paused with less memory than their limit of 50 MiB.
fn lowered(worker: &Worker<'_>) -> usize {
    let text = worker.debug();
    let sizes = text.lines().filter_map(|line| {
        line.split_once(": paused, ")?
            .1
            .split(' ')
            .next()?
            .parse()
            .ok()
    });
    sizes.filter(|mib: &u32| *mib < 50).count()
}

#[test]
fn more_functions_stay_warm_than_the_pool_has_limits_for() {
    let options = ["mem_pool_mb=500", "features.import_cache="];
    with_worker(&options, |worker| {
        // Five functions at a time, because each needs its whole limit while it runs.
        for batch in 0..3 {
            for number in 0..5 {
                let name = format!("f{batch}-{number}");
                worker.install(&name, &[("f.py", HUNGRY)]);
                assert_eq!(worker.call(&name, &json!(1)).ok(), json!(30));
            }
            eventually("memory to come back", 20.0, || {
                (lowered(worker) == 5 * (batch + 1)).then_some(())
            });
        }
        for batch in 0..3 {
            assert_eq!(
                worker.call(&format!("f{batch}-0"), &json!(1)).ok(),
                json!(30)
            );
        }
        assert_eq!(worker.count("create"), 15, "each was started once");
    });
}

fn begin(worker: &Worker<'_>, name: &str) -> Client {
    let mut connection = worker.connect();
    let sent = connection.send_part("POST", &format!("/run/{name}"), 1, b"1");
    sent.expect("sent");
    connection
}

#[test]
fn a_call_that_waits_for_memory_is_told_so_in_time() {
    let options = [
        "mem_pool_mb=150",
        "features.import_cache=",
        "queue_wait_sec=1",
        "drain_sec=1",
    ];
    with_worker(&options, |worker| {
        worker.install("first", &[("f.py", HUNGRY)]);
        assert_eq!(worker.call("first", &json!(1)).ok(), json!(30));
        eventually("memory to come back", 20.0, || {
            (lowered(worker) == 1).then_some(())
        });
        let mut calls = Vec::new();
        for (name, mib) in [("a", 50), ("b", 60)] {
            let limits = format!("limits: {{mem_mb: {mib}}}\n");
            worker.install(name, &[("f.py", BUSY), ("ol.yaml", &limits)]);
            calls.push(begin(worker, name));
        }
        eventually("both to run", 20.0, || {
            let leaves = worker.leaves().into_iter();
            let sleeping = leaves.filter(|(p, _)| p.status("Name").as_deref() == Some("sleep"));
            (sleeping.count() == 2).then_some(())
        });
        let told = worker.call("first", &json!(1)).error(429, "no-memory");
        assert!(told.contains("150 MiB"), "{told}");
        assert_eq!(lowered(worker), 1, "it stays as it was");
        worker
            .program("sleep")
            .signal(rustix::process::Signal::KILL);
        eventually("one to end", 20.0, || {
            let reply = worker.call("first", &json!(1));
            (reply.status == 200).then_some(())
        });
    });
}
