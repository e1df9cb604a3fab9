//! A real pip in a function with a network installs from an index outside of the host, by its name.
//!
//! The function doesn't reach what it must not, though something listens there. Each test makes network namespaces of its own for that.

use ol_testkit::index::{pypi_wheel, uv};
use ol_testkit::network::{HOST_PORT, PUBLIC_PORT, in_world, rules, sh};
use ol_testkit::{PackageIndex, Worker, eventually, wheel};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

const PIP: &str = "25.1.1";

/// Runs pip, or connects to an address.
const USER: &str = r#"
import errno, os, pip, socket, subprocess, sys

def f(event):
    if 'pip' in event:
        path = os.path.dirname(os.path.dirname(pip.__file__))
        done = subprocess.run(
            [sys.executable, '-m', 'pip', '--version' if event['pip'] is None else 'install', *(event['pip'] or [])],
            capture_output=True, text=True, env={'PYTHONPATH': path, 'HOME': '/tmp'})
        return {'code': done.returncode, 'said': done.stdout + done.stderr}
    if 'import' in event:
        sys.path.insert(0, '/tmp/' + event['from'])
        return __import__(event['import']).word
    to = event['to']
    try:
        with socket.socket(socket.AF_UNIX if isinstance(to, str) else socket.AF_INET) as s:
            s.settimeout(2)
            s.connect(to if isinstance(to, str) else tuple(to))
            s.sendall(event.get('say', 'GET / HTTP/1.0\r\n\r\n').encode())
            return s.recv(1000).decode()
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
"#;

/// Answers on port 7000 while its only call lasts, which is until something sends it `end`.
const PEER: &str = r#"
import socket

def f(event):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(('203.0.113.5', 9))
    print('at', s.getsockname()[0], flush=True)
    listener = socket.create_server(('0.0.0.0', 7000))
    said = b''
    while said != b'end':
        c = listener.accept()[0]
        with c:
            said = c.recv(1000)
            c.sendall(b'peer')
"#;

/// Ends by its time limit, if by nothing else.
const PEER_YAML: &str = "network: egress\nlimits:\n  runtime_sec: 120\n";
const USER_YAML: &str = "network: egress\nlimits:\n  mem_mb: 256\n  procs: 32\n  runtime_sec: 60\n";

/// Has pip install the package `word` into `/tmp/FOLDER` from this index.
fn pip_install(worker: &Worker<'_>, host: &str, port: u16, folder: &str) -> Value {
    let arguments = json!([
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--retries=0",
        "--timeout=3",
        format!("--index-url=http://{host}:{port}/simple"),
        format!("--trusted-host={host}"),
        format!("--target=/tmp/{folder}"),
        "word"
    ]);
    worker.call("user", &json!({ "pip": arguments })).ok()
}

/// What the function `user` gets as an answer from there.
fn reach(worker: &Worker<'_>, to: &Value) -> String {
    let said = worker.call("user", &json!({ "to": to })).ok();
    said.as_str().expect("text").to_owned()
}

fn refused(said: &str) -> bool {
    matches!(said, "EHOSTUNREACH" | "TimeoutError" | "ECONNREFUSED")
}

fn talk(mut stream: impl std::io::Read + std::io::Write) -> String {
    let mut said = String::new();
    let _ = stream.write_all(b"GET /pid HTTP/1.0\r\n\r\n");
    let _ = stream.read_to_string(&mut said);
    said
}

/// Addresses that must not be reached, at each of which something listens.
fn forbidden(port: u16, peer: &str) -> Vec<Value> {
    let mut all = vec![json!([peer, 7000])];
    // The worker and another service, by each of the host's addresses.
    for host in ["203.0.113.1", "192.0.2.77"] {
        all.extend([json!([host, port]), json!([host, HOST_PORT])]);
    }
    // Metadata and private networks.
    for host in ["169.254.169.254", "10.9.9.9", "192.168.7.7"] {
        all.push(json!([host, PUBLIC_PORT]));
    }
    all
}

