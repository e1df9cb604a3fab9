//! Streamed bodies in both directions.
//!
//! Neither the worker nor the function holds more of a body than fits into its windows, what is written is read soon, and no call
//! waits for another call's body.

use ol_testkit::{Client, Worker, measured, patience, slowness, with_worker};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// `/echo` sends back what comes, as it comes; `/take` counts it; `/give/N` sends N bytes; `/clock` sends the time ten times;
/// `/pid` and every other path answer with the process's pid, whatever the body.
const ASGI: &str = r#"
import asyncio, os, time

async def parts(receive):
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        yield message.get("body", b"")

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    async def start(*headers):
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    async def body(data, more=True):
        await send({"type": "http.response.body", "body": data, "more_body": more})
    if path == "/echo":
        await start()
        async for part in parts(receive):
            await body(part)
        await body(b"", False)
    elif path == "/take":
        count = 0
        async for part in parts(receive):
            count += len(part)
        await start((b"content-type", b"application/json"))
        await body(b"%d" % count, False)
    elif path.startswith("/give/"):
        left = int(path[6:])
        await start((b"content-length", b"%d" % left))
        while left:
            part = b"x" * min(left, 100_000)
            left -= len(part)
            await body(part, left > 0)
    elif path == "/clock":
        await start((b"content-type", b"text/event-stream"))
        for _ in range(10):
            await body(b"data: %.6f\n\n" % time.time())
            await asyncio.sleep(0.03)
        await body(b"", False)
    else:
        await start((b"content-type", b"application/json"))
        await body(b"%d" % os.getpid(), False)
"#;

const WSGI: &str = r#"
import os

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/give":
        start_response("200 OK", [])
        return (b"x" * 65536 for _ in range(int(environ["QUERY_STRING"])))
    if path == "/take":
        count = 0
        while part := environ["wsgi.input"].read(65536):
            count += len(part)
        start_response("200 OK", [("content-type", "application/json")])
        return [b"%d" % count]
    start_response("200 OK", [("content-type", "application/json")])
    return [b"%d" % os.getpid()]
"#;

/// How many bytes each of the large tests transfers, in whole pieces: 1 GiB, less on a slow machine.
fn large() -> u64 {
    let piece = PIECE as u64;
    (1 << 30) / u64::from(slowness()) / piece * piece
}

const PIECE: usize = 1 << 16;

/// Runs `transfer` and reports by how much the worker's memory grew at its peak.
fn measure(worker: &Worker<'_>, what: &str, transfer: impl FnOnce()) {
    let resident = || worker.process.number("VmRSS");
    let before = resident();
    let begun = Instant::now();
    transfer();
    let took = begun.elapsed();
    // The process's peak so far; it is this transfer's, since nothing large was done before.
    let grown = worker.process.number("VmHWM").saturating_sub(before);
    let mib = large() >> 20;
    measured(&format!(
        "{what}: {mib} MiB in {took:.2?}, the worker grew by {grown} KiB"
    ));
    assert!(grown < 16 << 10, "{what}: the worker grew by {grown} KiB");
    assert_eq!(worker.leaves().len(), 1, "the guest lives");
}

/// A piece of a pattern by which any shift or loss of bytes shows.
fn piece_at(at: u64) -> Vec<u8> {
    let words = at / 8..(at + PIECE as u64) / 8;
    words.flat_map(u64::to_le_bytes).collect()
}

fn send_pieces(mut send: impl FnMut(&[u8])) {
    let mut at = 0;
    while at < large() {
        send(&piece_at(at));
        at += PIECE as u64;
    }
}

fn expect_pieces(connection: &mut Client) {
    let mut incoming = connection.incoming().expect("an answer");
    assert_eq!(incoming.head.status, 200);
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < large() {
        incoming.read_exact(&mut piece).expect("all of it");
        assert!(piece == piece_at(at), "changed after {at} bytes");
        at += PIECE as u64;
    }
    assert_eq!(incoming.read(&mut piece).expect("the end"), 0);
}

