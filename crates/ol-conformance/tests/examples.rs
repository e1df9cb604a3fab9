//! Every folder of `examples/` is installed as its README says, and answers as the README says.

use ol_testkit::network::in_world;
use ol_testkit::{Place, Worker, eventually, in_place, with_worker};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("crates/ol-conformance")
        .to_owned()
}

fn names() -> Vec<String> {
    let folders = ol_testkit::place::listing(&repository().join("examples"));
    let folders = folders.into_iter().filter(|path| path.is_dir());
    folders
        .map(|path| {
            path.file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

fn with_example(name: &str, test: impl FnOnce(&Worker<'_>)) {
    with_worker(&[], |worker| {
        let folder = repository().join("examples").join(name);
        let said = worker
            .place
            .ol(&["admin", "install", folder.to_str().expect("text")]);
        assert!(said.ok().contains(name), "{said:?}");
        test(worker);
    });
}

fn call(worker: &Worker<'_>, name: &str, event: Value) -> Value {
    worker.call(name, &event).ok()
}

#[test]
fn the_readme_has_one_line_for_each() {
    let readme = fs::read_to_string(repository().join("examples/README.md")).expect("there");
    let mut listed: Vec<_> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, names());
}

#[test]
fn echo() {
    with_example("echo", |worker| {
        let event = json!({"text": "žluťoučký", "list": [1, 2.5, null]});
        assert_eq!(call(worker, "echo", event.clone()), event);
    });
}

#[test]
fn hello() {
    with_example("hello", |worker| {
        for (event, name) in [(json!({}), "world"), (json!({"name": "you"}), "you")] {
            let said = call(worker, "hello", event);
            let said = said.as_str().expect("text");
            assert!(
                said.starts_with(&format!("Hello {name}, from Python 3.")),
                "{said}"
            );
        }
    });
}

#[test]
fn environment() {
    with_example("environment", |worker| {
        assert_eq!(
            call(worker, "environment", json!({})),
            json!({"greeting": "good morning"})
        );
    });
}

#[test]
fn methods() {
    with_example("methods", |worker| {
        assert_eq!(
            worker.request("GET", "/run/methods", b"").ok(),
            json!({"you sent": {}})
        );
        assert_eq!(call(worker, "methods", json!(1)), json!({"you sent": 1}));
        let reply = worker.request("PUT", "/run/methods", b"1");
        let text = reply.error(405, "method-not-allowed");
        assert!(text.contains("Sent: PUT, Allowed: [GET POST]"), "{text}");
    });
}

#[test]
fn timeout() {
    with_example("timeout", |worker| {
        let said = call(worker, "timeout", json!({"seconds": 0}));
        assert_eq!(said, "slept for 0 s");
        let text = worker.call("timeout", &json!({})).error(504, "time-limit");
        assert!(text.contains("1 s"), "{text}");
        let said = call(worker, "timeout", json!({"seconds": 0.01}));
        assert_eq!(said, "slept for 0.01 s");
    });
}

#[test]
fn counter() {
    with_example("counter", |worker| {
        let first = call(worker, "counter", json!({}));
        for count in 2..5 {
            let said = call(worker, "counter", json!({}));
            assert_eq!(said, json!({"count": count, "pid": first["pid"]}));
        }
    });
}

#[test]
fn crash() {
    with_example("crash", |worker| {
        for (how, status, code, part) in [
            ("raise", 500, "raised", "RuntimeError: raised on purpose"),
            ("exit", 502, "died", "3"),
            ("memory", 502, "died", "limits.mem_mb is 50"),
        ] {
            let text = worker
                .call("crash", &json!({"how": how}))
                .error(status, code);
            assert!(text.contains(part), "{text}");
            let said = call(worker, "crash", json!({}));
            assert_eq!(said["how"], "try raise, exit or memory");
        }
    });
}

#[test]
fn multiprocessing() {
    with_example("multiprocessing", |worker| {
        let said = call(worker, "multiprocessing", json!({}));
        assert_eq!(said["primes"], 9592);
        // A quick process may take more than one part of the work, so how many processes took part varies.
        assert!(said["processes"].as_u64() > Some(0), "{said}");
        let said = call(
            worker,
            "multiprocessing",
            json!({"upto": 100, "workers": 2}),
        );
        assert_eq!(said["primes"], 25);
    });
}

#[test]
fn wsgi() {
    with_example("wsgi", |worker| {
        let page = || worker.request("GET", "/run/wsgi/", b"");
        let empty = page();
        assert_eq!(
            empty.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert!(
            empty.text().contains("action=\"/run/wsgi/sign\""),
            "{}",
            empty.text()
        );
        let signed = worker.request("POST", "/run/wsgi/sign", b"name=%3CAda%3E");
        assert_eq!(
            (signed.status, signed.header("location")),
            (303, Some("/run/wsgi/"))
        );
        assert!(
            page().text().contains("<li>&lt;Ada&gt;</li>"),
            "{}",
            page().text()
        );
        assert_eq!(worker.request("POST", "/run/wsgi/sign", b"").status, 400);
        let reply = worker.request("GET", "/run/wsgi/where", b"");
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (404, "There is no /where here.\n")
        );
    });
}

#[test]
fn asgi_sse() {
    with_example("asgi-sse", |worker| {
        let page = worker.request("GET", "/run/asgi-sse/", b"");
        assert!(
            page.text().contains("EventSource(\"events\")"),
            "{}",
            page.text()
        );
        assert_eq!(
            worker.request("GET", "/run/asgi-sse/nothing", b"").status,
            404
        );
        let mut listeners: Vec<_> = (0..8).map(|_| worker.connect()).collect();
        for listener in &mut listeners {
            listener
                .send_part("GET", "/run/asgi-sse/events", 0, b"")
                .expect("sent");
        }
        for listener in &mut listeners {
            let incoming = listener.incoming().expect("an answer");
            assert_eq!(
                incoming.head.header("content-type"),
                Some("text/event-stream")
            );
            let mut lines = BufReader::new(incoming).lines();
            for _ in 0..2 {
                let line = lines.next().expect("one more").expect("text");
                assert!(line.starts_with("data: ") && line.len() == 14, "{line}");
                assert_eq!(lines.next().expect("its end").expect("text"), "");
            }
        }
        assert_eq!(worker.count("create"), 1);
        drop(listeners);
        // The clients have left, and the app has noticed it.
        assert_eq!(worker.request("GET", "/run/asgi-sse/", b"").status, 200);
    });
}

/// Runs `make run`'s script: starts a worker with all examples, and returns the line to try that it shows.
fn run(place: &Place) -> String {
    let ol = place.command::<&str>(&[]);
    let script = repository().join("scripts/run.sh");
    let output = Command::new("sh")
        .arg(script)
        .current_dir(repository())
        .env("OL", ol.get_program())
        .env("DIR", place.dir())
        .env("PORT", "0")
        .env("SUDO", "")
        .output()
        .expect("there is a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The script switches on functions' network; the test has network namespaces of its own, so that this machine's are left as they are.
#[test]
fn the_script_installs_all_and_shows_a_line_that_works() {
    let forwards =
        || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("/proc is mounted");
    let before = forwards();
    in_world(|place, _| {
        let said = run(place);
        let network = place.census().network;
        assert_eq!(network.len(), 2, "an uplink and a table: {network:?}");
        let line = said.lines().find_map(|line| line.strip_prefix("  curl "));
        let line = line.unwrap_or_else(|| panic!("no line to try: {said}"));
        let output = Command::new("sh")
            .args(["-c", &format!("curl -sS {line}")])
            .output();
        let output = output.expect("there is a shell");
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(answer.contains("Hello you, from Python"), "{answer}");
        let installed = place.ol(&["ls"]);
        assert_eq!(installed.ok().lines().collect::<Vec<_>>(), names());
        // A second run replaces the worker that runs.
        let before = place.attach().process;
        let _ = run(place);
        eventually("the first to be gone", 10.0, || {
            (!before.lives()).then_some(())
        });
        place.attach().down();
    });
    assert_eq!(forwards(), before);
}

/// Where nothing was built, `make stop` can't know what runs, and doesn't claim that nothing does.
#[test]
fn stopping_without_a_program_to_stop_with() {
    in_place(|place| {
        let output = Command::new("make")
            .args(["--silent", "stop"])
            .arg(format!("DIR={}", place.dir().display()))
            .current_dir(repository())
            .env("CARGO_TARGET_DIR", place.own("nothing"))
            .output()
            .expect("make is there");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert!(
            said.contains("own/nothing/debug/ol to stop a worker with: run `make run`"),
            "{said}"
        );
    });
}
