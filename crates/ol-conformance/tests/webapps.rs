//! Web apps: which one is found in a bundle, what it is told of a request, and what of its answer arrives.

use ol_testkit::{Reply, Worker, with_worker};
use serde_json::{Value, json};

/// Returns what a WSGI app is told by PEP 3333.
const WSGI: &str = r#"
import json

def app(environ, start_response):
    told = {key: value for key, value in environ.items() if isinstance(value, str)}
    told["body"] = environ["wsgi.input"].read().decode()
    start_response("201 Made", [("content-type", "application/json"), ("x-twice", "1"), ("X-Twice", "2")])
    return [json.dumps(told).encode()]

application = app

def other(environ, start_response):
    start_response("200 OK", [("content-type", "application/json")])
    return [b'"other"']
"#;

/// Returns what an ASGI app is told.
const ASGI: &str = r#"
import json

started = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            started.append(kind)
            if kind == "lifespan.shutdown":
                print("the app was told of its end", flush=True)
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    told = {key: scope[key] for key in ("type", "http_version", "method", "scheme", "path", "root_path")}
    told["raw_path"] = scope["raw_path"].decode()
    told["query"] = scope["query_string"].decode()
    told["headers"] = [[k.decode(), v.decode()] for k, v in scope["headers"]]
    told["client"], told["server"], told["started"] = scope["client"], scope["server"], started
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message.get("more_body", False)
    told["body"] = body.decode()
    headers = [(b"content-type", b"application/json"), (b"x-twice", b"1"), (b"x-twice", b"2")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})

async def other(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'"other"'})
"#;

fn ask(worker: &Worker<'_>, path: &str) -> Reply {
    let headers = [
        ("X-Mine", "a"),
        ("X-Mine", "b"),
        ("Content-Type", "text/plain"),
    ];
    let mut connection = worker.connect();
    let reply = connection.request("PUT", path, &headers, b"hello");
    let reply = reply.expect("an answer");
    assert_eq!(reply.status, 201, "{}", reply.text());
    let twice = reply.headers.iter().filter(|(name, _)| name == "x-twice");
    let twice: Vec<_> = twice.map(|(_, value)| value.as_str()).collect();
    assert_eq!(twice, ["1", "2"]);
    reply
}

#[test]
fn what_a_wsgi_app_is_told() {
    with_worker(&[], |worker| {
        worker.install("web", &[("f.py", WSGI)]);
        let told = ask(worker, "/run/web/a%20b/c;d?x=1&y=%2F").json();
        let (host, port) = worker.address.split_once(':').expect("an address");
        for (key, value) in [
            ("REQUEST_METHOD", "PUT"),
            ("SCRIPT_NAME", "/run/web"),
            ("PATH_INFO", "/a b/c;d"),
            ("QUERY_STRING", "x=1&y=%2F"),
            ("CONTENT_TYPE", "text/plain"),
            ("CONTENT_LENGTH", "5"),
            ("HTTP_X_MINE", "a,b"),
            ("HTTP_HOST", &worker.address),
            ("SERVER_PORT", port),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("wsgi.url_scheme", "http"),
            ("body", "hello"),
        ] {
            assert_eq!(told[key], value, "{key}");
        }
        assert!(told["REMOTE_ADDR"].is_string() && !host.is_empty());
        for (path, info) in [
            ("/run/web", "/"),
            ("/run/web/", "/"),
            ("/run/web//x", "//x"),
        ] {
            assert_eq!(ask(worker, path).json()["PATH_INFO"], info, "{path}");
        }
    });
}

#[test]
fn what_an_asgi_app_is_told() {
    with_worker(&[], |worker| {
        worker.install("web", &[("f.py", ASGI)]);
        let told = ask(worker, "/run/web/a%20b/%C3%A9?x=1&y=%2F").json();
        for (key, value) in [
            ("type", json!("http")),
            ("http_version", json!("1.1")),
            ("method", json!("PUT")),
            ("scheme", json!("http")),
            ("path", json!("/a b/é")),
            ("raw_path", json!("/a%20b/%C3%A9")),
            ("root_path", json!("/run/web")),
            ("query", json!("x=1&y=%2F")),
            ("started", json!(["lifespan.startup"])),
            ("body", json!("hello")),
        ] {
            assert_eq!(told[key], value, "{key}");
        }
        let headers = told["headers"].as_array().expect("a list");
        for pair in [
            ["x-mine", "a"],
            ["x-mine", "b"],
            ["content-length", "5"],
            ["host", &worker.address],
        ] {
            assert!(headers.contains(&json!(pair)), "{pair:?}: {headers:?}");
        }
        assert!(told["client"][1].is_u64() && told["server"][1].is_u64());
        // The app is also told of its end, here by a new version, while the worker goes on.
        worker.install("web", &[("f.py", WSGI)]);
        ol_testkit::eventually("the app's last words", 10.0, || {
            worker
                .log_of("web")
                .contains("the app was told of its end")
                .then_some(())
        });
    });
}

