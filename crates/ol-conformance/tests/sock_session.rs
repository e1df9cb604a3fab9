//! What the original OpenLambda's `sock_test.py` does; no request may go unanswered.
//!
//! Fifteen processes, each with one connection that it keeps, make sandboxes and destroy them one after the other, and send a body of
//! four bytes where none is expected.

use ol_testkit::{measured, with_worker};
use serde_json::json;
use std::process::Command;
use std::time::Instant;

/// As in that test, `post(path, None)` sends "null"; `http.client`, which `requests` uses, sends the head in a piece of its own.
const SESSIONS: &str = r#"
import http.client, json, os, sys

host, parent, pairs, processes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def session():
    connection = http.client.HTTPConnection(host, timeout=120)
    def post(path, data=None):
        connection.request("POST", path, json.dumps(data))
        local = connection.sock.getsockname()
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, (path, answer.status, text)
        return local, text
    first = None
    for _ in range(pairs):
        local, made = post("/create", {"code": "", "leaf": True, "parent": parent})
        first = first or local
        post("/destroy/" + made.strip())
        assert local == first, "the connection was another"

children = []
for _ in range(processes):
    child = os.fork()
    if child == 0:
        try:
            session()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
sys.exit(f"{failed} of {processes} sessions lost a request" if failed else 0)
"#;

const PROCESSES: usize = 15;

fn sessions(pairs: usize) {
    with_worker(&["server_mode=sock"], |worker| {
        let reply = worker.request(
            "POST",
            "/create",
            json!({"leaf": false}).to_string().as_bytes(),
        );
        assert_eq!(reply.status, 200, "{}", reply.text());
        let parent = reply.text();
        let begun = Instant::now();
        let said = Command::new("python3")
            .args(["-c", SESSIONS, &worker.address, parent.trim()])
            .args([pairs.to_string(), PROCESSES.to_string()])
            .output()
            .expect("this host has a Python");
        let text = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{text}");
        let requests = 2 * pairs * PROCESSES;
        let took = begun.elapsed();
        measured(&format!(
            "{requests} requests by {PROCESSES} processes, each answered, in {took:.1?}"
        ));
    });
}

#[test]
fn sessions_that_make_and_destroy_lose_no_request() {
    sessions(20);
}

const FORKER: &str = "
import os

def f(event):
    try:
        if os.fork() == 0:
            os._exit(0)
    except OSError as error:
        return type(error).__name__
";

/// Each fork leaves processes in its zygote's cgroup for a moment; they don't count for the zygote's own limit of processes.
#[test]
fn a_zygote_that_may_be_one_process_has_children() {
    with_worker(&["server_mode=sock", "limits.procs=1"], |worker| {
        let create = |order: serde_json::Value| {
            let reply = worker.request("POST", "/create", order.to_string().as_bytes());
            assert_eq!(reply.status, 200, "{}", reply.text());
            reply.text().trim().to_owned()
        };
        let zygote = create(json!({"leaf": false}));
        for _ in 0..20 {
            create(json!({"code": "", "leaf": true, "parent": zygote}));
        }
        // The child itself is limited to its one process all the same.
        let code = worker.place.source("forker", &[("f.py", FORKER)]);
        let leaf = create(json!({"code": code, "leaf": true, "parent": zygote}));
        let said = worker.request("POST", &format!("/run/{leaf}"), b"null");
        assert_eq!(said.ok(), json!("BlockingIOError"));
    });
}

#[test]
#[ignore = "takes minutes; run by make test-long"]
fn a_hundred_thousand_requests_lose_none() {
    sessions(100_000_usize.div_ceil(2 * PROCESSES));
}
