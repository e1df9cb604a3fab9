//! Heads of requests: one that breaks a rule gets an answer that names the rule, and those that never end don't fill the memory.

use ol_testkit::{Client, Reply, Worker, eventually, measured, with_worker};
use serde_json::json;

const ECHO: &str = "def f(event):\n    return event\n";

/// Sends bytes on a connection of their own and reads one answer.
fn told(worker: &Worker<'_>, bytes: &[u8]) -> Reply {
    let mut connection = worker.connect();
    connection.send(bytes).expect("taken");
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    let reply = connection.reply();
    reply.unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// Heads, each with the answer's status and code, and a word of its text.
const BROKEN: [(&str, u16, &str, &str); 16] = [
    ("GET /status HTTP/1.1\r\n\r\n", 400, "bad-request", "Host"),
    (
        "GET /status HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        400,
        "bad-request",
        "more than one Host",
    ),
    (
        "GET /status HTTP/1.1\r\nHost: a b\r\n\r\n",
        400,
        "bad-request",
        "HOST:PORT",
    ),
    (
        "GET /status HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        400,
        "bad-request",
        "more than one Host",
    ),
    (
        "POST /run/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
        "not-implemented",
        "Transfer-Encoding",
    ),
    (
        "POST /run/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        501,
        "not-implemented",
        "Transfer-Encoding",
    ),
    (
        "POST /run/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\n1",
        501,
        "not-implemented",
        "Transfer-Encoding",
    ),
    (
        "POST /run/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad-request",
        "more than once",
    ),
    (
        "POST /run/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad-request",
        "more than once",
    ),
    (
        "POST /run/echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad-request",
        "HTTP/1.0",
    ),
    (
        "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
        501,
        "not-implemented",
        "CONNECT",
    ),
    (
        "POST /run/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n11",
        400,
        "bad-request",
        "content-length",
    ),
    (
        "POST /run/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        400,
        "bad-request",
        "content-length",
    ),
    (
        "GET /status HTTP/1.1\r\nHost localhost\r\n\r\n",
        400,
        "bad-request",
        "header",
    ),
    (
        "GET /status HTTP/3.9\r\n\r\n",
        400,
        "bad-request",
        "version",
    ),
    ("\u{0}\u{1}\u{2}\r\n\r\n", 400, "bad-request", "method"),
];

#[test]
fn a_head_that_breaks_a_rule_is_told_which() {
    let all = |worker: &Worker<'_>| {
        for (head, status, code, word) in BROKEN {
            let reply = told(worker, head.as_bytes());
            let text = reply.error(status, code);
            let small = text.to_lowercase();
            assert!(small.contains(&word.to_lowercase()), "{head:?}: {text}");
        }
        // Empty lines before a request are no request, and HTTP/1.0 needs no Host.
        assert_eq!(
            told(worker, b"\r\n\r\nGET /status HTTP/1.0\r\n\r\n").text(),
            "ready\n"
        );
    };
    with_worker(&[], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        all(worker);
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
    });
    with_worker(&["server_mode=sock"], all);
}

/// If the second request on a connection can't be read, the first is answered as usual, and the second with an error.
#[test]
fn a_broken_request_after_a_good_one_spoils_nothing() {
    with_worker(&[], |worker| {
        let good = "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for apart in [true, false] {
            let mut connection = worker.connect();
            if apart {
                connection.send(good.as_bytes()).expect("sent");
                assert_eq!(connection.reply().expect("an answer").text(), "ready\n");
                connection.send(b"GET /a b HTTP/1.1\r\n\r\n").expect("sent");
            } else {
                let both = format!("{good}GET /a b HTTP/1.1\r\n\r\n");
                connection.send(both.as_bytes()).expect("sent");
                assert_eq!(connection.reply().expect("an answer").text(), "ready\n");
            }
            let reply = connection.reply().expect("an answer");
            let _ = reply.error(400, "bad-request");
            assert_eq!(reply.header("connection"), Some("close"));
            connection.expect_end().expect("closed");
        }
    });
}

/// A head of this many bytes.
fn head_of(bytes: usize) -> Vec<u8> {
    let mut head = b"GET /status HTTP/1.1\r\nHost: localhost\r\nX-Long: ".to_vec();
    head.resize(bytes - 4, b'a');
    head.extend_from_slice(b"\r\n\r\n");
    head
}

#[test]
fn the_limits_of_a_head_are_what_they_say() {
    for (option, kib) in [
        ("max_header_kb=64", 64),
        ("max_header_kb=16", 16),
        ("max_header_kb=2", 2),
    ] {
        with_worker(&[option], |worker| {
            assert_eq!(told(worker, &head_of(kib << 10)).status, 200);
            for bytes in [(kib << 10) + 1, 105_000, 3 << 20] {
                let reply = told(worker, &head_of(bytes));
                let text = reply.error(431, "head-too-large");
                let key = format!("{kib} KiB, max_header_kb");
                assert!(text.contains(&key), "{bytes}: {text}");
                assert_eq!(reply.header("connection"), Some("close"));
            }
        });
    }
    with_worker(&["max_header_lines=10"], |worker| {
        let lines = |count: usize| {
            let lines = "X-Line: 1\r\n".repeat(count - 1);
            format!("GET /status HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
        };
        assert_eq!(told(worker, &lines(10)).status, 200);
        let text = told(worker, &lines(11)).error(431, "head-too-large");
        assert!(text.contains("(10, max_header_lines)"), "{text}");
        let long = format!(
            "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "a".repeat(65_534)
        );
        let worker_text = told(worker, long.as_bytes()).error(431, "head-too-large");
        assert!(worker_text.contains("64 KiB"), "{worker_text}");
    });
    with_worker(&["max_header_kb=128"], |worker| {
        let long = format!(
            "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "a".repeat(65_534)
        );
        let text = told(worker, long.as_bytes()).error(414, "uri-too-long");
        assert!(text.contains("65,534"), "{text}");
    });
}

/// The resident memory of a process in KiB.
fn resident(worker: &Worker<'_>) -> u64 {
    let text = worker.process.status("VmRSS").expect("it lives");
    text.trim_end_matches(" kB").trim().parse().expect("KiB")
}

#[test]
fn heads_that_never_end_take_little_and_give_it_back() {
    with_worker(&[], |worker| {
        let before = resident(worker);
        let part = &head_of(60_000)[..59_000];
        let mut all: Vec<Client> = Vec::new();
        for _ in 0..1500 {
            let mut connection = worker.connect();
            connection.send(part).expect("taken");
            all.push(connection);
        }
        // At least one client is told that there is no room, while a request with a short head is still served.
        let refused = eventually("one to be refused", 20.0, || {
            all.pop().and_then(|mut last| last.reply().ok())
        });
        let text = refused.error(503, "heads-full");
        assert!(text.contains("try again"), "{text}");
        assert_eq!(worker.request("GET", "/status", b"").text(), "ready\n");
        let full = resident(worker);
        drop(all);
        let left = eventually("the memory to be given back", 20.0, || {
            let now = resident(worker);
            (now < before + (24 << 10)).then_some(now)
        });
        measured(&format!(
            "resident: {before} KiB before, {full} KiB with 1,500 heads of 59,000 bytes, {left} KiB after"
        ));
        assert!(full < before + (200 << 10), "{full} KiB");
        assert_eq!(worker.request("GET", "/status", b"").text(), "ready\n");
    });
}
