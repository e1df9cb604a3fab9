//! Callers that leave, answers that break off, and work that goes on after an answer: who is told, and what is left behind.

use ol_testkit::process::Process;
use ol_testkit::{Client, Worker, eventually, with_worker};
use rustix::process::Signal;
use serde_json::{Value, json};

/// An ASGI app: `/wait` waits until its caller leaves and notes what it was told, `/stream` writes for ever, `/seen` returns the notes.
const ASGI: &str = r#"
import asyncio, json, os, subprocess

seen = []
begun = []

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    async def answer(data, more=False):
        await send({"type": "http.response.body", "body": data, "more_body": more})
    if path == "/wait":
        begun.append(path)
        message = await receive()
        while message["type"] != "http.disconnect":
            message = await receive()
        seen.append("left")
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    if path == "/stream":
        try:
            while True:
                await answer(b"tick\n", True)
                await asyncio.sleep(0.01)
        except OSError:
            seen.append("closed")
            raise
    elif path == "/break":
        await answer(b"one\n", True)
        await asyncio.sleep(0.05)
        raise KeyError("broke in the middle")
    elif path == "/later":
        await answer(b'"answered"')
        await asyncio.to_thread(subprocess.run, ["sleep", "600"])
        print("the later work is done")
        seen.append("later")
    else:
        await answer(json.dumps([os.getpid(), seen, len(begun)]).encode())
"#;

const WSGI: &str = r#"
import json, os, time

seen = []

def stream():
    try:
        while True:
            yield b"tick\n"
            time.sleep(0.01)
    finally:
        seen.append("closed")

def broken():
    yield b"one\n"
    time.sleep(0.05)
    raise KeyError("broke in the middle")

def app(environ, start_response):
    start_response("200 OK", [("content-type", "application/json")])
    if environ["PATH_INFO"] == "/stream":
        return stream()
    if environ["PATH_INFO"] == "/break":
        return broken()
    return [json.dumps([os.getpid(), seen]).encode()]
"#;

/// Counts its calls, waits if the event says so, and returns what it did.
const F: &str = "
import os, subprocess

did = []

def f(event):
    if event == 'hold':
        subprocess.run(['sleep', '600'])
    did.append(event)
    return [os.getpid(), did]
";

const ONE: (&str, &str) = ("ol.yaml", "instances: {max: 1}\n");

fn begin(worker: &Worker<'_>, path: &str, body: &str) -> Client {
    let mut connection = worker.connect();
    connection
        .send_part("POST", path, body.len(), body.as_bytes())
        .expect("sent");
    connection
}

/// Which process answers, and what it has seen.
fn seen(worker: &Worker<'_>, path: &str) -> (Value, Value) {
    let answer = worker.request("GET", path, b"").ok();
    (answer[0].clone(), answer[1].clone())
}

/// Counts in which a leak would show: the worker's descriptors and its leaves.
fn holdings(worker: &Worker<'_>) -> (usize, usize) {
    (worker.process.descriptors().len(), worker.leaves().len())
}

#[test]
fn a_queued_call_whose_caller_leaves_never_runs_and_a_running_one_finishes_unheard() {
    with_worker(&[], |worker| {
        worker.install("f", &[("f.py", F), ONE]);
        let pid = worker.call("f", &json!("first")).ok()[0].clone();
        let running = begin(worker, "/run/f", "\"hold\"");
        let sleep = worker.program("sleep");
        let queued = begin(worker, "/run/f", "\"queued\"");
        let waits = |count: &str| {
            let waits = worker.debug().contains(&format!("{count} calls waiting"));
            waits.then_some(())
        };
        eventually("it to wait", 5.0, || waits("1"));
        drop(queued);
        eventually("it to be dropped", 5.0, || {
            waits("1").is_none().then_some(())
        });
        drop(running);
        sleep.signal(Signal::KILL);
        let told = worker.call("f", &json!("last")).ok();
        assert_eq!(told, json!([pid, ["first", "hold", "last"]]));
    });
}

