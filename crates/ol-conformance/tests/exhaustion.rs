//! What one function must not use up beyond its memory limit.
//!
//! These are socket buffers, root's own quotas, an instance whose answer nobody reads, and a log. Each of them could be used up once.

use ol_testkit::{eventually, patience, with_worker};
use serde_json::json;
use std::time::{Duration, Instant};

/// Fills the buffers of as many loopback connections as it may, and returns how many MiB they took.
const SOCKETS: &str = "
import socket

def f(event):
    kept, total = [], 0
    server = socket.socket()
    server.bind(('127.0.0.1', 0))
    server.listen(100)
    for _ in range(400):
        try:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            client.connect(server.getsockname())
            client.setblocking(False)
            kept += [client, server.accept()[0]]
            while total < event['enough'] << 20:
                total += client.send(b'x' * 262144)
        except OSError:
            pass
    return total >> 20
";

#[test]
fn socket_buffers_count_as_memory() {
    with_worker(&[], |worker| {
        let limits = "limits: {mem_mb: 64, runtime_sec: 20}\n";
        worker.install("sockets", &[("f.py", SOCKETS), ("ol.yaml", limits)]);
        let reply = worker.call("sockets", &json!({"enough": 200}));
        // Refused by the kernel, or killed: either way the function did not get three times its memory.
        match reply.status {
            200 => assert!(reply.ok().as_u64() < Some(128), "{} MiB", reply.text()),
            _ => drop(reply.error(502, "died")),
        }
    });
}

/// Takes resources that the kernel counts per user, and keeps them while frozen.
const COUNTERS: &str = "
import ctypes, os, signal

libc = ctypes.CDLL(None, use_errno=True)

def f(event):
    signal.pthread_sigmask(signal.SIG_BLOCK, [40])
    queued = 0
    while queued < 100000 and libc.sigqueue(os.getpid(), 40, 0) == 0:
        queued += 1
    return [libc.inotify_init(), libc.syscall(206, 1000, ctypes.byref(ctypes.c_ulong(0))), queued]
";

#[test]
fn what_is_counted_per_user_is_not_taken_from_root() {
    with_worker(&[], |worker| {
        worker.install("counters", &[("f.py", COUNTERS)]);
        let got = worker.call("counters", &json!({})).ok();
        assert_eq!(
            (&got[0], &got[1]),
            (&json!(-1), &json!(-1)),
            "inotify and kernel AIO"
        );
        assert!(
            got[2].as_u64() > Some(0),
            "a function has a quota of its own: {got}"
        );
        // A user's pending signals are shown in each of the user's processes; this process is root's.
        let status = std::fs::read_to_string("/proc/self/status").expect("proc");
        let pending = status
            .lines()
            .find_map(|line| line.strip_prefix("SigQ:"))
            .expect("a count");
        let pending: u64 = pending
            .trim()
            .split('/')
            .next()
            .expect("two numbers")
            .parse()
            .expect("a number");
        assert!(pending < 1000, "root has {pending} signals pending");
    });
}

/// Answers with more than fits into the buffers between it and a caller.
const ENDLESS: &str = "
def f(event):
    return 'x' * event['bytes']
";

#[test]
fn a_caller_who_does_not_read_holds_an_instance_no_longer_than_it_may_run() {
    with_worker(&[], |worker| {
        let yaml = "limits: {mem_mb: 200, runtime_sec: 2}\ninstances: {max: 1}\n";
        worker.install("big", &[("f.py", ENDLESS), ("ol.yaml", yaml)]);
        let mut silent = worker.connect();
        let body = json!({"bytes": 40 << 20}).to_string();
        let request = format!(
            "POST /run/big HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        silent.send(request.as_bytes()).expect("sent");
        eventually("the call to begin", 10.0, || {
            worker
                .request("GET", "/debug", b"")
                .text()
                .contains("big")
                .then_some(())
        });
        let begun = Instant::now();
        assert_eq!(worker.call("big", &json!({"bytes": 1})).ok(), json!("x"));
        assert!(
            begun.elapsed() < patience(8.0),
            "it took {:?}",
            begun.elapsed()
        );
    });
}

/// Prints as fast as it can, for as long as the event says.
const FLOOD: &str = "
import os, time

def f(event):
    end = time.time() + event['seconds']
    while time.time() < end:
        os.write(1, b'\\x01' * 65536)
";

#[test]
fn a_flood_of_output_delays_nobody() {
    with_worker(&[], |worker| {
        worker.install("flood", &[("f.py", FLOOD)]);
        worker.install("victim", &[("f.py", "def f(event):\n    return event\n")]);
        assert_eq!(worker.call("victim", &json!(0)).ok(), json!(0));
        std::thread::scope(|scope| {
            let floods: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| worker.call("flood", &json!({"seconds": 2})).text()))
                .collect();
            let mut slowest = Duration::ZERO;
            while floods.iter().any(|flood| !flood.is_finished()) {
                let begun = Instant::now();
                assert_eq!(worker.call("victim", &json!(1)).ok(), json!(1));
                slowest = slowest.max(begun.elapsed());
            }
            assert!(slowest < patience(1.0), "a victim waited {slowest:?}");
        });
        let logs = worker.place.dir().join("worker/logs");
        let size: u64 = std::fs::read_dir(logs)
            .expect("logs")
            .map(|file| file.expect("a file").metadata().expect("there").len())
            .sum();
        assert!(size < 40 << 20, "{size} bytes of log");
    });
}

#[test]
fn a_body_that_no_parser_takes_is_the_callers_fault() {
    with_worker(&[], |worker| {
        worker.install(
            "echo",
            &[("f.py", "import os\ndef f(event):\n    return os.getpid()\n")],
        );
        assert!(worker.call("echo", &json!({})).ok().is_number());
        let (leaf, _) = worker.leaf();
        let deep = "[".repeat(60_000);
        let reply = worker.request("POST", "/run/echo", deep.as_bytes());
        assert!(reply.error(400, "bad-request").contains("not JSON"));
        assert_eq!(worker.leaf().0, leaf, "the instance is still the same");
    });
}
