//! Encoded request bodies: decoded for `f(event)` in bounded memory, or refused with a reason; web apps get them as they were sent.

use ol_testkit::bundle::gzip;
use ol_testkit::{Reply, Worker, with_worker};
use serde_json::json;

fn send(worker: &Worker<'_>, name: &str, encoding: &str, body: &[u8]) -> Reply {
    let headers = [("Content-Encoding", encoding)];
    let reply = worker
        .connect()
        .request("POST", &format!("/run/{name}"), &headers, body);
    reply.expect("an answer")
}

const LENGTH: &str = "def f(event):\n    return len(event)\n";

#[test]
fn a_body_in_gzip_is_decoded() {
    with_worker(&[], |worker| {
        worker.install("f", &[("f.py", "def f(event):\n    return event\n")]);
        let event = json!({"a": [1, "\u{e9}"]});
        let packed = gzip(event.to_string().as_bytes());
        for encoding in ["gzip", "GZIP", "x-gzip", "identity, gzip"] {
            assert_eq!(
                send(worker, "f", encoding, &packed).ok(),
                event,
                "{encoding}"
            );
        }
        let plain = event.to_string();
        assert_eq!(send(worker, "f", "identity", plain.as_bytes()).ok(), event);
        assert_eq!(send(worker, "f", "gzip", b"").ok(), json!({}));
        // Several gzip members make one body (RFC 1952, 2.2).
        let two = [gzip(b"[1,"), gzip(b" 2]")].concat();
        assert_eq!(send(worker, "f", "gzip", &two).ok(), json!([1, 2]));
        // Large enough to come in parts even when it is compressed.
        worker.install("length", &[("f.py", LENGTH)]);
        let mut number = 1_u32;
        let noise: String = (0..1_000_000)
            .map(|_| {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from(b'a' + u8::try_from(number >> 28).expect("four bits"))
            })
            .collect();
        let packed = gzip(json!(noise).to_string().as_bytes());
        assert!(packed.len() > 300_000);
        assert_eq!(
            send(worker, "length", "gzip", &packed).ok(),
            json!(noise.len())
        );
    });
}

#[test]
fn what_is_none_is_refused_in_words() {
    with_worker(&["max_body_mb=8"], |worker| {
        worker.install(
            "f",
            &[("f.py", LENGTH), ("ol.yaml", "instances: {max: 1}\n")],
        );
        let packed = gzip(b"[1, 2]");
        assert_eq!(send(worker, "f", "gzip", &packed).ok(), json!(2));
        let made = worker.count("create");
        for body in [&b"[1, 2]"[..], &packed[..packed.len() - 1], &packed[..1]] {
            let text = send(worker, "f", "gzip", body).error(400, "bad-request");
            assert!(text.contains("Content-Encoding is gzip"), "{text}");
        }
        for encoding in ["br", "deflate", "zstd", "gzip, gzip", "gzip, br", "\u{e9}"] {
            let reply = send(worker, "f", encoding, &packed);
            let text = reply.error(415, "unknown-encoding");
            assert!(
                text.contains("send the body as it is, or as gzip"),
                "{text}"
            );
            assert_eq!(reply.header("accept-encoding"), Some("gzip, identity"));
        }
        // Decompression bombs: refused with the limit, and the sandbox lives.
        let bomb = gzip(&vec![b' '; 64 << 20]);
        assert!(bomb.len() < 100_000);
        let text = send(worker, "f", "gzip", &bomb).error(413, "too-large");
        assert!(
            text.contains("8388608 bytes") && text.contains("max_body_mb"),
            "{text}"
        );
        let pieces = gzip(&vec![b' '; 1 << 20]).repeat(64);
        let _ = send(worker, "f", "gzip", &pieces).error(413, "too-large");
        let crumbs = gzip(b"").repeat(2000);
        let text = send(worker, "f", "gzip", &crumbs).error(400, "bad-request");
        assert!(text.contains("more than 1000 parts"), "{text}");
        assert_eq!(send(worker, "f", "gzip", &packed).ok(), json!(2));
        assert_eq!(worker.count("create"), made, "its sandbox lives");
    });
}

/// By default the function's memory limit bounds what is decoded.
#[test]
fn a_bomb_meets_the_functions_memory() {
    with_worker(&[], |worker| {
        worker.install("f", &[("f.py", LENGTH)]);
        let made = worker.count("create");
        let bomb = gzip(&vec![b' '; 40 << 20]);
        let text = send(worker, "f", "gzip", &bomb).error(413, "too-large");
        assert!(text.contains("limits.mem_mb"), "{text}");
        assert_eq!(send(worker, "f", "gzip", &gzip(b"[1]")).ok(), json!(1));
        assert_eq!(worker.count("create"), made, "its sandbox lives");
    });
}

#[test]
fn a_web_app_gets_its_body_as_it_was_sent() {
    with_worker(&[], |worker| {
        let source = "
def app(environ, start_response):
    body = environ['wsgi.input'].read()
    start_response('200 OK', [('x-told', environ['HTTP_CONTENT_ENCODING'])])
    return [body]
";
        worker.install("app", &[("f.py", source)]);
        let packed = gzip(b"[1]");
        for (encoding, body) in [("gzip", &packed[..]), ("br", b"whatever")] {
            let reply = send(worker, "app", encoding, body);
            assert_eq!((reply.status, &reply.body[..]), (200, body));
            assert_eq!(reply.header("x-told"), Some(encoding));
        }
    });
}