#[test]
fn an_asgi_app_hears_that_its_caller_left() {
    with_worker(&[], |worker| {
        let yaml = "instances: {max: 1}\nconcurrency: 2\n";
        worker.install("web", &[("f.py", ASGI), ("ol.yaml", yaml)]);
        let (pid, _) = seen(worker, "/run/web/seen");
        let begins = |count: usize| {
            eventually("it to begin", 5.0, || {
                let answer = worker.request("GET", "/run/web/seen", b"").ok();
                (answer[2] == json!(count)).then_some(())
            });
        };
        let connection = begin(worker, "/run/web/wait", "{}");
        begins(1);
        drop(connection);
        eventually("it to hear", 5.0, || {
            (seen(worker, "/run/web/seen").1 == json!(["left"])).then_some(())
        });
        // This caller leaves before it has sent the whole request.
        let mut connection = worker.connect();
        connection
            .send_part("POST", "/run/web/wait", 1 << 20, &[b' '; 100_000])
            .expect("sent");
        begins(2);
        drop(connection);
        let mut connection = begin(worker, "/run/web/stream", "");
        assert_eq!(connection.incoming().expect("an answer").head.status, 200);
        drop(connection);
        eventually("both to hear", 5.0, || {
            let (now, seen) = seen(worker, "/run/web/seen");
            assert_eq!(now, pid);
            let seen: Vec<_> = seen.as_array().expect("a list").clone();
            (seen.len() == 3 && seen.contains(&json!("closed"))).then_some(())
        });
    });
}

#[test]
fn a_wsgi_iterable_is_closed_when_its_caller_left() {
    with_worker(&[], |worker| {
        worker.install("web", &[("f.py", WSGI), ONE]);
        let (pid, _) = seen(worker, "/run/web/seen");
        let mut connection = begin(worker, "/run/web/stream", "");
        assert_eq!(connection.incoming().expect("an answer").head.status, 200);
        drop(connection);
        assert_eq!(seen(worker, "/run/web/seen"), (pid, json!(["closed"])));
    });
}

#[test]
fn nothing_is_left_of_a_hundred_callers_who_left() {
    with_worker(&[], |worker| {
        let yaml = "instances: {max: 1}\nconcurrency: 4\n";
        worker.install("asgi", &[("f.py", ASGI), ("ol.yaml", yaml)]);
        worker.install("wsgi", &[("f.py", WSGI), ONE]);
        worker.install("f", &[("f.py", F), ONE]);
        let paths = [
            "/run/asgi/wait",
            "/run/asgi/stream",
            "/run/wsgi/stream",
            "/run/f",
        ];
        let leave = |times: usize| {
            for _ in 0..times {
                for path in paths {
                    let mut connection = begin(worker, path, "1");
                    if path.ends_with("stream") {
                        let _ = connection.incoming();
                    }
                    drop(connection);
                }
            }
            for path in ["/run/asgi/seen", "/run/wsgi/seen"] {
                assert_eq!(worker.request("GET", path, b"").status, 200);
            }
            assert_eq!(worker.call("f", &json!("after")).status, 200);
        };
        leave(1);
        let pids: Vec<Process> = worker.leaves().into_iter().map(|(leaf, _)| leaf).collect();
        let before = holdings(worker);
        let threads = worker.process.number("Threads");
        leave(25);
        eventually("descriptors to be closed", 10.0, || {
            (holdings(worker) <= before).then_some(())
        });
        assert!(worker.process.number("Threads") <= threads + 8);
        assert!(pids.iter().all(|leaf| leaf.lives()), "an instance was lost");
        assert!(!worker.debug().contains("waiting"), "{}", worker.debug());
    });
}

