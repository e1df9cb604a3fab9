//! `X-OL-Timing: 1`, by which a caller asks where a call's time went.
//!
//! Tested is which phases are reported, that they are plausible compared with times measured outside, that other callers aren't told,
//! and that functions can't set the header.

use ol_testkit::{Reply, Worker, eventually, with_worker};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

const ECHO: &str = "def f(event):\n    return event\n";
/// Waits for a child process, which the test sees on the host and ends when the call is to go on.
const HOLD: &str =
    "import subprocess\ndef f(event):\n    subprocess.run(['sleep', '600'])\n    return event\n";

/// The kind of start and the phases in µs, as the header tells them.
#[derive(Debug)]
struct Phases {
    kind: String,
    us: BTreeMap<String, u64>,
}

impl Phases {
    fn of(reply: &Reply) -> Self {
        let text = reply.header("x-ol-timing").expect("it was asked for");
        let (mut kind, mut us) = (String::new(), BTreeMap::new());
        for part in text.split(';') {
            let (name, value) = part.split_once('=').expect("NAME=VALUE");
            if name == "kind" {
                value.clone_into(&mut kind);
            } else {
                us.insert(name.to_owned(), value.parse().expect("a whole number"));
            }
        }
        Self { kind, us }
    }

    fn names(&self) -> Vec<&str> {
        self.us.keys().map(String::as_str).collect()
    }

    /// The sum of the phases that follow each other.
    fn sum(&self) -> Duration {
        let apart = ["code", "queue", "create", "bind", "call"];
        Duration::from_micros(apart.iter().filter_map(|name| self.us.get(*name)).sum())
    }
}

fn asked(worker: &Worker<'_>, name: &str, event: &Value) -> Reply {
    let asks = [("X-OL-Timing", "1")];
    let path = format!("/run/{name}");
    worker
        .connect()
        .request("POST", &path, &asks, event.to_string().as_bytes())
        .expect("an answer")
}

/// A counter of `/metrics`.
fn counter(worker: &Worker<'_>, name: &str, kind: &str) -> u64 {
    let text = worker.request("GET", "/metrics", b"").text();
    let start = format!("{name}{{kind=\"{kind}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    value
        .unwrap_or_else(|| panic!("no {start}\n{text}"))
        .parse()
        .expect("a number")
}

#[test]
fn a_start_then_a_warm_call_then_a_thawed_one() {
    with_worker(&["pause_after_ms=300"], |worker| {
        worker.install_untried("echo", &[("f.py", ECHO)]);
        let begun = Instant::now();
        let first = asked(worker, "echo", &json!(1));
        let outside = begun.elapsed();
        assert_eq!(first.ok(), json!(1));
        let first = Phases::of(&first);
        let began = ["fresh", "fork", "blank"];
        assert!(began.contains(&first.kind.as_str()), "{first:?}");
        for name in ["queue", "create", "bind", "call"] {
            assert!(first.us.contains_key(name), "{name}: {first:?}");
        }
        assert!(first.us["lease"] <= first.us["create"], "{first:?}");
        assert!(first.us["create"] > 0, "{first:?}");
        assert!(first.sum() <= outside, "{first:?} in {outside:?}");

        let warm = Phases::of(&asked(worker, "echo", &json!(2)));
        assert_eq!((warm.kind.as_str(), warm.names()), ("warm", vec!["call"]));

        stands_by(worker);
        let thawed = Phases::of(&asked(worker, "echo", &json!(3)));
        let told = (thawed.kind.as_str(), thawed.names());
        assert_eq!(told, ("resume", vec!["call", "unpause"]));
        assert!(thawed.us["unpause"] <= thawed.us["call"], "{thawed:?}");

        assert_eq!(counter(worker, "ol_starts_total", &first.kind), 1);
        for kind in [first.kind.as_str(), "warm", "resume"] {
            assert_eq!(counter(worker, "ol_calls_total", kind), 1, "{kind}");
        }
    });
}

/// A call that waits for an instance that another call uses is told of its wait, but of no start, since it waited for none.
#[test]
fn a_wait_for_a_running_instance_is_all_queue() {
    with_worker(&[], |worker| {
        let yaml = "instances: {min: 1, max: 1}\n";
        worker.install("hold", &[("f.py", HOLD), ("ol.yaml", yaml)]);
        stands_by(worker);
        thread::scope(|scope| {
            let first = scope.spawn(|| asked(worker, "hold", &json!(1)));
            let sleep = worker.program("sleep");
            let begun = Instant::now();
            let second = scope.spawn(|| asked(worker, "hold", &json!(2)));
            eventually("the second to wait", 10.0, || {
                worker.debug().contains("1 calls waiting").then_some(())
            });
            let waits = Instant::now();
            // The least time that the call has waited, as measured here.
            let _ = worker.debug();
            let least = waits.elapsed();
            sleep.signal(Signal::KILL);
            assert_eq!(Phases::of(&first.join().expect("answered")).kind, "resume");
            let other = eventually("the second to run", 10.0, || {
                let other = worker.program("sleep");
                (other.pid != sleep.pid).then_some(other)
            });
            other.signal(Signal::KILL);
            let second = Phases::of(&second.join().expect("answered"));
            let told = (second.kind.as_str(), second.names());
            assert_eq!(told, ("warm", vec!["call", "queue"]));
            let queue = Duration::from_micros(second.us["queue"] + 1);
            assert!(queue >= least, "{queue:?} of at least {least:?}");
            assert!(second.sum() <= begun.elapsed(), "{second:?}");
        });
    });
}

/// Waits until the only instance is there, and frozen.
fn stands_by(worker: &Worker<'_>) {
    eventually("it to be frozen", 20.0, || {
        worker.debug().contains("paused").then_some(())
    });
}

/// A call that finds an instance ready waits for no start.
#[test]
fn one_that_stood_by_is_no_start_of_the_call() {
    with_worker(&[], |worker| {
        let yaml = "instances: {min: 1}\n";
        worker.install("echo", &[("f.py", ECHO), ("ol.yaml", yaml)]);
        stands_by(worker);
        let told = Phases::of(&asked(worker, "echo", &json!(1)));
        assert_eq!(told.kind, "resume", "{told:?}");
        assert!(!told.us.contains_key("create"), "{told:?}");
        let warm = Phases::of(&asked(worker, "echo", &json!(2)));
        assert_eq!(warm.kind, "warm", "{warm:?}");
    });
}

/// The look at the registry is reported as a phase of the calls that wait for it.
#[test]
fn the_look_at_the_registry_is_told_of() {
    with_worker(&["registry_cache_ms=0"], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        let _ = worker.call("echo", &json!(1)).ok();
        let told = Phases::of(&asked(worker, "echo", &json!(1)));
        assert!(told.us.contains_key("code"), "{told:?}");
    });
}

