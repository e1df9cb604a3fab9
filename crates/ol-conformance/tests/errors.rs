//! Provokes each error that the worker itself makes, and reads it as people and as programs do.
//!
//! Checked are the status, the code, the text and the problem document of RFC 9457, and that none of them holds anything that isn't the
//! caller's business.

use ol_testkit::{Reply, Worker, eventually, in_place, with_worker};
use rustix::process::Signal;
use serde_json::json;
use std::thread;

const ECHO: &str = "def f(event):\n    return event\n";

/// Waits for a child process that the test sees on the host, and ends when the call is to go on.
const HOLD: &str =
    "import subprocess\ndef f(event):\n    subprocess.run(['sleep', '600'])\n    return event\n";

/// Installs a function whose name, text and variables must not appear in another's errors.
fn install_neighbour(worker: &Worker<'_>) {
    let source = "def f(event):\n    raise ValueError('neighbours-word')\n";
    let files = [
        ("f.py", source),
        (".env", "NEIGHBOURS_KEY=neighbours-value\n"),
    ];
    worker.install("neighbour", &files);
    assert_eq!(worker.call("neighbour", &json!({})).status, 500);
}

/// Checks one answer in either form and returns its text.
fn check(worker: &Worker<'_>, reply: &Reply, status: u16, code: &str, parts: &[&str]) -> String {
    let _ = reply.error(status, code);
    let text = match reply.header("content-type") {
        Some("text/plain; charset=utf-8") => reply.text(),
        Some("application/problem+json") => {
            let problem = reply.json();
            assert_eq!(problem["status"], status);
            assert_eq!(problem["type"], format!("urn:open-lambda:error:{code}"));
            assert!(!problem["title"].as_str().unwrap_or_default().is_empty());
            problem["detail"].as_str().expect("text").to_owned()
        }
        other => panic!("{other:?}: {}", reply.text()),
    };
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    let place = worker.place.own("").display().to_string();
    let root = place.trim_end_matches("/own/");
    for secret in [root, "guest.py", "/runtime", "neighbour", "cgroup", ".rs:"] {
        assert!(!text.contains(secret), "it names {secret}: {text}");
    }
    let retry = matches!(status, 429 | 503).then_some("1");
    assert_eq!(reply.header("retry-after"), retry, "{text}");
    assert_eq!(reply.header("allow").is_some(), status == 405, "{text}");
    text
}

/// Provokes an error twice, by a client that accepts anything and one that accepts JSON; returns its text.
fn provoke(
    worker: &Worker<'_>,
    (method, path, body): (&str, &str, &str),
    status: u16,
    code: &str,
    parts: &[&str],
) -> String {
    let mut texts = [&[][..], &[("Accept", "application/json")]].map(|headers| {
        let mut connection = worker.connect();
        let reply = connection.request(method, path, headers, body.as_bytes());
        let reply = reply.expect("an answer");
        let json = reply.header("content-type") == Some("application/problem+json");
        assert_eq!(json, !headers.is_empty());
        check(worker, &reply, status, code, parts)
    });
    std::mem::take(&mut texts[0])
}

#[test]
fn malformed_is_400() {
    with_worker(&[], |worker| {
        install_neighbour(worker);
        for name in ["..", ".", "a%20b", "a%2fb", "%00", "a~b", ""] {
            let path = format!("/run/{name}");
            provoke(worker, ("GET", &path, ""), 400, "bad-name", &[]);
        }
        for name in ["a-b_c.d9", "A", "..."] {
            worker.install(name, &[("f.py", ECHO)]);
            assert_eq!(worker.call(name, &json!(1)).ok(), json!(1), "{name}");
        }
        let call = ("POST", "/run/A", "{'single': 1}");
        provoke(worker, call, 400, "bad-request", &["body is not JSON"]);
        assert_eq!(worker.call("A", &json!(1)).ok(), json!(1));
        let upload = ("POST", "/registry/A", "no bundle");
        provoke(worker, upload, 400, "bad-bundle", &[]);
    });
}

