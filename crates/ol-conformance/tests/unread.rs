//! Requests that are answered before they were read to their end: the answer arrives, on every route, for every error and kind of client.
//!
//! The next request on the connection is answered too, unless the first answer says that the connection is closed.

use ol_testkit::{Client, Reply, Worker, eventually, in_place, measured, slowness, with_worker};
use rustix::process::Signal;
use serde_json::json;
use std::process::Command;
use std::time::Instant;

const ECHO: &str = "def f(event):\n    return event\n";

const HOLD: &str =
    "import subprocess\ndef f(event):\n    subprocess.run(['sleep', '600'])\n    return event\n";

const GET_ONLY: (&str, &str) = ("ol.yaml", "triggers:\n  http: [{method: GET}]\n");

/// An app that answers without reading the body.
const DEAF: &str = r#"
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"deaf"})
"#;

const LONG: usize = 10 << 20;

/// Requests that are answered by the head alone: method, path, status.
const BY_THE_HEAD: [(&str, &str, u16); 17] = [
    ("POST", "/run/nobody", 404),
    ("POST", "/run/bad%20name", 400),
    ("POST", "/run/get-only", 405),
    ("POST", "/nowhere", 404),
    ("GET", "/status", 200),
    ("POST", "/status", 405),
    ("GET", "/healthz", 200),
    ("GET", "/readyz", 200),
    ("GET", "/stats", 200),
    ("GET", "/metrics", 200),
    ("GET", "/debug", 200),
    ("GET", "/registry/", 200),
    ("GET", "/registry/get-only/config", 200),
    ("DELETE", "/registry/nobody", 404),
    ("POST", "/registry/bad%20name", 400),
    ("GET", "/packages", 200),
    ("POST", "/packages/gc", 200),
];

/// The same in `server_mode: "sock"`.
const SOCK_BY_THE_HEAD: [(&str, &str, u16); 8] = [
    ("POST", "/run/9", 404),
    ("POST", "/destroy/9", 404),
    ("POST", "/pause/9", 404),
    ("POST", "/unpause/9", 404),
    ("POST", "/nowhere", 404),
    ("GET", "/status", 200),
    ("POST", "/status", 405),
    ("POST", "/debug", 200),
];

fn with_both(test: impl Fn(&Worker<'_>, &[(&str, &str, u16)])) {
    with_worker(&[], |worker| {
        worker.install("get-only", &[("f.py", ECHO), GET_ONLY]);
        test(worker, &BY_THE_HEAD);
    });
    with_worker(&["server_mode=sock"], |worker| {
        test(worker, &SOCK_BY_THE_HEAD);
    });
}

/// Sends a head that announces `length` bytes, with `extra` lines, and reads the answer without sending the body.
fn ask(connection: &mut Client, (method, path): (&str, &str), length: usize, extra: &str) -> Reply {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{extra}\r\n"
    );
    connection.send(head.as_bytes()).expect("sent");
    connection
        .reply()
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

fn closes(reply: &Reply) -> bool {
    reply.header("connection") == Some("close")
}

#[test]
fn a_connection_outlives_a_small_body_that_nobody_wanted() {
    with_both(|worker, routes| {
        for (method, path, status) in routes {
            let mut connection = worker.connect();
            for _ in 0..3 {
                let reply = ask(&mut connection, (method, path), 4, "");
                assert_eq!(reply.status, *status, "{method} {path}: {}", reply.text());
                assert!(!closes(&reply), "{method} {path}");
                connection.send(b"body").expect("sent");
            }
            let reply = connection.request("GET", "/status", &[], b"");
            let reply = reply.unwrap_or_else(|error| panic!("after {method} {path}: {error}"));
            assert_eq!(reply.text(), "ready\n");
        }
    });
}

#[test]
fn whoever_sends_a_long_body_first_gets_the_answer_then() {
    let long = vec![b'x'; LONG];
    with_both(|worker, routes| {
        for (method, path, status) in routes {
            let mut connection = worker.connect();
            let reply = connection.request(method, path, &[], &long);
            let reply = reply.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
            assert_eq!(reply.status, *status, "{method} {path}: {}", reply.text());
            assert!(closes(&reply), "{method} {path}");
            connection.expect_end().expect("closed");
            // In chunks, so that the body's length isn't announced.
            let mut connection = worker.connect();
            let parts: Vec<&[u8]> = long.chunks(1 << 20).collect();
            let reply = connection.request_in_chunks(method, path, &parts);
            let reply = reply.unwrap_or_else(|error| panic!("{method} {path} in chunks: {error}"));
            assert_eq!(
                (reply.status, closes(&reply)),
                (*status, true),
                "{method} {path}"
            );
        }
    });
}

#[test]
fn a_short_body_in_chunks_keeps_its_connection() {
    with_worker(&[], |worker| {
        let mut connection = worker.connect();
        let reply = connection.request_in_chunks("POST", "/run/nobody", &[b"ab", b"cd"]);
        assert_eq!(reply.expect("an answer").status, 404);
    });
}

#[test]
fn a_body_too_long_is_refused_in_an_answer() {
    with_worker(&["max_body_mb=1"], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        let long = vec![b' '; LONG];
        for path in ["/run/echo", "/registry/echo"] {
            let reply = worker.request("POST", path, &long);
            let _ = reply.error(413, "too-large");
            assert!(closes(&reply), "{path}");
            let parts: Vec<&[u8]> = long.chunks(1 << 16).collect();
            let reply = worker.connect().request_in_chunks("POST", path, &parts);
            let reply = reply.unwrap_or_else(|error| panic!("{path} in chunks: {error}"));
            let _ = reply.error(413, "too-large");
        }
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
    });
    with_worker(&["server_mode=sock"], |worker| {
        let long = vec![b' '; LONG];
        let reply = worker.request("POST", "/create", &long);
        let text = reply.error(413, "too-large");
        assert!(text.contains("1 MiB"), "{text}");
    });
}