#[test]
fn nobody_is_told_who_did_not_ask_and_no_function_can_tell() {
    let app = "
def app(environ, start_response):
    start_response('200 OK', [('X-OL-Timing', 'kind=forged'), ('Content-Length', '2')])
    return [b'{}']
";
    let raises = "def f(event):\n    raise ValueError(event)\n";
    with_worker(&[], |worker| {
        worker.install("app", &[("f.py", app)]);
        let reply = worker.call("app", &json!(1));
        assert_eq!((reply.status, reply.header("x-ol-timing")), (200, None));
        assert_ne!(Phases::of(&asked(worker, "app", &json!(1))).kind, "forged");
        let other = [("X-OL-Timing", "0")];
        let mut connection = worker.connect();
        let reply = connection.request("POST", "/run/app", &other, b"1");
        assert_eq!(reply.expect("an answer").header("x-ol-timing"), None);

        // A call that ends with the function's error has phases too.
        worker.install("raises", &[("f.py", raises)]);
        let failed = asked(worker, "raises", &json!(1));
        let _ = failed.error(500, "raised");
        assert!(Phases::of(&failed).us.contains_key("call"));
    });
}

#[test]
fn the_command_line_shows_the_phases() {
    with_worker(&[], |worker| {
        worker.install_untried("echo", &[("f.py", ECHO)]);
        let said = worker
            .place
            .ol(&["invoke", "echo", "-d", "[1]", "--timing"]);
        assert_eq!(said.ok(), "[1]");
        for line in ["queue", "create", "bind", "call", "worker and network"] {
            assert!(said.err.contains(line), "{line}: {said:?}");
        }
        let json = ["--output", "json", "invoke", "echo", "-d", "2", "--timing"];
        let said = worker.place.ol(&json);
        let value: Value = serde_json::from_str(said.ok()).expect("JSON");
        let timing = &value["timing"];
        assert!(timing["call_us"].is_u64(), "{value}");
        assert!(timing["worker_and_network_us"].is_u64(), "{value}");
        let kind = timing["kind"].as_str().unwrap_or_default();
        assert!(["warm", "resume"].contains(&kind), "{value}");
        let plain = worker.place.ol(&["--output", "json", "invoke", "echo"]);
        let value: Value = serde_json::from_str(plain.ok()).expect("JSON");
        assert!(value.get("timing").is_none(), "{value}");
    });
}