/// A request whose body breaks off isn't a call, and the sandbox serves the next one.
#[test]
fn a_body_that_breaks_off_is_400() {
    with_worker(&[], |worker| {
        install_neighbour(worker);
        let count = "n = 0\ndef f(event):\n    global n\n    n += 1\n    return n\n";
        // The only instance learns later than the caller that the call is off: the next call waits for it, so one instance is enough.
        let only_one = "instances: {max: 1}\n";
        worker.install("count", &[("f.py", count), ("ol.yaml", only_one)]);
        assert_eq!(worker.call("count", &json!(1)).ok(), json!(1));
        for (length, sent) in [(10, 3), (200_000, 100_000), (3 << 20, 1 << 20)] {
            let mut connection = worker.connect();
            connection
                .send_part("POST", "/run/count", length, &vec![b' '; sent])
                .expect("sent");
            connection.finish_sending().expect("open");
            // The worker may answer or just close the connection, since the client has closed its side.
            if let Ok(reply) = connection.reply() {
                check(worker, &reply, 400, "bad-request", &["broke off"]);
            }
        }
        // A body that isn't valid HTTP, while the connection stays open: here the answer has to come.
        let mut connection = worker.connect();
        let mut body = connection.outgoing("POST", "/run/count").expect("sent");
        body.chunk(b"[1,").expect("sent");
        drop(body);
        connection
            .send(b"no number of hex digits\r\n")
            .expect("sent");
        let reply = connection.reply().expect("an answer");
        check(worker, &reply, 400, "bad-request", &["broke off"]);
        assert_eq!(worker.call("count", &json!(1)).ok(), json!(2));
    });
}

#[test]
fn an_unknown_function_is_404() {
    with_worker(&[], |worker| {
        install_neighbour(worker);
        for (method, path) in [
            ("POST", "/run/nobody"),
            ("GET", "/run/nobody/a/path?and=query"),
            ("DELETE", "/registry/nobody"),
            ("GET", "/registry/nobody/config"),
        ] {
            let call = (method, path, "");
            provoke(
                worker,
                call,
                404,
                "unknown-function",
                &["nobody", "`ol ls`"],
            );
        }
        let call = ("GET", "/nowhere", "");
        provoke(worker, call, 404, "no-route", &["/nowhere"]);
    });
}

#[test]
fn a_method_that_is_not_allowed_is_405() {
    with_worker(&[], |worker| {
        install_neighbour(worker);
        let yaml = "triggers:\n  http: [{method: GET}, {method: POST}]\n";
        worker.install("echo", &[("f.py", ECHO), ("ol.yaml", yaml)]);
        assert_eq!(worker.request("GET", "/run/echo", b"").ok(), json!({}));
        assert_eq!(worker.request("POST", "/run/echo", b"1").ok(), json!(1));
        let call = ("PUT", "/run/echo", "1");
        let text = provoke(worker, call, 405, "method-not-allowed", &[]);
        assert_eq!(
            text.trim_end(),
            "HTTP method not allowed. Sent: PUT, Allowed: [GET POST]"
        );
        let reply = worker.request("PUT", "/run/echo", b"1");
        assert_eq!(reply.header("allow"), Some("GET, POST"));
        // Without triggers in its ol.yaml a function takes any.
        worker.install("any", &[("f.py", ECHO)]);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let reply = worker.request(method, "/run/any", b"1");
            assert_eq!(reply.ok(), json!(1), "{method}");
        }
    });
}

#[test]
fn a_body_over_the_limit_is_413() {
    with_worker(&["max_body_mb=1"], |worker| {
        install_neighbour(worker);
        worker.install("echo", &[("f.py", ECHO)]);
        let parts = ["max_body_mb", "1 MiB"];
        let mut connection = worker.connect();
        connection
            .send_part("POST", "/run/echo", (1 << 20) + 1, b"")
            .expect("sent");
        let reply = connection.reply().expect("an answer");
        check(worker, &reply, 413, "too-large", &parts);
        // A body of unknown length is refused when it becomes too long.
        let mut connection = worker.connect();
        let mut body = connection.outgoing("POST", "/run/echo").expect("sent");
        for _ in 0..17 {
            body.chunk(&[b' '; 65_536]).expect("sent");
        }
        let reply = connection.reply().expect("an answer");
        check(worker, &reply, 413, "too-large", &parts);
        let most = format!("\"{}\"", "x".repeat((1 << 20) - 2));
        let reply = worker.request("POST", "/run/echo", most.as_bytes());
        assert_eq!(reply.status, 200);
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
    });
}