/// The function has the default memory limit of 50 MiB during the whole transfer.
#[test]
fn a_gibibyte_is_echoed_by_an_asgi_app_in_chunks_and_by_length() {
    with_worker(&[], |worker| {
        worker.install("web", &[("f.py", ASGI)]);
        assert_eq!(worker.request("GET", "/run/web/", b"").status, 200);
        for chunked in [true, false] {
            let what = if chunked {
                "echoed in chunks"
            } else {
                "echoed by length"
            };
            measure(worker, what, || {
                let mut connection = worker.connect();
                thread::scope(|scope| {
                    if chunked {
                        let mut body = connection.outgoing("POST", "/run/web/echo").expect("sent");
                        scope.spawn(move || {
                            send_pieces(|piece| body.chunk(piece).expect("sent"));
                            body.end().expect("sent");
                        });
                    } else {
                        let length = usize::try_from(large()).expect("64 bits");
                        let body = connection.outgoing_of("POST", "/run/web/echo", length);
                        let mut body = body.expect("sent");
                        scope.spawn(move || {
                            send_pieces(|piece| body.write_all(piece).expect("sent"))
                        });
                    }
                    expect_pieces(&mut connection);
                });
            });
        }
    });
}

#[test]
fn a_gibibyte_is_only_sent_or_only_received() {
    with_worker(&[], |worker| {
        let length = usize::try_from(large()).expect("64 bits");
        let take = |path: &str| {
            let mut connection = worker.connect();
            let mut body = connection.outgoing_of("POST", path, length).expect("sent");
            thread::scope(|scope| {
                scope.spawn(|| send_pieces(|piece| body.write_all(piece).expect("sent")));
                assert_eq!(connection.reply().expect("an answer").ok(), json!(length));
            });
        };
        let give = |path: &str| {
            let mut connection = worker.connect();
            connection.send_part("GET", path, 0, b"").expect("sent");
            let mut incoming = connection.incoming().expect("an answer");
            assert_eq!(incoming.count().expect("all of it"), large());
        };
        worker.install("web", &[("f.py", ASGI)]);
        measure(worker, "taken by ASGI", || take("/run/web/take"));
        measure(worker, "given by ASGI", || {
            give(&format!("/run/web/give/{length}"))
        });
        worker.install("web", &[("f.py", WSGI)]);
        assert_eq!(worker.request("GET", "/run/web/", b"").status, 200);
        measure(worker, "taken by WSGI", || take("/run/web/take"));
        measure(worker, "given by WSGI", || {
            give(&format!("/run/web/give?{}", length / PIECE))
        });
    });
}

#[test]
fn an_event_is_with_the_caller_soon_after_it_was_written() {
    with_worker(&[], |worker| {
        worker.install("web", &[("f.py", ASGI)]);
        let mut late = Vec::new();
        for _ in 0..3 {
            let mut connection = worker.connect();
            connection
                .send_part("GET", "/run/web/clock", 0, b"")
                .expect("sent");
            let incoming = connection.incoming().expect("an answer");
            assert_eq!(
                incoming.head.header("content-type"),
                Some("text/event-stream")
            );
            for line in BufReader::new(incoming).lines() {
                let line = line.expect("text");
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .expect("after 1970");
                if let Some(written) = line.strip_prefix("data: ") {
                    let written = Duration::from_secs_f64(written.parse().expect("a time"));
                    late.push(now.saturating_sub(written));
                }
            }
        }
        assert_eq!(late.len(), 30);
        let first = late[0];
        late.sort();
        let (median, worst) = (late[15], late[29]);
        measured(&format!(
            "events came {median:?} after they were written, at worst {worst:?}, the first {first:?}"
        ));
        assert!(median < patience(0.05), "{late:?}");
        assert!(worst < patience(1.0), "{late:?}");
    });
}

