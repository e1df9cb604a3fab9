//! Answers and errors on the wire: status, headers, text, and bodies of every kind.

use ol_testkit::with_worker;
use serde_json::{Value, json};

const ECHO: &str = "def f(event):\n    return event\n";

#[test]
fn a_method_that_is_not_allowed() {
    with_worker(&[], |worker| {
        let yaml = "triggers:\n  http: [{method: GET}, {method: POST}]\n";
        worker.install("echo", &[("f.py", ECHO), ("ol.yaml", yaml)]);
        assert_eq!(worker.request("GET", "/run/echo", b"").ok(), json!({}));
        assert_eq!(worker.request("POST", "/run/echo", b"1").ok(), json!(1));
        let reply = worker.request("PUT", "/run/echo", b"1");
        let text = reply.error(405, "method-not-allowed");
        assert_eq!(
            text.trim_end(),
            "HTTP method not allowed. Sent: PUT, Allowed: [GET POST]"
        );
        assert_eq!(reply.header("allow"), Some("GET, POST"));
        // Without triggers in its ol.yaml a function takes any.
        worker.install("any", &[("f.py", ECHO)]);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            assert_eq!(
                worker.request(method, "/run/any", b"1").ok(),
                json!(1),
                "{method}"
            );
        }
    });
}

#[test]
fn a_body_that_is_no_json() {
    with_worker(&[], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        let text = worker
            .request("POST", "/run/echo", b"{'single': 1}")
            .error(400, "bad-request");
        assert!(text.contains("JSON"), "{text}");
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
    });
}

#[test]
fn what_a_function_raises_is_told_with_its_traceback() {
    with_worker(&[], |worker| {
        let source = "def g(x):\n    return 1 / x\n\ndef f(event):\n    return g(event)\n";
        worker.install("divide", &[("f.py", source)]);
        let text = worker.call("divide", &json!(0)).error(500, "raised");
        for part in [
            "Traceback",
            "/handler/f.py",
            "line 2",
            "ZeroDivisionError: division by zero",
        ] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert!(
            !text.contains("guest.py") && !text.contains(&worker.place.dir().display().to_string()),
            "{text}"
        );
        assert_eq!(worker.call("divide", &json!(1)).ok(), json!(1.0));
        // What can't be written as JSON, and what is no ordinary exception.
        worker.install(
            "odd",
            &[(
                "f.py",
                "def f(event):\n    if event: raise SystemExit(3)\n    return {1, 2}\n",
            )],
        );
        assert!(
            worker
                .call("odd", &json!(0))
                .error(500, "raised")
                .contains("not JSON serializable")
        );
        assert!(
            worker
                .call("odd", &json!(1))
                .error(500, "raised")
                .contains("SystemExit")
        );
    });
}

/// Code that can't be imported installs; its calls say why, and the next upload mends it.
#[test]
fn code_that_can_not_be_imported() {
    with_worker(&[], |worker| {
        for (source, parts) in [
            ("def f(event)\n    return 1\n", ["SyntaxError", "line 1"]),
            (
                "import no_such_module\n",
                ["ModuleNotFoundError", "no_such_module"],
            ),
            ("x = 1\n", ["defines no function", "f(event)"]),
            ("raise SystemExit('enough')\n", ["SystemExit", "enough"]),
        ] {
            worker.install("broken", &[("f.py", source)]);
            let text = worker.call("broken", &json!({})).error(502, "cannot-start");
            assert!(
                parts.iter().all(|part| text.contains(part)),
                "{source:?}: {text}"
            );
        }
        worker.install("broken", &[("f.py", "import os\nos._exit(7)\n")]);
        let text = worker.call("broken", &json!({})).error(502, "cannot-start");
        assert!(text.contains('7'), "{text}");
        worker.install("broken", &[("f.py", ECHO)]);
        assert_eq!(
            worker.call("broken", &json!("mended")).ok(),
            json!("mended")
        );
    });
}