#[test]
fn a_full_queue_and_a_long_wait_are_429() {
    with_worker(&["queue_per_function=1", "queue_wait_sec=2"], |worker| {
        install_neighbour(worker);
        let yaml = "instances: {max: 1}\n";
        worker.install("one", &[("f.py", HOLD), ("ol.yaml", yaml)]);
        let mut first = worker.connect();
        first.send_part("POST", "/run/one", 1, b"1").expect("sent");
        let sleep = worker.program("sleep");
        let mut second = worker.connect();
        second.send_part("POST", "/run/one", 1, b"2").expect("sent");
        eventually("the second to wait", 5.0, || {
            worker.debug().contains("1 calls waiting").then_some(())
        });
        let call = ("POST", "/run/one", "3");
        provoke(worker, call, 429, "queue-full", &["one", "1 calls waiting"]);
        let reply = second.reply().expect("an answer");
        check(worker, &reply, 429, "queue-wait", &["one", "2s"]);
        sleep.signal(Signal::KILL);
        assert_eq!(first.reply().expect("an answer").ok(), json!(1));
    });
}

#[test]
fn memory_that_can_not_be_had_in_time_is_429() {
    // Enough memory for two functions and a zygote, but not for a third function.
    with_worker(&["mem_pool_mb=140", "queue_wait_sec=1"], |worker| {
        worker.install("hold", &[("f.py", HOLD)]);
        let mut held: Vec<_> = (0..2)
            .map(|number: u8| {
                let mut connection = worker.connect();
                let body = number.to_string();
                connection
                    .send_part("POST", "/run/hold", 1, body.as_bytes())
                    .expect("sent");
                connection
            })
            .collect();
        eventually("both to run", 10.0, || {
            let leaves = worker.leaves();
            let named = |name: &str| {
                let has = |leaf: &ol_testkit::process::Process| {
                    leaf.status("Name").as_deref() == Some(name)
                };
                leaves.iter().filter(|(leaf, _)| has(leaf)).count()
            };
            (named("sleep") == 2).then_some(())
        });
        worker.install("other", &[("f.py", ECHO)]);
        let call = ("POST", "/run/other", "1");
        provoke(
            worker,
            call,
            429,
            "no-memory",
            &["50 MiB within 1s", "140 MiB"],
        );
        while let Some((sleep, _)) = worker
            .leaves()
            .into_iter()
            .find(|(leaf, _)| leaf.status("Name").as_deref() == Some("sleep"))
        {
            sleep.signal(Signal::KILL);
        }
        for connection in &mut held {
            assert_eq!(connection.reply().expect("an answer").status, 200);
        }
        assert_eq!(worker.call("other", &json!(1)).ok(), json!(1));
    });
}

#[test]
fn what_a_function_raises_is_500_with_its_traceback() {
    with_worker(&[], |worker| {
        install_neighbour(worker);
        let source = "def g(x):\n    return 1 / x\n\ndef f(event):\n    return g(event)\n";
        worker.install("divide", &[("f.py", source)]);
        let parts = [
            "Traceback (most recent call last)",
            "File \"/handler/f.py\", line 5, in f",
            "File \"/handler/f.py\", line 2, in g",
            "ZeroDivisionError: division by zero",
        ];
        let call = ("POST", "/run/divide", "0");
        provoke(worker, call, 500, "raised", &parts);
        assert_eq!(worker.call("divide", &json!(1)).ok(), json!(1.0));
        // Answers that can't be written as JSON, and exceptions that aren't ordinary ones.
        let odd = "
def f(event):
    if event == 'exit':
        raise SystemExit(3)
    if event == 'nan':
        return float('nan')
    return {1, 2}
";
        worker.install("odd", &[("f.py", odd)]);
        for (event, part) in [
            ("\"exit\"", "SystemExit: 3"),
            ("\"nan\"", "not JSON compliant"),
            (
                "1",
                "TypeError: Object of type set is not JSON serializable",
            ),
        ] {
            let call = ("POST", "/run/odd", event);
            provoke(worker, call, 500, "raised", &[part]);
        }
        for (name, source) in [
            (
                "wsgi",
                "def app(environ, start_response):\n    raise KeyError('mine')\n",
            ),
            (
                "asgi",
                "async def app(scope, receive, send):\n    raise KeyError('mine')\n",
            ),
        ] {
            worker.install(name, &[("f.py", source)]);
            let path = format!("/run/{name}/");
            let parts = ["/handler/f.py\", line 2, in app", "KeyError: 'mine'"];
            provoke(worker, ("GET", &path, ""), 500, "raised", &parts);
        }
    });
}