/// The answer to each part is there before the next part is sent.
#[test]
fn a_conversation_within_one_request() {
    with_worker(&[], |worker| {
        worker.install("web", &[("f.py", ASGI)]);
        let mut connection = worker.connect();
        let mut body = connection.outgoing("POST", "/run/web/echo").expect("sent");
        // The head of an app's answer is sent with the first part of the body.
        body.chunk(b"one").expect("sent");
        let mut incoming = connection.incoming().expect("an answer");
        for word in ["one", "two", "three"] {
            if word != "one" {
                body.chunk(word.as_bytes()).expect("sent");
            }
            let mut said = vec![0; word.len()];
            incoming.read_exact(&mut said).expect("an answer");
            assert_eq!(said, word.as_bytes());
        }
        body.end().expect("sent");
        assert_eq!(incoming.count().expect("its end"), 0);
    });
}

/// An app that answers without reading the body can serve the next call.
#[test]
fn an_answer_before_the_body_is_read_leaves_the_instance_usable() {
    with_worker(&[], |worker| {
        worker.install("asgi", &[("f.py", ASGI)]);
        worker.install("wsgi", &[("f.py", WSGI)]);
        for name in ["asgi", "wsgi"] {
            let path = format!("/run/{name}/pid");
            let pid = worker.request("GET", &path, b"").ok();
            for length in [100_000, 3 << 20, 64 << 20] {
                let mut connection = worker.connect();
                connection
                    .send_part("POST", &path, length, &vec![b'x'; 70_000])
                    .expect("sent");
                assert_eq!(
                    connection.reply().expect("an answer").ok(),
                    pid,
                    "{name} {length}"
                );
                drop(connection);
                assert_eq!(
                    worker.request("GET", &path, b"").ok(),
                    pid,
                    "{name} {length}"
                );
            }
            // This client sends the whole body before it reads.
            let whole = worker.request("POST", &path, &vec![b'x'; 200_000]);
            assert_eq!(whole.ok(), pid, "{name}");
        }
        assert_eq!(worker.count("create"), 2);
    });
}

/// Eight calls at once: one whose client doesn't read, one whose client doesn't send; the others aren't delayed.
#[test]
fn a_slow_reader_and_a_slow_sender_hold_up_nobody() {
    with_worker(&[], |worker| {
        let yaml = "concurrency: 8\ninstances: {max: 1}\n";
        worker.install("web", &[("f.py", ASGI), ("ol.yaml", yaml)]);
        let pid = worker.request("GET", "/run/web/pid", b"").ok();
        let mut reader = worker.connect();
        reader
            .send_part("GET", "/run/web/give/30000000", 0, b"")
            .expect("sent");
        let mut reading = reader.incoming().expect("an answer");
        let mut sender = worker.connect();
        let mut sending = sender.outgoing("POST", "/run/web/take").expect("sent");
        sending.chunk(&vec![b'x'; 300_000]).expect("sent");
        let mut slowest = Duration::ZERO;
        for round in 0..20 {
            let begun = Instant::now();
            assert_eq!(worker.request("GET", "/run/web/pid", b"").ok(), pid);
            let text = vec![b'y'; 50_000 * (round + 1)];
            let reply = worker.request("POST", "/run/web/echo", &text);
            assert!(reply.status == 200 && reply.body == text, "{round}");
            slowest = slowest.max(begun.elapsed());
        }
        measured(&format!(
            "beside two slow ones, a call and an echo of up to 1 MB took at most {slowest:?}"
        ));
        assert!(slowest < patience(1.0), "{slowest:?}");
        sending.chunk(&vec![b'x'; 300_000]).expect("sent");
        sending.end().expect("sent");
        assert_eq!(sender.reply().expect("an answer").ok(), json!(600_000));
        assert_eq!(reading.count().expect("all of it"), 30_000_000);
        assert_eq!(worker.leaves().len(), 1);
    });
}
