//! Many calls: every one is answered with its own answer, and nothing is kept of functions that don't exist.

use ol_testkit::{Reply, Starts, Worker, eventually, patience, slowness, with_worker};
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

const ECHO: &str = "def f(event):\n    return event\n";

#[test]
fn four_thousand_calls_from_sixteen_clients() {
    const CLIENTS: usize = 16;
    let each = 250 / usize::try_from(slowness()).expect("small");
    with_worker(&[], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        let together = Barrier::new(CLIENTS);
        let answered: usize = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let together = &together;
                    scope.spawn(move || {
                        let mut connection = worker.connect();
                        together.wait();
                        for number in 0..each {
                            let event = json!({"client": client, "number": number, "pad": "x".repeat(number)});
                            let body = event.to_string();
                            let reply = connection.request("POST", "/run/echo", &[], body.as_bytes());
                            assert_eq!(reply.expect("an answer").ok(), event);
                        }
                        each
                    })
                })
                .collect();
            clients
                .into_iter()
                .map(|client| client.join().expect("its asserts hold"))
                .sum()
        });
        assert_eq!(answered, CLIENTS * each);
        assert_eq!(usize::try_from(worker.count("invoke")), Ok(answered));
    });
}

/// Simultaneous calls of one function are each served by a sandbox of their own.
#[test]
fn calls_at_once_have_a_sandbox_each() {
    let source = "
import threading, time

inside = threading.Lock()

def f(event):
    assert inside.acquire(blocking=False), 'two calls at once in one sandbox'
    try:
        with open('/tmp/only-mine', 'x'):
            pass
    finally:
        inside.release()
    while not event.get('release') and time.monotonic() < event['until']:
        time.sleep(0.01)
    import os
    os.remove('/tmp/only-mine')
    return event['number']
";
    with_worker(&[], |worker| {
        worker.install("alone", &[("f.py", source)]);
        thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|number| {
                    scope.spawn(move || {
                        let event = json!({"number": number, "until": 1e12});
                        let mut connection = worker.connect();
                        let body = event.to_string();
                        connection
                            .send_part("POST", "/run/alone", body.len(), body.as_bytes())
                            .expect("sent");
                        connection
                    })
                })
                .collect();
            let connections: Vec<_> = clients
                .into_iter()
                .map(|client| client.join().expect("sent"))
                .collect();
            eventually("eight sandboxes", 10.0, || {
                (worker.leaves().len() == 8).then_some(())
            });
            let groups: BTreeSet<PathBuf> = worker
                .leaves()
                .into_iter()
                .map(|(_, group)| group)
                .collect();
            assert_eq!(groups.len(), 8);
            drop(connections);
        });
        // The callers of the eight calls have left; a ninth call is served at once all the same.
        assert_eq!(
            worker
                .call("alone", &json!({"number": 9, "release": true}))
                .ok(),
            json!(9)
        );
    });
}

/// With one instance, calls wait in a queue for it; when the queue is full, further calls are refused.
#[test]
fn calls_wait_in_line_and_the_line_has_an_end() {
    let source = "
import subprocess

def f(event):
    if event == 'hold':
        subprocess.run(['sleep', '600'])
    return event
";
    with_worker(&["queue_per_function=3"], |worker| {
        worker.install(
            "one",
            &[("f.py", source), ("ol.yaml", "instances: {max: 1}\n")],
        );
        let mut first = worker.connect();
        first
            .send_part("POST", "/run/one", 6, b"\"hold\"")
            .expect("sent");
        let sleep = worker.program("sleep");
        let mut waiting: Vec<_> = (1..=3)
            .map(|position| {
                let mut connection = worker.connect();
                connection
                    .send_part("POST", "/run/one", 1, position.to_string().as_bytes())
                    .expect("sent");
                eventually("the call to wait", 5.0, || {
                    let debug = worker.request("GET", "/debug", b"").text();
                    debug
                        .contains(&format!("{position} calls waiting"))
                        .then_some(())
                });
                connection
            })
            .collect();
        let refused = worker.call("one", &json!(4));
        let _ = refused.error(429, "queue-full");
        assert_eq!(refused.header("retry-after"), Some("1"));
        sleep.signal(Signal::KILL);
        assert_eq!(first.reply().expect("an answer").ok(), json!("hold"));
        for (position, connection) in (1..).zip(&mut waiting) {
            assert_eq!(connection.reply().expect("an answer").ok(), json!(position));
        }
        assert_eq!(worker.leaves().len(), 1);
    });
}