/// Code that can't be imported installs; its calls say why, and the next upload mends it.
#[test]
fn code_that_can_not_be_started_is_502_with_its_traceback() {
    with_worker(&[], |worker| {
        install_neighbour(worker);
        let call = ("POST", "/run/broken", "{}");
        for (source, parts) in [
            (
                "def f(event)\n    return 1\n",
                &["SyntaxError", "/handler/f.py\", line 1"][..],
            ),
            (
                "import json\nimport no_such_module\n",
                &[
                    "Traceback",
                    "/handler/f.py\", line 2",
                    "No module named 'no_such_module'",
                ],
            ),
            (
                "x = 1\n",
                &["defines no function f(event)", "OL_WSGI_ENTRY"],
            ),
            (
                "import sys\nsys.exit('enough')\n",
                &["/handler/f.py\", line 2", "SystemExit: enough"],
            ),
        ] {
            worker.install("broken", &[("f.py", source)]);
            provoke(worker, call, 502, "cannot-start", parts);
        }
        worker.install("broken", &[("f.py", "import os\nos._exit(7)\n")]);
        provoke(worker, call, 502, "cannot-start", &["exit", "7"]);
        worker.install("broken", &[("g.py", "")]);
        provoke(
            worker,
            call,
            502,
            "cannot-start",
            &["no f.py", "OL_ENTRY_FILE"],
        );
        worker.install("broken", &[("f.py", ECHO)]);
        assert_eq!(worker.call("broken", &json!(1)).ok(), json!(1));
    });
}

#[test]
fn a_process_that_died_is_502_and_out_of_memory_is_named() {
    with_worker(&[], |worker| {
        install_neighbour(worker);
        let source = "
import os

def f(event):
    if event == 'exit':
        os._exit(9)
    if event == 'kill':
        os.kill(os.getpid(), 11)
    kept = []
    while event == 'eat':
        kept.append(bytearray(1 << 20))
    return event
";
        let yaml = "limits: {mem_mb: 60}\n";
        worker.install("dies", &[("f.py", source), ("ol.yaml", yaml)]);
        for (event, parts) in [
            ("\"exit\"", &["process ended", "9"][..]),
            ("\"kill\"", &["process ended", "11"]),
            (
                "\"eat\"",
                &["process ended", "memory", "limits.mem_mb is 60"],
            ),
        ] {
            let call = ("POST", "/run/dies", event);
            provoke(worker, call, 502, "died", parts);
            assert_eq!(worker.call("dies", &json!(1)).ok(), json!(1));
        }
    });
}

/// Only a request that had begun when the worker was told to stop can hear of it.
#[test]
fn a_call_while_the_worker_drains_is_503() {
    in_place(|place| {
        let worker = place.up(&[]);
        worker.install("hold", &[("f.py", HOLD)]);
        let mut running = worker.connect();
        running
            .send_part("POST", "/run/hold", 1, b"1")
            .expect("sent");
        let sleep = worker.program("sleep");
        let mut late = [worker.connect(), worker.connect()];
        late[0]
            .send_part("POST", "/run/hold", 2, b"1")
            .expect("sent");
        let json = "POST /run/hold HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Length: 2\r\n\r\n1";
        late[1].send(json.as_bytes()).expect("sent");
        // The worker has accepted the other requests before it answers this one, which was sent later.
        assert_eq!(worker.request("GET", "/status", b"").text(), "ready\n");
        thread::scope(|scope| {
            let down = scope.spawn(|| place.ol(&["worker", "down"]));
            eventually("the worker to stop listening", 10.0, || {
                ol_testkit::Client::connect(&worker.address)
                    .is_err()
                    .then_some(())
            });
            for connection in &mut late {
                connection.send(b"1").expect("sent");
                let reply = connection.reply().expect("an answer");
                check(&worker, &reply, 503, "draining", &["stopping"]);
            }
            sleep.signal(Signal::KILL);
            assert_eq!(running.reply().expect("an answer").ok(), json!(1));
            assert_eq!(down.join().expect("it was run").code, Some(0));
        });
        let mut worker = worker;
        let (status, _) = worker.wait();
        assert!(status.success(), "{status}");
    });
}

#[test]
fn past_its_time_is_504() {
    with_worker(&[], |worker| {
        install_neighbour(worker);
        let yaml = "limits: {runtime_sec: 1}\n";
        worker.install("hold", &[("f.py", HOLD), ("ol.yaml", yaml)]);
        let call = ("POST", "/run/hold", "1");
        provoke(worker, call, 504, "time-limit", &["limit of 1 s"]);
        // The time limit holds for the import too.
        let import = [
            ("f.py", "import time\ntime.sleep(600)\n"),
            ("ol.yaml", yaml),
        ];
        worker.install("import", &import);
        let call = ("POST", "/run/import", "1");
        provoke(worker, call, 504, "time-limit", &["limit of 1 s"]);
    });
}