#[test]
fn pip_reaches_its_index_and_nothing_that_it_must_not() {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Fetched before the test's network namespaces are entered, from which PyPI can't be reached.
    let (installer, pip) = (uv(kept), pypi_wheel(kept, "pip", PIP));
    in_world(|place, world| {
        place.find_first(&installer);
        let (listener, at) = world.listen();
        let index = PackageIndex::on(listener, at);
        index.add(pip);
        index.add(
            wheel("word", "1.0")
                .file("word.py", "word = 'installed'\n")
                .build(),
        );
        let mirror = format!("pip_mirror={}", index.url());
        let resolver = "network.resolvers=[\"203.0.113.5\"]";
        let worker = place.up(&[resolver, "worker_url=0.0.0.0", &mirror]);
        let wanted = format!("pip=={PIP}\n");
        worker.install(
            "user",
            &[
                ("f.py", USER),
                ("ol.yaml", USER_YAML),
                ("requirements.txt", &wanted),
            ],
        );
        worker.install("peer", &[("f.py", PEER), ("ol.yaml", PEER_YAML)]);
        // A call that lasts: a function without a running call is paused, and couldn't answer.
        let mut serving = worker.connect();
        serving
            .send_part("POST", "/run/peer", 4, b"null")
            .expect("sent");
        let peer = eventually("a peer that listens", 20.0, || {
            let log = worker.log_of("peer");
            let (_, address) = log.split_once("at ")?;
            Some(address.lines().next()?.to_owned())
        });

        let version = worker.call("user", &json!({"pip": null})).ok();
        let said = version["said"].as_str().expect("text");
        assert!(
            said.starts_with(&format!("pip {PIP} from /packages/")),
            "{said}"
        );
        let done = pip_install(&worker, "public.example", at.port(), "a");
        assert_eq!(done["code"], 0, "{done}");
        let word = json!({"import": "word", "from": "a"});
        assert_eq!(worker.call("user", &word).ok(), "installed");
        assert_eq!(index.requests("word-1.0-py3-none-any.whl"), 1);
        assert_eq!(index.requests("/simple/word/"), 1);

        // The same index also listens at private addresses, where it isn't reached.
        let private = |folder: &str| pip_install(&worker, "10.9.9.9", at.port(), folder);
        let done = private("b");
        assert_ne!(done["code"], 0, "{done}");
        assert_eq!(index.requests("/simple/word/"), 1, "{:?}", index.asked());
        let port = worker.address.rsplit_once(':').expect("host:port").1;
        let port: u16 = port.parse().expect("a number");
        let all = forbidden(port, &peer);
        for to in &all {
            let said = reach(&worker, to);
            assert!(refused(&said), "{to}: {said}");
        }
        // The function's loopback isn't the host's, and the worker's socket file isn't visible in the sandbox.
        assert_eq!(reach(&worker, &json!(["127.0.0.1", port])), "ECONNREFUSED");
        let socket = place.dir().join("worker/ol.sock");
        assert_eq!(reach(&worker, &json!(socket)), "ENOENT");
        let pid = worker.process.pid.to_string();
        let host = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        assert!(
            talk(host).starts_with("HTTP/1."),
            "the worker answers its host"
        );
        let said = talk(UnixStream::connect(socket).expect("it listens"));
        assert!(
            said.ends_with(&pid) || said.contains(&format!("\n{pid}")),
            "{said}"
        );

        // The firewall's rules were what refused: without them each address answers.
        rules::flush(&worker);
        for to in &all {
            let said = reach(&worker, to);
            assert!(
                !refused(&said),
                "{to} can't be reached even without rules: {said}"
            );
        }
        assert_eq!(private("c")["code"], 0);
        let end = json!({"to": [peer, 7000], "say": "end"});
        assert_eq!(worker.call("user", &end).ok(), "peer");
        assert_eq!(serving.reply().expect("it has ended").status, 200);
        ol_testkit::network::sh("nft flush ruleset");
        worker.down();
    });
}

/// As on a stock Ubuntu, `/etc/resolv.conf` is a link into `/run`, of which the worker sees nothing else.
#[test]
fn an_index_has_a_name_where_resolv_conf_is_a_link_into_run() {
    let installer = uv(Path::new(env!("CARGO_TARGET_TMPDIR")));
    in_world(|place, world| {
        place.find_first(&installer);
        let (etc, run) = (place.own("etc"), place.own("run"));
        let into = run.join("resolved");
        std::fs::create_dir_all(&into).expect("made");
        std::fs::write(into.join("resolv.conf"), "nameserver 203.0.113.5\n").expect("written");
        sh(&format!(
            "cp -a /etc {0}; ln -sf /run/resolved/resolv.conf {0}/resolv.conf",
            etc.display()
        ));
        place.cover(&[(etc, "/etc"), (run, "/run")]);
        let (listener, at) = world.listen();
        let index = PackageIndex::on(listener, at);
        index.add(
            wheel("word", "1.0")
                .file("word.py", "word = 'installed'\n")
                .build(),
        );
        let mirror = index.url().replace("203.0.113.5", "public.example");
        let worker = place.up(&[&format!("pip_mirror={mirror}")]);
        let source = "import word\ndef f(event):\n    return word.word\n";
        worker.install("said", &[("f.py", source), ("requirements.txt", "word\n")]);
        assert_eq!(worker.call("said", &json!(null)).ok(), "installed");
        worker.down();
    });
}