#[test]
fn those_who_accept_json_get_a_problem_document() {
    with_worker(&[], |worker| {
        worker.install(
            "raise",
            &[("f.py", "def f(event):\n    raise ValueError('why')\n")],
        );
        let mut connection = worker.connect();
        let accept = [("Accept", "application/json")];
        for (method, path, status, detail) in [
            ("GET", "/run/nobody", 404, "nobody"),
            ("GET", "/run/raise", 500, "ValueError: why"),
            ("DELETE", "/registry/nobody", 404, "nobody"),
            ("GET", "/nowhere", 404, "/nowhere"),
            ("POST", "/registry/..", 400, ".."),
        ] {
            let reply = connection
                .request(method, path, &accept, b"")
                .expect("an answer");
            assert_eq!(
                reply.header("content-type"),
                Some("application/problem+json"),
                "{path}"
            );
            let problem = reply.json();
            assert_eq!(
                (reply.status, &problem["status"]),
                (status, &json!(status)),
                "{path}"
            );
            assert!(
                problem["detail"].as_str().expect("text").contains(detail),
                "{problem}"
            );
            assert!(
                problem["type"]
                    .as_str()
                    .expect("text")
                    .ends_with(reply.header("x-ol-error").expect("a code"))
            );
            assert!(problem["title"].is_string());
        }
        assert_eq!(
            worker
                .request("GET", "/run/nobody", b"")
                .header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    });
}

#[test]
fn names_that_can_not_be() {
    with_worker(&[], |worker| {
        for name in ["..", ".", "a%20b", "a%2fb", "%00", "a~b", ""] {
            let reply = worker.request("GET", &format!("/run/{name}"), b"");
            assert_eq!(reply.status, 400, "{name}: {}", reply.text());
        }
        for name in ["a-b_c.d9", "A", "..."] {
            worker.install(name, &[("f.py", ECHO)]);
            assert_eq!(worker.call(name, &json!(1)).ok(), json!(1), "{name}");
        }
    });
}

/// Bodies larger than any buffer on their way, told by length or in chunks, there and back.
#[test]
fn large_bodies() {
    with_worker(&[], |worker| {
        worker.install(
            "echo",
            &[("f.py", ECHO), ("ol.yaml", "limits: {mem_mb: 256}\n")],
        );
        let text: String = (0..300_000).map(|number| format!("{number:07},")).collect();
        let event = json!({ "text": text }).to_string();
        assert!(event.len() > 2 << 20);
        let whole = worker.request("POST", "/run/echo", event.as_bytes());
        assert!(
            whole.ok()["text"] == text.as_str(),
            "a large body came back changed"
        );
        let pieces: Vec<&[u8]> = event.as_bytes().chunks(70_001).collect();
        let mut connection = worker.connect();
        let chunked = connection
            .request_in_chunks("POST", "/run/echo", &pieces)
            .expect("an answer");
        assert!(
            chunked.ok()["text"] == text.as_str(),
            "a chunked body came back changed"
        );
        let small = connection
            .request_in_chunks("POST", "/run/echo", &[b"[1", b",2", b"]"])
            .expect("an answer");
        assert_eq!(small.ok(), json!([1, 2]));
        let empty = connection
            .request_in_chunks("POST", "/run/echo", &[])
            .expect("an answer");
        assert_eq!(empty.ok(), json!({}));
    });
}

#[test]
fn a_body_over_the_limit() {
    with_worker(&["max_body_mb=1"], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        let mut connection = worker.connect();
        connection
            .send_part("POST", "/run/echo", (1 << 20) + 1, b"")
            .expect("sent");
        let text = connection
            .reply()
            .expect("an answer")
            .error(413, "too-large");
        assert!(text.contains("max_body_mb"), "{text}");
        let mebibyte = format!("\"{}\"", "x".repeat((1 << 20) - 2));
        assert_eq!(
            worker
                .request("POST", "/run/echo", mebibyte.as_bytes())
                .status,
            200
        );
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
    });
}