#[test]
fn a_full_queue_and_a_drain_are_told_whatever_is_sent() {
    in_place(|place| {
        let mut worker = place.up(&["queue_per_function=1", "queue_wait_sec=60"]);
        let one = ("ol.yaml", "instances: {max: 1}\n");
        worker.install("one", &[("f.py", HOLD), one]);
        let mut first = worker.connect();
        first.send_part("POST", "/run/one", 1, b"1").expect("sent");
        let sleep = worker.program("sleep");
        let mut second = worker.connect();
        second.send_part("POST", "/run/one", 1, b"2").expect("sent");
        eventually("the second to wait", 5.0, || {
            worker.debug().contains("1 calls waiting").then_some(())
        });
        // Answered by the head alone, and at once, whether the client waits for `100 Continue` or not.
        for (length, extra) in [(4, ""), (4, "Expect: 100-continue\r\n"), (LONG, "")] {
            let mut connection = worker.connect();
            let reply = ask(&mut connection, ("POST", "/run/one"), length, extra);
            let _ = reply.error(429, "queue-full");
            assert_eq!(closes(&reply), length == LONG || !extra.is_empty());
        }
        let reply = worker.request("POST", "/run/one", &vec![b' '; LONG]);
        let _ = reply.error(429, "queue-full");

        // A connection on which a head has begun to arrive stays open when the drain begins.
        let mut late = worker.connect();
        late.send(b"POST /run/one HTTP/1.1\r\nHost: localhost\r\n")
            .expect("sent");
        let seen = worker.request("GET", "/status", b"");
        assert_eq!(seen.status, 200);
        worker.process.signal(Signal::TERM);
        eventually("the drain to begin", 10.0, || {
            place.log_text().contains("stopping").then_some(())
        });
        late.send(format!("Content-Length: {LONG}\r\n\r\n").as_bytes())
            .expect("sent");
        late.send(&vec![b' '; LONG]).expect("taken");
        let _ = late.reply().expect("an answer").error(503, "draining");
        sleep.signal(Signal::KILL);
        assert_eq!(first.reply().expect("an answer").ok(), json!(1));
        let second_sleep = worker.program("sleep");
        second_sleep.signal(Signal::KILL);
        assert_eq!(second.reply().expect("an answer").ok(), json!(2));
        let (status, _) = worker.wait();
        assert!(status.success(), "{status}");
    });
}

#[test]
fn an_announced_body_is_not_waited_for_when_the_head_decides() {
    with_both(|worker, routes| {
        for (method, path, status) in routes {
            for extra in ["", "Expect: 100-continue\r\n"] {
                let begun = Instant::now();
                let mut connection = worker.connect();
                let reply = ask(&mut connection, (method, path), 4, extra);
                assert_eq!(reply.status, *status, "{method} {path} {extra}");
                assert_eq!(closes(&reply), !extra.is_empty(), "{method} {path} {extra}");
                // Far less than any server's timeout: the answer didn't wait for the body.
                assert!(begun.elapsed().as_secs() < 5 * u64::from(slowness()));
            }
        }
    });
}