/// Bundles, and what GET answers for each: 200 with this JSON, or an error with this text.
#[test]
fn which_app_is_found() {
    let env = |pairs: &str| format!("environment: {{{pairs}}}\n");
    let f = "def f(event):\n    return 'f'\n";
    let both = format!("{f}{WSGI}");
    let installed = std::cell::Cell::new(0);
    with_worker(&[], |worker| {
        let expect = |files: &[(&str, &str)], want: Result<&str, &str>| {
            // Each has a name of its own, because a version that can't be started wouldn't replace one that serves.
            let name = format!("web{}", installed.replace(installed.get() + 1));
            worker.install(&name, files);
            let reply = worker.request("GET", &format!("/run/{name}/"), b"");
            match want {
                Ok(want) => assert_eq!(reply.ok(), json!(want), "{files:?}"),
                Err(part) => {
                    let text = reply.error(502, "cannot-start");
                    assert!(text.contains(part), "{part}: {text}");
                }
            }
        };
        let (wsgi, asgi) = (env("OL_WSGI_ENTRY: other"), env("OL_ASGI_ENTRY: other"));
        expect(&[("f.py", WSGI), ("ol.yaml", &wsgi)], Ok("other"));
        expect(&[("f.py", ASGI), ("ol.yaml", &asgi)], Ok("other"));
        // f serves, unless an app is named.
        expect(&[("f.py", &both)], Ok("f"));
        expect(&[("f.py", &both), ("ol.yaml", &wsgi)], Ok("other"));
        let absent = env("OL_WSGI_ENTRY: absent");
        expect(
            &[("f.py", WSGI), ("ol.yaml", &absent)],
            Err("f.py has no absent (OL_WSGI_ENTRY)"),
        );
        let module = env("OL_WSGI_ENTRY: __name__");
        expect(&[("f.py", WSGI), ("ol.yaml", &module)], Err("not callable"));
        let file = env("OL_ENTRY_FILE: site/main.py, OL_WSGI_ENTRY: other");
        expect(
            &[("site/main.py", WSGI), ("f.py", f), ("ol.yaml", &file)],
            Ok("other"),
        );
        let file = env("OL_ENTRY_FILE: g.py");
        expect(
            &[
                ("g.py", "def f(event):\n    return 'g'\n"),
                ("ol.yaml", &file),
            ],
            Ok("g"),
        );
        expect(&[("f.py", f), ("ol.yaml", &file)], Err("no g.py"));
        // Apps that are objects or classes, as frameworks have them.
        let object = "
class App:
    async def __call__(self, scope, receive, send):
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})
        await send({'type': 'http.response.body', 'body': b'\"object\"'})
app = App()
";
        expect(&[("f.py", object)], Ok("object"));
        let flask = "
class App:
    def __call__(self, environ, start_response):
        return self.wsgi_app(environ, start_response)
    def wsgi_app(self, environ, start_response):
        start_response('200 OK', [('content-type', 'application/json')])
        return [b'\"flask\"']
app = App()
";
        expect(&[("f.py", flask)], Ok("flask"));
        let nested = env("OL_WSGI_ENTRY: app.wsgi_app");
        expect(&[("f.py", flask), ("ol.yaml", &nested)], Ok("flask"));
    });
}

#[test]
fn a_bundled_env_counts_when_ol_yaml_sets_no_environment() {
    let source =
        "import os\ndef f(event):\n    return [os.environ.get('A'), os.environ.get('B')]\n";
    with_worker(&[], |worker| {
        let told = |yaml: Option<&str>| {
            let mut files = vec![("f.py", source), (".env", "A=file\nexport B='of two'\n")];
            files.extend(yaml.map(|yaml| ("ol.yaml", yaml)));
            worker.install("env", &files);
            worker.call("env", &json!({})).ok()
        };
        assert_eq!(told(None), json!(["file", "of two"]));
        assert_eq!(
            told(Some("limits: {mem_mb: 60}\n")),
            json!(["file", "of two"])
        );
        assert_eq!(
            told(Some("environment: {A: yaml}\n")),
            json!(["yaml", null])
        );
        assert_eq!(told(Some("environment: {}\n")), json!([null, null]));
        // The entry may also be named in `.env`.
        let files = [
            ("main.py", source),
            (".env", "OL_ENTRY_FILE=main.py\nA=1\n"),
        ];
        worker.install("env", &files);
        assert_eq!(worker.call("env", &json!({})).ok(), json!(["1", null]));
    });
}