/// A body that breaks off is no call, and the sandbox serves the next one.
#[test]
fn a_body_that_breaks_off() {
    with_worker(&[], |worker| {
        let count = "n = 0\ndef f(event):\n    global n\n    n += 1\n    return n\n";
        worker.install("count", &[("f.py", count)]);
        assert_eq!(worker.call("count", &json!(1)).ok(), json!(1));
        for (length, sent) in [(10, 3), (200_000, 100_000), (3 << 20, 1 << 20)] {
            let mut connection = worker.connect();
            connection
                .send_part("POST", "/run/count", length, &vec![b' '; sent])
                .expect("sent");
            connection.finish_sending().expect("open");
            // It may answer 400 or just close; it must not call.
            let answered = connection.reply().map(|reply| reply.status);
            assert!(
                answered.as_ref().map_or(true, |status| *status == 400),
                "{answered:?}"
            );
        }
        assert_eq!(worker.call("count", &json!(1)).ok(), json!(2));
    });
}

#[test]
fn one_connection_for_many_requests() {
    with_worker(&[], |worker| {
        worker.install("echo", &[("f.py", ECHO)]);
        let mut connection = worker.connect();
        for number in 0..50 {
            let body = number.to_string();
            let reply = connection
                .request("POST", "/run/echo", &[], body.as_bytes())
                .expect("an answer");
            assert_eq!(reply.ok(), json!(number));
            let reply = connection
                .request("GET", "/run/nobody", &[], b"")
                .expect("an answer");
            assert_eq!(reply.status, 404);
        }
        // Sent all at once, answered in their order.
        for number in 0..5 {
            connection
                .send_part("POST", "/run/echo", 1, number.to_string().as_bytes())
                .expect("sent");
        }
        for number in 0..5 {
            assert_eq!(connection.reply().expect("an answer").ok(), json!(number));
        }
        let reply = connection
            .request("GET", "/status", &[("Connection", "close")], b"")
            .expect("an answer");
        assert_eq!(reply.text(), "ready\n");
        connection.expect_end().expect("closed as asked");
    });
}

#[test]
fn the_routes_beside_run() {
    with_worker(&[], |worker| {
        assert_eq!(worker.request("GET", "/registry/", b"").ok(), json!([]));
        let yaml = "environment: {COLOR: blue}\nlimits: {mem_mb: 70}\ntriggers:\n  http: [{method: POST}]\n";
        worker.install(
            "b",
            &[
                (
                    "f.py",
                    "import os\ndef f(event):\n    return os.environ['COLOR']\n",
                ),
                ("ol.yaml", yaml),
            ],
        );
        worker.install("a", &[("f.py", ECHO)]);
        assert_eq!(
            worker.request("GET", "/registry/", b"").ok(),
            json!(["a", "b"])
        );
        assert_eq!(worker.call("b", &json!({})).ok(), json!("blue"));
        let config = worker.request("GET", "/registry/b/config", b"").ok();
        assert_eq!(config["Triggers"]["HTTP"][0]["Method"], "POST", "{config}");
        assert_eq!(config["Environment"]["COLOR"], "blue");
        assert_eq!(config["Granted"]["mem_mb"], 70);
        let debug = worker.request("GET", "/debug", b"").text();
        assert!(
            debug.contains("b\n  sandbox ") && debug.contains("1 calls so far"),
            "{debug}"
        );
        let stats = worker.request("GET", "/stats", b"").ok();
        assert!(
            stats["create.cnt"] == 1 && stats["create.ms-avg"].is_u64(),
            "{stats}"
        );
        assert_eq!(
            stats
                .get("pull-package.cnt")
                .and_then(Value::as_u64)
                .unwrap_or(0),
            0
        );
    });
}