/// The status is sent already, so only a cut connection can tell the caller that the answer failed.
#[test]
fn a_fault_in_the_middle_of_an_answer_cuts_it_off() {
    with_worker(&[], |worker| {
        for (name, source) in [("asgi", ASGI), ("wsgi", WSGI)] {
            worker.install(name, &[("f.py", source), ONE]);
            let path = format!("/run/{name}/break");
            let (pid, _) = seen(worker, &format!("/run/{name}/seen"));
            let mut connection = begin(worker, &path, "");
            let mut incoming = connection.incoming().expect("an answer");
            assert_eq!(incoming.head.status, 200);
            let id = incoming.head.header("x-ol-invocation").map(str::to_owned);
            assert!(incoming.count().is_err(), "{name}: it seems complete");
            connection
                .expect_end()
                .expect("and the connection is closed");
            let id = id.expect("every answer has it");
            eventually("the traceback in the log", 10.0, || {
                let log = worker.log_of(name);
                let line = log
                    .lines()
                    .find(|line| line.contains("KeyError: 'broke in"))?;
                assert!(line.contains(&id), "{line}");
                Some(())
            });
            assert_eq!(seen(worker, &format!("/run/{name}/seen")).0, pid);
        }
    });
}

/// If the app were paused 10 ms after its last call, what it does after the answer would never finish.
#[test]
fn what_an_app_does_after_its_answer_is_done() {
    with_worker(&[], |worker| {
        worker.install("web", &[("f.py", ASGI), ONE]);
        let (pid, _) = seen(worker, "/run/web/seen");
        let reply = worker.request("GET", "/run/web/later", b"");
        assert_eq!(reply.ok(), json!("answered"));
        let sleep = worker.program("sleep");
        // The app takes one call at a time, and one is running: the next call waits.
        let mut next = begin(worker, "/run/web/seen", "");
        eventually("the next to wait", 5.0, || {
            worker.debug().contains("1 calls waiting").then_some(())
        });
        sleep.signal(Signal::KILL);
        assert_eq!(
            next.reply().expect("an answer").ok(),
            json!([pid, ["later"], 0])
        );
        // The same without a next call.
        let reply = worker.request("GET", "/run/web/later", b"");
        let id = reply
            .header("x-ol-invocation")
            .expect("every answer has it");
        worker.program("sleep").signal(Signal::KILL);
        eventually("what it printed", 10.0, || {
            let line = format!("{id}] the later work is done");
            worker.log_of("web").contains(&line).then_some(())
        });
    });
}

/// A hard case: the guest can't read while it writes, and the worker's sending task can't stop before the guest reads.
#[test]
fn a_caller_who_leaves_amid_request_and_answer_holds_nothing_up() {
    with_worker(&[], |worker| {
        let source = r#"
import os

def app(environ, start_response):
    start_response("200 OK", [])
    if environ["REQUEST_METHOD"] == "GET":
        return [str(os.getpid()).encode()]
    return (bytes(1 << 22) for _ in range(64))
"#;
        let yaml = "instances: {max: 1}\nlimits: {runtime_sec: 60}\n";
        worker.install("web", &[("f.py", source), ("ol.yaml", yaml)]);
        let before = worker.request("GET", "/run/web", b"").text();
        let mut connection = worker.connect();
        connection
            .send_part("POST", "/run/web", 64 << 20, &vec![b' '; 3 << 20])
            .expect("sent");
        drop(connection);
        let begun = std::time::Instant::now();
        assert_eq!(worker.request("GET", "/run/web", b"").text(), before);
        assert!(
            begun.elapsed() < ol_testkit::patience(10.0),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn a_guest_that_never_listens_can_not_keep_the_worker_from_ending() {
    with_worker(&[], |worker| {
        let source = r#"
import os, struct, time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    os.set_blocking(3, True)
    def frame(kind, flags, payload):
        os.write(3, struct.pack("<IBBHI", len(payload), kind, flags, 0, 1) + payload)
    frame(19, 0, bytes(4))
    for _ in range(1000):
        frame(3, 0, bytes(1 << 18))
    frame(3, 1, b"")
    time.sleep(3600)
"#;
        let yaml = "concurrency: 2\nlimits: {runtime_sec: 60}\n";
        worker.install("deaf", &[("f.py", source), ("ol.yaml", yaml)]);
        assert_eq!(
            worker.request("GET", "/run/deaf", b"").body.len(),
            1000 << 18
        );
        // The fixture ends the worker and counts what is left.
    });
}