/// A length that an app announces is sent; for HEAD, only the head with that length is sent.
#[test]
fn a_length_that_an_app_says_is_kept() {
    let asgi = r#"
async def app(scope, receive, send):
    length = scope["query_string"]
    headers = [(b"content-length", length)] if length else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["method"] != "HEAD":
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        await send({"type": "http.response.body", "body": b"67890", "more_body": True})
    await send({"type": "http.response.body"})
"#;
    let wsgi = r#"
def app(environ, start_response):
    length = environ["QUERY_STRING"]
    start_response("200 OK", [("content-length", length)] if length else [])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else iter([b"12345", b"67890"])
"#;
    with_worker(&[], |worker| {
        for (name, source) in [("asgi", asgi), ("wsgi", wsgi)] {
            worker.install(name, &[("f.py", source)]);
            let mut connection = worker.connect();
            let path = format!("/run/{name}/");
            let with = format!("{path}?10");
            let reply = connection
                .request("GET", &with, &[], b"")
                .expect("an answer");
            let length = reply.header("content-length");
            assert_eq!(
                (length, reply.text().as_str()),
                (Some("10"), "1234567890"),
                "{name}"
            );
            assert_eq!(reply.header("transfer-encoding"), None, "{name}");
            let reply = connection
                .request("GET", &path, &[], b"")
                .expect("an answer");
            assert_eq!(reply.text(), "1234567890");
            assert_eq!(reply.header("transfer-encoding"), Some("chunked"), "{name}");
            connection.send_part("HEAD", &with, 0, b"").expect("sent");
            let head = connection.reply_head().expect("an answer");
            assert_eq!(
                (head.status, head.header("content-length")),
                (200, Some("10")),
                "{name}"
            );
            // The connection is still usable: the next answer is read from its beginning.
            let reply = connection
                .request("GET", &path, &[], b"")
                .expect("an answer");
            assert_eq!(reply.text(), "1234567890", "{name}");
            // A body that is longer or shorter than announced must not seem complete.
            for length in [9, 11] {
                let mut connection = worker.connect();
                connection
                    .send_part("GET", &format!("{path}?{length}"), 0, b"")
                    .expect("sent");
                let mut incoming = connection.incoming().expect("an answer");
                assert!(incoming.count().is_err(), "{name}: it seems complete");
                connection.expect_end().expect("closed");
            }
            assert_eq!(worker.request("GET", &path, b"").status, 200);
        }
        // A plain function answers HEAD too.
        worker.install("f", &[("f.py", "def f(event):\n    return event\n")]);
        let mut connection = worker.connect();
        connection
            .send_part("HEAD", "/run/f", 3, b"123")
            .expect("sent");
        let head = connection.reply_head().expect("an answer");
        assert_eq!(head.header("content-length"), Some("3"));
        let reply = connection
            .request("POST", "/run/f", &[], b"1")
            .expect("an answer");
        assert_eq!(reply.ok(), Value::from(1));
    });
}

#[test]
fn header_bytes_arrive_as_they_are_and_the_workers_word_is_its_own() {
    with_worker(&[], |worker| {
        let source = r#"
def app(environ, start_response):
    headers = [("X-Name", "caf\u00c3\u00a9"), ("X-OL-Error", "draining"), ("X-OL-Invocation", "forged"), ("Trailer", "x")]
    start_response("503 Service Unavailable", headers)
    return [b"mine"]
"#;
        worker.install("app", &[("f.py", source)]);
        let reply = worker.request("GET", "/run/app", b"");
        assert_eq!((reply.status, reply.text().as_str()), (503, "mine"));
        assert_eq!(reply.header("x-name"), Some("caf\u{e9}"));
        assert_eq!(reply.header("x-ol-error"), None);
        assert_eq!(reply.header("trailer"), None);
        assert_ne!(reply.header("x-ol-invocation"), Some("forged"));
    });
}
