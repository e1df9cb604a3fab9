//! What a function answers, and what of that is sent (RFC 9110, 6.4, 8.6 and 15).
//!
//! Tested for each kind of function, for bodies in one part, in many and without any, and for GET and HEAD; and what becomes of an answer
//! that HTTP doesn't allow.

use ol_testkit::{Client, Reply, Worker, eventually, with_worker};
use serde_json::{Value, json};
use std::io::{self, Read as _};

/// Answers as the request says: `status`, `parts` (their sizes), `length`, further headers; or tells what was wrong with that.
const WSGI: &str = r#"
import os, json

def app(environ, start_response):
    if environ["PATH_INFO"] == "/pid":
        start_response("200 OK", [])
        return [b"%d" % os.getpid()]
    told = json.load(environ["wsgi.input"])
    headers = [tuple(pair) for pair in told.get("headers", [])]
    if "length" in told:
        headers.append(("Content-Length", str(told["length"])))
    try:
        start_response("%d Said" % told["status"], headers)
    except ValueError as error:
        start_response("418 Seen", [])
        return [str(error).encode()]
    parts = [b"x" * size for size in told["parts"]]
    return parts if len(parts) < 2 else iter(parts)
"#;

/// The same as an ASGI app.
const ASGI: &str = r#"
import os, json

async def told_by(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    return json.loads(body)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/pid":
        await send({"type": "http.response.start", "status": 200})
        return await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
    told = await told_by(receive)
    headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in told.get("headers", [])]
    if "length" in told:
        headers.append((b"content-length", str(told["length"]).encode()))
    try:
        await send({"type": "http.response.start", "status": told["status"], "headers": headers})
    except ValueError as error:
        await send({"type": "http.response.start", "status": 418})
        return await send({"type": "http.response.body", "body": str(error).encode()})
    parts = told["parts"] or [0]
    for number, size in enumerate(parts, 1):
        await send({"type": "http.response.body", "body": b"x" * size, "more_body": number < len(parts)})
"#;

/// Turns either app into a hostile guest, whose runtime doesn't check the answers any more.
const HOSTILE: &str = r#"
import sys
def unheeded():
    webapp = sys.modules["_ol_webapp"]
    webapp.checked_status = lambda status: status
    webapp.checked_headers = lambda pairs: None
    webapp.Measure.take = lambda self, size, last: None
honest = app
"#;

const HOSTILE_WSGI: &str = r"
def app(environ, start_response):
    unheeded()
    return honest(environ, start_response)
";

const HOSTILE_ASGI: &str = r#"
import asyncio
go = None

async def app(scope, receive, send):
    global go
    unheeded()
    if scope["type"] != "http":
        return
    go = go or asyncio.Event()
    if scope["path"] == "/hold":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"held", "more_body": True})
        await go.wait()
        return await send({"type": "http.response.body", "body": b" on"})
    if scope["path"] == "/go":
        go.set()
    await honest(scope, receive, send)
"#;

/// What a client read of one answer.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    status: u16,
    length: Option<String>,
    chunked: bool,
    /// How long its body is; `None` if it is incomplete.
    body: Option<usize>,
}

/// Reads an answer as any client must: by its method and status first (RFC 9112, 6.3).
fn read(connection: &mut Client, method: &str) -> io::Result<(Reply, Option<usize>)> {
    let mut incoming = connection.incoming()?;
    let head = incoming.head.clone();
    if method == "HEAD" || matches!(head.status, 204 | 304) {
        return Ok((head, Some(0)));
    }
    let mut body = Vec::new();
    let whole = incoming.read_to_end(&mut body).is_ok();
    Ok((head, whole.then_some(body.len())))
}

fn ask(connection: &mut Client, method: &str, name: &str, told: &Value) -> (Reply, Got) {
    let (path, body) = (format!("/run/{name}/"), told.to_string());
    connection
        .send_part(method, &path, body.len(), body.as_bytes())
        .expect("sent");
    let (head, body) = read(connection, method).expect("an answer");
    let got = Got {
        status: head.status,
        length: head.header("content-length").map(str::to_owned),
        chunked: head.header("transfer-encoding").is_some(),
        body,
    };
    (head, got)
}