#[test]
fn leave_to_send_a_body_is_given_when_it_is_wanted() {
    with_worker(&[], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        let mut connection = worker.connect();
        for length in [4, 100_000] {
            let event = format!("\"{}\"", "x".repeat(length - 2));
            let head = format!(
                "POST /run/echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
            );
            connection.send(head.as_bytes()).expect("sent");
            let reply = connection.reply_head().expect("leave");
            assert_eq!(reply.status, 100);
            connection.send(event.as_bytes()).expect("sent");
            let reply = connection.reply().expect("an answer");
            assert_eq!(reply.ok(), json!("x".repeat(length - 2)));
            assert!(!closes(&reply));
        }
    });
}

#[test]
fn an_app_that_does_not_read_is_heard_all_the_same() {
    with_worker(&[], |worker| {
        worker.install("deaf", &[("f.py", DEAF)]);
        for _ in 0..3 {
            let reply = worker.request("POST", "/run/deaf", &vec![b'x'; LONG]);
            assert_eq!((reply.status, reply.text().as_str()), (200, "deaf"));
        }
        let mut connection = worker.connect();
        for _ in 0..3 {
            let reply = connection.request("POST", "/run/deaf", &[], &[b'x'; 200_000]);
            assert_eq!(reply.expect("an answer").text(), "deaf");
        }
    });
}

/// A body that is malformed in the middle: the answer says so, and that the connection is closed.
#[test]
fn a_body_that_breaks_off_is_answered_and_the_connection_closed() {
    with_worker(&[], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        for path in ["/run/echo", "/registry/echo"] {
            let mut connection = worker.connect();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbodyXX"
            );
            connection.send(head.as_bytes()).expect("sent");
            connection.send(&vec![b'x'; 1 << 20]).expect("taken");
            let reply = connection
                .reply()
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            let text = reply.error(400, "bad-request");
            assert!(text.contains("broke off") && closes(&reply), "{text}");
        }
    });
}

/// Uses `http.client`, which sends the head and the body in two pieces before it reads: no answer may be lost.
const HTTP_CLIENT: &str = r#"
import http.client, sys

host, routes = sys.argv[1], [route.split(" ") for route in sys.argv[2:]]
long = b"x" * (10 << 20)
asked = 0
for method, path, status in routes:
    connection = http.client.HTTPConnection(host, timeout=60)
    for body in [b"body"] * 20 + [long] * 2 + [iter([b"in", b"chunks"])] + [b"body"]:
        connection.request(method, path, body=body, encode_chunked=not isinstance(body, bytes),
                           headers={} if isinstance(body, bytes) else {"Transfer-Encoding": "chunked"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == int(status), (method, path, answer.status)
        asked += 1
print(asked, "requests answered")
"#;

#[test]
fn pythons_client_and_curl_get_every_answer() {
    with_both(|worker, routes| {
        let routes: Vec<String> = routes
            .iter()
            .map(|(method, path, status)| format!("{method} {path} {status}"))
            .collect();
        let said = Command::new("python3")
            .args(["-c", HTTP_CLIENT, &worker.address])
            .args(&routes)
            .output()
            .expect("this host has a Python");
        let text = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{text}");
        measured(String::from_utf8_lossy(&said.stdout).trim_end());

        let file = worker.place.own("long");
        std::fs::write(&file, vec![b'x'; LONG]).expect("written");
        for route in &routes {
            let parts: Vec<&str> = route.split(' ').collect();
            // With curl's own `Expect: 100-continue`, and without; from a pipe, in chunks.
            for extra in [
                &[][..],
                &["-H", "Expect:"],
                &["-H", "Transfer-Encoding: chunked"],
            ] {
                let said = Command::new("curl")
                    .args([
                        "-sS",
                        "-X",
                        parts[0],
                        "-o",
                        "/dev/null",
                        "-w",
                        "%{http_code}",
                    ])
                    .args(extra)
                    .arg("--data-binary")
                    .arg(format!("@{}", file.display()))
                    .arg(format!("http://{}{}", worker.address, parts[1]))
                    .output()
                    .expect("this host has curl");
                let code = String::from_utf8_lossy(&said.stdout).into_owned();
                let text = String::from_utf8_lossy(&said.stderr);
                assert_eq!(code, parts[2], "{route} {extra:?}: {text}");
                assert!(said.status.success(), "{route} {extra:?}: {text}");
            }
        }
    });
}
