//! Every kind of function on every supported Python: 3.9, 3.11 and 3.13 of three Debian releases.

use ol_testkit::{Worker, bases, eventually, in_place};
use serde_json::json;

const F: &str = r#"
import multiprocessing, sys

def double(n):
    return 2 * n

def f(event):
    print("called with", event)
    if event == "raise":
        raise KeyError("on purpose")
    with multiprocessing.Pool(2) as pool:
        return ["%d.%d" % sys.version_info[:2], pool.map(double, event)]
"#;

const WSGI: &str = r#"
from wsgiref.validate import validator

@validator
def app(environ, start_response):
    start_response("201 Created", [("Content-Type", "text/plain"), ("X-Path", environ["PATH_INFO"])])
    return [environ["REQUEST_METHOD"].encode(), b" ", environ["wsgi.input"].read(1 << 20)]
"#;

const ASGI: &str = r#"
import asyncio

gate = asyncio.Lock()
asked = asyncio.Event()
state = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        state.append("up")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("down", flush=True)
        return await send({"type": "lifespan.shutdown.complete"})
    async with gate:
        state.append(scope["path"])
    if scope["path"] == "/first":
        await asked.wait()
    asked.set()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})
"#;

fn assert_serves_every_kind(worker: &Worker<'_>, python: &str) {
    let limits = ("ol.yaml", "limits: {procs: 32, mem_mb: 128}\n");
    worker.install("f", &[("f.py", F), limits]);
    assert_eq!(
        worker.call("f", &json!([1, 2])).ok(),
        json!([python, [2, 4]])
    );
    let raised = worker.call("f", &json!("raise"));
    let id = raised
        .header("x-ol-invocation")
        .expect("a number")
        .to_owned();
    let text = raised.error(500, "raised");
    assert!(
        text.contains("KeyError: 'on purpose'") && !text.contains("/runtime"),
        "{text}"
    );
    eventually("its line in the log", 10.0, || {
        let line = format!("{id}] called with raise");
        worker.log_of("f").contains(&line).then_some(())
    });

    worker.install("wsgi", &[("f.py", WSGI)]);
    let reply = worker.request("POST", "/run/wsgi/a%20b", b"sent");
    assert_eq!((reply.status, reply.text().as_str()), (201, "POST sent"));
    assert_eq!(reply.header("x-path"), Some("/a b"));

    worker.install("asgi", &[("f.py", ASGI), ("ol.yaml", "concurrency: 2\n")]);
    // The first call is answered only if the second reaches the same process meanwhile.
    std::thread::scope(|scope| {
        let first = scope.spawn(|| worker.request("POST", "/run/asgi/first", b"one"));
        eventually("the first to run", 10.0, || {
            let debug = worker.debug();
            let (_, asgi) = debug.split_once("asgi\n  sandbox")?;
            asgi.lines().next()?.contains("1 calls").then_some(())
        });
        let second = worker.request("POST", "/run/asgi/second", &vec![b'x'; 3 << 20]);
        assert_eq!(second.body.len(), 3 << 20);
        assert_eq!(first.join().expect("no panic").text(), "one");
    });
    worker.install("broken", &[("f.py", "def f(event:\n")]);
    let text = worker.call("broken", &json!({})).error(502, "cannot-start");
    assert!(
        text.contains("SyntaxError") && text.contains("/handler/f.py"),
        "{text}"
    );
}

#[test]
fn every_kind_of_function_runs_on_every_python() {
    for (python, root) in bases() {
        in_place(|place| {
            let dir = format!("dir:{}", root.display());
            let said = place.ol(&["worker", "init", "-i", &dir]);
            assert!(said.ok().contains("made"), "{said:?}");
            let worker = place.up(&[]);
            assert_serves_every_kind(&worker, &python);
            let log = place.dir().join("worker/logs/asgi.log");
            worker.down();
            let log = std::fs::read_to_string(log).expect("it printed");
            assert!(log.contains("] down"), "{python}: {log}");
        });
    }
}