/// What a client must get if the function answers with these `parts` and announces `length`.
fn due(method: &str, status: u16, parts: &[usize], length: Option<usize>) -> Got {
    let sum: usize = parts.iter().sum();
    let whole = parts.len() < 2;
    let got = |status, length: Option<usize>, chunked, body| Got {
        status,
        length: length.map(|length| length.to_string()),
        chunked,
        body,
    };
    match (status, method) {
        (204 | 304, _) => got(status, None, false, Some(0)),
        (205, _) => got(status, Some(0), false, Some(0)),
        // The length that GET would have had, if it is known.
        (_, "HEAD") => {
            let known = length.or_else(|| Some(sum).filter(|sum| whole && *sum > 0));
            got(status, known, false, Some(0))
        }
        _ if length.is_none_or(|length| length == sum) => {
            let length = if whole { Some(sum) } else { length };
            got(status, length, !whole && length.is_none(), Some(sum))
        }
        // Nothing of the answer was sent yet, so the error can be told by a status.
        _ if whole => got(502, None, false, None),
        // The first part alone has the announced length, so the client has a complete body when the worker cuts off the surplus.
        _ if length.is_some_and(|length| length == parts[0]) => got(status, length, false, length),
        // The status was sent: only a cut connection can tell the client.
        _ => got(status, length, false, None),
    }
}

/// The table: kind × method × status × parts × length.
fn follow_the_table(worker: &Worker<'_>, name: &str) {
    let mut connection = worker.connect();
    for method in ["GET", "HEAD", "POST"] {
        for status in [200, 201, 204, 205, 304, 404, 599, 999] {
            for parts in [&[][..], &[5], &[3, 2], &[100_000, 1]] {
                let sum: usize = parts.iter().sum();
                for length in [None, Some(sum), Some(sum + 25), sum.checked_sub(1)] {
                    let mut told = json!({"status": status, "parts": parts});
                    if let Some(length) = length {
                        told["length"] = length.into();
                    }
                    let (head, mut got) = ask(&mut connection, method, name, &told);
                    let due = due(method, status, parts, length);
                    let what = format!("{name}: {method} {told}");
                    if due.status == 502 {
                        assert_eq!(head.header("x-ol-error"), Some("bad-answer"), "{what}");
                        (got.length, got.body) = (None, None);
                    } else {
                        assert_eq!(head.header("content-type"), None, "{what}");
                    }
                    let cut = got.body.is_none() && due.status != 502;
                    if cut && length.is_some_and(|length| parts.first() == Some(&length)) {
                        got.body = due.body;
                    }
                    assert_eq!(got, due, "{what}");
                    if cut {
                        connection.expect_end().expect(&what);
                        connection = worker.connect();
                    }
                }
            }
        }
    }
}

#[test]
fn what_wsgi_apps_answer() {
    with_worker(&[], |worker| {
        worker.install("wsgi", &[("f.py", WSGI)]);
        follow_the_table(worker, "wsgi");
    });
}

#[test]
fn what_asgi_apps_answer() {
    with_worker(&[], |worker| {
        worker.install("asgi", &[("f.py", ASGI)]);
        follow_the_table(worker, "asgi");
        // Answers of an app that takes several calls at once are sent in windows; nothing else differs.
        worker.install("many", &[("f.py", ASGI), ("ol.yaml", "concurrency: 16\n")]);
        follow_the_table(worker, "many");
    });
}

/// If the guest doesn't check its answers, the worker alone enforces the same rules.
#[test]
fn what_hostile_guests_answer() {
    with_worker(&[], |worker| {
        for (name, parts) in [
            ("wsgi", [WSGI, HOSTILE, HOSTILE_WSGI]),
            ("asgi", [ASGI, HOSTILE, HOSTILE_ASGI]),
        ] {
            worker.install(name, &[("f.py", &parts.concat())]);
            follow_the_table(worker, name);
        }
    });
}

#[test]
fn what_plain_functions_answer() {
    with_worker(&[], |worker| {
        let source = "def f(event):\n    return 'x' * event\n";
        worker.install("f", &[("f.py", source)]);
        let mut connection = worker.connect();
        for size in [0_usize, 5, 300_000] {
            for method in ["POST", "HEAD"] {
                let body = size.to_string();
                connection
                    .send_part(method, "/run/f", body.len(), body.as_bytes())
                    .expect("sent");
                let (head, body) = read(&mut connection, method).expect("an answer");
                assert_eq!(head.status, 200);
                assert_eq!(head.header("content-type"), Some("application/json"));
                let sent = if method == "HEAD" { 0 } else { size + 2 };
                assert_eq!(body, Some(sent), "{method} {size}");
                if size < 300_000 {
                    let length = (size + 2).to_string();
                    assert_eq!(head.header("content-length"), Some(length.as_str()));
                }
            }
        }
    });
}

/// Answers that HTTP doesn't allow: (status, headers, a part of the error's text).
fn not_allowed() -> Vec<(i64, Vec<[String; 2]>, &'static str)> {
    let pair = |name: &str, value: &str| vec![[name.to_owned(), value.to_owned()]];
    let mut all: Vec<_> = [0, 99, 100, 101, 103, 199, 1000, 100_000]
        .map(|status| (status, Vec::new(), "200 to 999"))
        .into();
    let lines = |count: usize| (0..count).map(|n| [format!("x-{n}"), "1".to_owned()]);
    all.push((200, lines(101).collect(), "101 header lines"));
    all.push((200, lines(5000).collect(), "5000 header lines"));
    all.push((200, pair("x-long", &"y".repeat(65_536)), "bytes"));
    for name in ["", "a b", "a:b", "a\r\nb", "caf\u{e9}", "a\0"] {
        all.push((200, pair(name, "1"), "is no name of a header"));
    }
    for value in ["a\r\nb: c", "a\r\n b", "a\nb", "a\0b", "\u{7f}", "\u{1}"] {
        all.push((200, pair("x-value", value), "x-value holds"));
    }
    for length in ["many", "-1", "+1", "1.0", ""] {
        all.push((200, pair("content-length", length), "is no number of bytes"));
    }
    all
}

