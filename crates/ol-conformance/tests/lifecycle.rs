//! Starts and stops workers: the commands do what they promise, and calls that have begun are finished.

use ol_testkit::{Client, Place, Worker, eventually, in_place, with_worker};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;

/// Starts a child process, by which the test sees on the host that the call runs.
const SLEEPER: &str = "
import subprocess

def f(event):
    subprocess.run(['sleep', '0.5'], check=True)
    return event
";

/// Begins a call of half a second; returns when the function is running.
fn begin_a_call(worker: &Worker<'_>) -> Client {
    worker.install("sleeper", &[("f.py", SLEEPER)]);
    let mut connection = worker.connect();
    connection
        .send_part("POST", "/run/sleeper", 4, b"\"me\"")
        .expect("sent");
    let _ = worker.program("sleep");
    connection
}

#[test]
fn down_finishes_a_call_that_runs() {
    in_place(|place| {
        let worker = place.up(&[]);
        let mut connection = begin_a_call(&worker);
        worker.down();
        assert_eq!(connection.reply().expect("an answer").ok(), json!("me"));
    });
}

/// A signal drains and stops the worker: what Ctrl-C sends to the process in the foreground, or what a supervisor sends.
fn a_signal_stops_in_order(signal: Signal) {
    in_place(|place| {
        let mut worker = place.up(&[]);
        let mut connection = begin_a_call(&worker);
        worker.warden.signal(signal);
        assert_eq!(connection.reply().expect("an answer").ok(), json!("me"));
        let (status, _) = worker.wait();
        assert!(status.success(), "{status}");
        place.assert_nothing_left();
    });
}

#[test]
fn an_interrupt_finishes_a_call_that_runs() {
    a_signal_stops_in_order(Signal::INT);
}

#[test]
fn a_termination_finishes_a_call_that_runs() {
    a_signal_stops_in_order(Signal::TERM);
}

/// A terminal sends its interrupt to the whole process group, so both processes get it.
#[test]
fn an_interrupt_of_both_processes_is_one_interrupt() {
    in_place(|place| {
        let mut worker = place.up(&[]);
        let mut connection = begin_a_call(&worker);
        worker.warden.signal(Signal::INT);
        worker.process.signal(Signal::INT);
        assert_eq!(connection.reply().expect("an answer").ok(), json!("me"));
        let (status, _) = worker.wait();
        assert!(status.success(), "{status}");
        place.assert_nothing_left();
    });
}

/// A call that outlives the drain is cut off, and the worker ends all the same.
#[test]
fn a_drain_has_an_end() {
    in_place(|place| {
        let worker = place.up(&["drain_sec=1"]);
        worker.install(
            "slow",
            &[("f.py", "import time\ndef f(event):\n    time.sleep(600)\n")],
        );
        let mut connection = worker.connect();
        connection
            .send_part("POST", "/run/slow", 1, b"1")
            .expect("sent");
        eventually("the call to run", 10.0, || {
            (!worker.leaves().is_empty()).then_some(())
        });
        worker.down();
        assert!(connection.reply().is_err());
    });
}

#[test]
fn a_detached_worker_answers_when_up_returns() {
    in_place(|place| {
        let up = [
            "--output",
            "json",
            "worker",
            "up",
            "-d",
            "-o",
            "worker_port=0",
        ];
        let said: Value = serde_json::from_str(place.ol(&up).ok()).expect("JSON");
        let worker = place.attach();
        assert_eq!(said["url"], format!("http://{}", worker.address));
        assert_eq!(said["pid"], worker.process.pid);
        assert_eq!(worker.request("GET", "/status", b"").text(), "ready\n");

        let status = place.ol(&["--output", "json", "worker", "status"]);
        let status: Value = serde_json::from_str(status.ok()).expect("JSON");
        assert_eq!(
            (&status["state"], &status["pid"]),
            (&json!("ready"), &said["pid"])
        );
        // The worker has its own session, so that it outlives the terminal.
        assert_ne!(worker.warden.status("NSsid"), None);
        assert_eq!(
            worker.warden.status("NSsid"),
            Some(worker.warden.pid.to_string())
        );
        let log = fs::read_to_string(place.dir().join("worker.out")).expect("the log");
        assert!(log.contains(&worker.address), "{log}");
        worker.down();

        let status = place.ol(&["--output", "json", "worker", "status"]);
        assert_eq!(status.code, Some(1));
        let status: Value = serde_json::from_str(&status.out).expect("JSON");
        assert_eq!(status["state"], "stopped");
        assert!(
            place
                .ol(&["worker", "down"])
                .refusal()
                .contains("ol worker up")
        );
    });
}

/// The worker's own socket tells the worker's pid, and only the worker's user may open it.
#[test]
fn the_private_socket_tells_the_pid() {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    with_worker(&[], |worker| {
        let path = worker.place.dir().join("worker/ol.sock");
        assert_eq!(
            fs::metadata(&path)
                .expect("the socket")
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
        stream
            .write_all(b"GET /pid HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        assert!(
            text.ends_with(&format!("\r\n\r\n{}\n", worker.process.pid)),
            "{text}"
        );
        assert_eq!(worker.request("GET", "/pid", b"").status, 404);
    });
}

#[test]
fn the_counters_of_a_run_outlast_it() {
    in_place(|place| {
        let worker = place.up(&[]);
        worker.install("echo", &[("f.py", "def f(event):\n    return event\n")]);
        for number in 0..3 {
            assert_eq!(worker.call("echo", &json!(number)).ok(), json!(number));
        }
        let live = worker.request("GET", "/stats", b"").ok();
        assert_eq!(worker.count("invoke"), 3);
        assert!(
            live.as_object()
                .expect("an object")
                .values()
                .all(Value::is_u64),
            "{live}"
        );
        worker.down();
        let kept = fs::read_to_string(place.dir().join("worker/stats.json")).expect("stats.json");
        let kept: Value = serde_json::from_str(&kept).expect("JSON");
        assert_eq!(kept["invoke.cnt"], live["invoke.cnt"]);
    });
}

#[test]
fn cleaning_up_by_force_is_safe_at_any_time() {
    in_place(|place| {
        let force = |place: &Place| -> Value {
            serde_json::from_str(
                place
                    .ol(&["--output", "json", "worker", "force-cleanup"])
                    .ok(),
            )
            .expect("JSON")
        };
        let nothing = json!({"killed": [], "cgroups": 0, "network": 0, "paths": []});
        let _ = place.ol(&["worker", "init"]).ok();
        assert_eq!(force(place), nothing);

        let mut worker = place.up(&[]);
        worker.install("echo", &[("f.py", "def f(event):\n    return event\n")]);
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
        let said = force(place);
        assert_eq!(
            said["killed"],
            json!([worker.warden.pid, worker.process.pid])
        );
        let (status, _) = worker.wait();
        assert!(!status.success());
        place.assert_nothing_left();
        assert_eq!(force(place), nothing);
        place.up(&[]).down();
    });
}
