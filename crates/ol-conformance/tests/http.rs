//! Answers on the wire, of any size and however they are asked for, and the routes other than `/run`.

use ol_testkit::with_worker;
use serde_json::{Value, json};

const ECHO: &str = "def f(event):\n    return event\n";

/// Bodies larger than any buffer on their way, with a length or in chunks, in both directions.
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
        // All requests are sent at once, and answered in their order.
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
        assert_eq!(config["Environment"]["COLOR"], "***");
        assert_eq!(config["Granted"]["mem_mb"], 70);
        let debug = worker.request("GET", "/debug", b"").text();
        assert!(
            debug.contains("b\n  sandbox ") && debug.contains("1 calls so far"),
            "{debug}"
        );
        let stats = worker.request("GET", "/stats", b"").ok();
        // Each function was started once, when it was installed.
        assert!(
            worker.count("create") == 2 && stats["create.ms-avg"].is_u64(),
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

#[test]
fn metrics_count_each_step_for_prometheus() {
    with_worker(&[], |worker| {
        let text = || worker.request("GET", "/metrics", b"").text();
        let value = |text: &str, start: &str| -> u64 {
            let found = text.lines().find_map(|line| line.strip_prefix(start));
            found.map_or(0, |value| value.trim().parse().expect("a number"))
        };
        let before = text();
        worker.install("echo", &[("f.py", "def f(event):\n    return event\n")]);
        for n in 0..3 {
            assert_eq!(worker.call("echo", &json!(n)).ok(), json!(n));
        }
        let reply = worker.request("GET", "/metrics", b"");
        let kind = reply.header("content-type").expect("it has one").to_owned();
        assert!(
            kind.starts_with("application/openmetrics-text; version=1.0.0"),
            "{kind}"
        );
        assert_eq!(worker.request("GET", "/run/nobody", b"").status, 404);
        let after = text();
        for (start, more) in [
            ("ol_step_seconds_count{step=\"invoke\"} ", 3),
            ("ol_step_seconds_bucket{le=\"+Inf\",step=\"invoke\"} ", 3),
            ("ol_step_seconds_count{step=\"create\"} ", 1),
            ("ol_errors_total{code=\"unknown-function\"} ", 1),
            ("ol_sandboxes ", 1),
            ("ol_waiting_calls ", 0),
        ] {
            let counted = value(&after, start) - value(&before, start);
            assert_eq!(counted, more, "{start}\n{after}");
        }
    });
}