/// The Python runtime checks the answer first, so that the app itself gets an exception.
#[test]
fn an_app_sees_what_is_wrong_with_its_answer() {
    with_worker(&[], |worker| {
        for (name, source) in [("wsgi", WSGI), ("asgi", ASGI)] {
            worker.install(name, &[("f.py", source)]);
            for (status, headers, part) in not_allowed() {
                let told = json!({"status": status, "headers": headers, "parts": [1]});
                let reply = worker.call(name, &told);
                let text = reply.text();
                assert_eq!(reply.status, 418, "{name} {status}: {text}");
                assert!(text.contains(part), "{name}: {part}: {text}");
            }
        }
    });
}

/// The worker checks the answers of a hostile guest: it refuses this one call and logs why, and the other calls go on.
#[test]
fn an_answer_that_can_not_be_sent_is_refused_alone() {
    with_worker(&[], |worker| {
        let source = [ASGI, HOSTILE, HOSTILE_ASGI].concat();
        // One call is held for as long as all the others take together.
        let yaml = "concurrency: 16\ninstances: {max: 1}\nlimits: {runtime_sec: 300}\n";
        worker.install("app", &[("f.py", &source), ("ol.yaml", yaml)]);
        let pid = || worker.request("GET", "/run/app/pid", b"").text();
        let before = pid();
        let mut neighbour = worker.connect();
        neighbour
            .send_part("GET", "/run/app/hold", 0, b"")
            .expect("sent");
        let mut held = neighbour.incoming().expect("an answer");
        let mut said = [0; 4];
        held.read_exact(&mut said).expect("a part");
        assert_eq!(&said, b"held");
        for (status, headers, part) in not_allowed() {
            // Also with a long body, which the worker has to read and discard, or the guest would block on it.
            for parts in [vec![1], vec![100_000; 8]] {
                let told = json!({"status": status, "headers": headers, "parts": parts});
                let text = worker.call("app", &told).error(502, "bad-answer");
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        eventually("the log", 10.0, || {
            let log = worker.log_of("app");
            let all = ["status is 103", "101 header lines", "x-value holds"];
            all.iter().all(|part| log.contains(part)).then_some(())
        });
        let _ = worker.call("app/go", &json!({"status": 200, "parts": [1]}));
        let mut rest = Vec::new();
        held.read_to_end(&mut rest).expect("the rest");
        assert_eq!(rest, b" on");
        assert_eq!(pid(), before, "the sandbox lives");
    });
}

/// `errors: short` keeps tracebacks, and the paths in them, from callers; the log has them.
#[test]
fn callers_are_told_as_much_of_errors_as_the_owner_wants() {
    let raises = "def f(event):\n    raise ValueError('between us')\n";
    let cuts = "
def app(environ, start_response):
    start_response('200 OK', [('Content-Length', '9')])
    return [b'between us']
";
    let sources = [
        ("raises", raises, 500, "raised"),
        ("breaks", "import between_us\n", 502, "cannot-start"),
        ("cuts", cuts, 502, "bad-answer"),
    ];
    let secret = |text: &str| {
        ["between", "/handler", "Traceback"]
            .iter()
            .any(|s| text.contains(s))
    };
    for (option, yaml, short) in [
        ("errors=full", "errors: short\n", true),
        ("errors=short", "", true),
        ("errors=short", "errors: full\n", false),
        ("errors=full", "", false),
    ] {
        with_worker(&[option], |worker| {
            for (name, source, status, code) in sources {
                worker.install(name, &[("f.py", source), ("ol.yaml", yaml)]);
                let reply = worker.call(name, &json!({}));
                let text = reply.error(status, code);
                let id = reply.header("x-ol-invocation").expect("an id").to_owned();
                if short {
                    assert!(text.contains(&id) && !secret(&text), "{text}");
                    assert_eq!(text.lines().count(), 1, "{text}");
                } else {
                    assert!(name == "cuts" || secret(&text), "{text}");
                }
                eventually("the log", 10.0, || {
                    let log = worker.log_of(name);
                    let whole = secret(&log) || name == "cuts" && log.contains("Content-Length");
                    (whole && log.contains(&id)).then_some(())
                });
            }
        });
    }
}