/// Where the worker would show that it keeps something of an unknown function.
fn traces(worker: &Worker<'_>) -> (String, Vec<PathBuf>, usize) {
    let debug = worker.request("GET", "/debug", b"").text();
    let cgroups = worker.place.census().cgroups.len();
    (debug, files(&worker.place.dir()), cgroups)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in ol_testkit::place::listing(folder) {
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.push(path);
    }
    found
}

fn ask_for_unknown(worker: &Worker<'_>, names: std::ops::Range<u32>) {
    let mut connection = worker.connect();
    for number in names {
        let path = format!("/run/unknown-{number}-{}", "x".repeat(100));
        let reply = connection
            .request("POST", &path, &[], b"{}")
            .expect("an answer");
        let _ = reply.error(404, "unknown-function");
    }
}

#[test]
fn unknown_functions_cost_nothing() {
    with_worker(&["shells_ready=2"], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
        eventually("two shells to be ready again", 10.0, || {
            let wanted = Starts::of_this_run().namespaces(2) + 1;
            (worker.place.census().network_namespaces.len() == wanted).then_some(())
        });
        // Warms up first: what starts at the first such request, such as a thread for files, isn't kept per name.
        ask_for_unknown(worker, 0..200);
        // Waits until the paused sandbox has given back memory, which isn't an effect of these requests either.
        eventually("the memory of what is paused to be lowered", 10.0, || {
            (!worker.debug().contains(" 50 MiB")).then_some(())
        });
        let before = traces(worker);
        let counts = ["Threads", "VmRSS"].map(|key| worker.process.number(key));
        let descriptors = worker.process.descriptors().len();

        ask_for_unknown(worker, 1000..3000);
        assert_eq!(traces(worker), before);
        let [threads, memory] = ["Threads", "VmRSS"].map(|key| worker.process.number(key));
        // Threads for files come and go with the load, but there must not be one more per hundred names.
        assert!(
            threads < counts[0] + 20,
            "{} threads, then {threads}",
            counts[0]
        );
        assert!(
            memory < counts[1] + 2048,
            "{} KiB, then {memory}",
            counts[1]
        );
        // The descriptors of the test's own connections are closed a moment later.
        eventually("descriptors to be closed", 10.0, || {
            (worker.process.descriptors().len() <= descriptors).then_some(())
        });
    });
}

#[test]
fn a_burst_of_one_function_leaves_room_for_another() {
    with_worker(&["mem_pool_mb=200"], |worker| {
        let slow = "import time\ndef f(event):\n    time.sleep(0.05)\n";
        worker.install("burst", &[("f.py", slow)]);
        worker.install("other", &[("f.py", "def f(event):\n    return event\n")]);
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| assert_eq!(worker.call("burst", &json!({})).status, 200));
            }
        });
        let begun = std::time::Instant::now();
        assert_eq!(worker.call("other", &json!(7)).ok(), json!(7));
        assert!(begun.elapsed() < patience(2.0), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_functions_log_has_what_it_printed_and_why_it_failed() {
    with_worker(&[], |worker| {
        let source =
            "def f(event):\n    print('no newline', end='', flush=True)\n    return 1 / event\n";
        worker.install("talks", &[("f.py", source)]);
        let good = worker.call("talks", &json!(1));
        let bad = worker.call("talks", &json!(0));
        assert_eq!((good.status, bad.status), (200, 500));
        let number = |reply: &Reply| {
            let id = reply
                .header("x-ol-invocation")
                .expect("every answer has it");
            id.to_owned()
        };
        let (good, bad) = (number(&good), number(&bad));
        assert_ne!(good, bad);
        let log = worker.place.dir().join("worker/logs/talks.log");
        eventually("both in the log, each under its invocation", 10.0, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            [
                format!(" {good}] no newline"),
                format!(" {bad}] no newline"),
                format!("[worker {bad}] ZeroDivisionError"),
            ]
            .iter()
            .all(|line| text.contains(line))
            .then_some(())
        });
    });
}
