//! Zygotes that have imported packages: their children share nothing random, and a hostile zygote harms only its own children.

use ol_testkit::{PackageIndex, Worker, measured, patience, with_worker};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const OPTIONS: [&str; 2] = ["server_mode=sock", "mem_pool_mb=4000"];

/// The folder of these Python packages for the module search path; fetched and installed once for all runs.
fn installed(names: &[&str]) -> PathBuf {
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
    let target = store.join(names.join("+"));
    if !target.exists() {
        let version = Command::new("/usr/bin/python3")
            .args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
            .output()
            .expect("Python is needed");
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let index = PackageIndex::passing_pypi(Path::new(env!("CARGO_TARGET_TMPDIR")));
        let making = store.join(format!("making-{}", std::process::id()));
        let made = Command::new("python3")
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--isolated",
                "--no-cache-dir",
                "--only-binary=:all:",
            ])
            .args(["--index-url", &index.url()])
            .env("NO_PROXY", "127.0.0.1")
            .args(["--python-version", &version, "--target"])
            .arg(&making)
            .args(names)
            .status();
        let made = made.expect("pip is needed: install python3-pip");
        assert!(made.success(), "pip could not install {names:?}");
        // Fails if another run was quicker, whose folder is as good.
        let _ = fs::rename(&making, &target);
    }
    target
}

/// Puts a package with these files into the worker's store.
fn pack(worker: &Worker<'_>, name: &str, files: &[(&str, &str)]) {
    let folder = worker
        .place
        .dir()
        .join(format!("lambda/packages/{name}/files"));
    fs::create_dir_all(&folder).expect("made");
    for (file, text) in files {
        fs::write(folder.join(file), text).expect("written");
    }
}

fn post(worker: &Worker<'_>, path: &str, body: &Value) -> (u16, String) {
    let reply = worker.request("POST", path, body.to_string().as_bytes());
    (reply.status, reply.text().trim().to_owned())
}

fn create(worker: &Worker<'_>, order: &Value) -> String {
    let (status, text) = post(worker, "/create", order);
    assert_eq!(status, 200, "{text}");
    text
}

/// Uses every source of randomness, as a package may when it is imported.
const USED: &str = "
import random, ssl, tempfile, uuid
import numpy
from cryptography.hazmat.primitives.asymmetric import ec

def draw():
    key = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
    return {
        'ssl': ssl.RAND_bytes(16).hex(),
        'ec': hex(key),
        'random': random.random(),
        'uuid4': uuid.uuid4().hex,
        'tempfile': next(tempfile._get_candidate_names()),
        'numpy': numpy.random.random(),
    }

draw()
";

const DRAW: &str = "
import sys
assert 'used' in sys.modules, 'the zygote has not imported it'
import used

def f(event):
    return used.draw()
";

const PKGS: [&str; 2] = ["libraries", "used"];

/// Draws random values from `count` children of each of three zygotes, each forked from the one before, and checks that none comes twice.
fn siblings(count: usize) {
    let packages = installed(&["numpy", "cryptography"]);
    with_worker(&OPTIONS, |worker| {
        pack(worker, "used", &[("used.py", USED)]);
        pack(worker, "libraries", &[]);
        let store = worker.place.dir().join("lambda/packages/libraries/files");
        let copied = Command::new("cp")
            .arg("-r")
            .arg(packages.join("."))
            .arg(&store)
            .status();
        assert!(copied.expect("cp").success());
        let code = worker.place.source("draw", &[("f.py", DRAW)]);
        let mut parent = String::new();
        let mut drawn: HashSet<String> = HashSet::new();
        let mut total = 0;
        let begun = Instant::now();
        for depth in 0..3 {
            let zygote = json!({"leaf": false, "parent": parent, "pkgs": PKGS});
            parent = create(worker, &zygote);
            for _ in 0..count {
                let leaf = json!({"code": code, "parent": parent, "pkgs": PKGS});
                let id = create(worker, &leaf);
                let (status, text) = post(worker, &format!("/run/{id}"), &json!(null));
                assert_eq!(status, 200, "{text}");
                let values: Value = serde_json::from_str(&text).expect("JSON");
                for (kind, value) in values.as_object().expect("an object") {
                    total += 1;
                    assert!(
                        drawn.insert(format!("{kind} {value}")),
                        "{kind} came twice at depth {depth}: {value}"
                    );
                }
                assert_eq!(post(worker, &format!("/destroy/{id}"), &json!(null)).0, 200);
            }
        }
        measured(&format!(
            "{total} values of 3 times {count} siblings, no two equal, in {:?}",
            begun.elapsed()
        ));
    });
}

#[test]
fn siblings_have_nothing_random_in_common() {
    siblings(60);
}

/// Run by `make test-long`.
#[test]
#[ignore = "takes minutes; run by make test-long"]
fn a_thousand_siblings_have_nothing_random_in_common() {
    siblings(1000);
}

/// Replaces the code that forks in the zygote that imports this module, and does `BODY` with each order to fork.
///
/// `status` is the descriptor by which the child would report that it lives, `keeper` that of its shell.
const HOSTILE: &str = "
import _socket, array, os, signal, sys, threading, time

class Forker:
    def serve(self, channel):
        orders = _socket.socket(fileno=channel)
        while True:
            data, ancillary, _, _ = orders.recvmsg(8192, 256)
            if not data:
                return -1
            fds = array.array('i')
            for _, _, part in ancillary:
                fds.frombytes(part[:len(part) - len(part) % 4])
            keeper, guest, log, status = fds[:4]
            self.obey(keeper, guest, status, list(fds))

    def obey(self, keeper, guest, status, fds):
        BODY

# The runtime's own half is imported by now, and this is what it takes its native half from.
sys.modules['_ol_guest'].native = Forker
";

#[test]
fn a_hostile_zygote_harms_its_own_children_only() {
    // Each hostile zygote keeps all descriptors that it gets.
    let cases = [
        (
            "forged",
            "_socket.socket(fileno=os.dup(status)).send(b'\\0'); time.sleep(0.2)",
        ),
        (
            "foreign",
            "s = _socket.socket(fileno=os.dup(status))\n        try:\n            s.sendmsg([b'\\0'], [(1, 2, (1).to_bytes(4, 'little') + bytes(8))])\n        except OSError:\n            s.send(b'\\0')",
        ),
        ("crash", "os._exit(3)"),
        ("killed", "os.kill(os.getpid(), signal.SIGKILL)"),
        ("silent", "pass"),
        (
            "garbage",
            "_socket.socket(fileno=os.dup(status)).send(b'x' * 100)",
        ),
        ("let_go", "[os.close(fd) for fd in fds]"),
        ("forks", "[os.fork() for _ in range(3)]; time.sleep(60)"),
        ("stops", "os.kill(os.getpid(), signal.SIGSTOP)"),
    ];
    with_worker(&OPTIONS, |worker| {
        let code = worker
            .place
            .source("echo", &[("f.py", "def f(event):\n    return event\n")]);
        let good = create(worker, &json!({"leaf": false}));
        let victim = create(worker, &json!({"code": code, "parent": good}));
        for (name, body) in cases {
            pack(
                worker,
                name,
                &[(&format!("{name}.py"), &HOSTILE.replace("BODY", body))],
            );
            let zygote = create(worker, &json!({"leaf": false, "pkgs": [name]}));
            let begun = Instant::now();
            let (status, text) = post(worker, "/create", &json!({"code": code, "parent": zygote}));
            assert!(status >= 400, "{name} made a leaf: {text}");
            assert!(
                begun.elapsed() < patience(5.0),
                "{name}: {:?}",
                begun.elapsed()
            );
            measured(&format!("{name}: {status} {text}"));
            // Other functions aren't affected, while the hostile zygote lives and when it is gone.
            for _ in 0..2 {
                let path = format!("/run/{victim}");
                assert_eq!(
                    post(worker, &path, &json!(7)),
                    (200, "7".to_owned()),
                    "{name}"
                );
                let other = create(worker, &json!({"code": code, "parent": good}));
                assert_eq!(
                    post(worker, &format!("/destroy/{other}"), &json!(null)).0,
                    200
                );
                let _ = post(worker, &format!("/destroy/{zygote}"), &json!(null));
            }
        }
    });
}

#[test]
fn a_zygote_with_threads_forks_nobody_and_says_why() {
    with_worker(&OPTIONS, |worker| {
        let source = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n";
        pack(worker, "threads", &[("threads.py", source)]);
        let zygote = create(worker, &json!({"leaf": false, "pkgs": ["threads"]}));
        let (status, text) = post(worker, "/create", &json!({"parent": zygote}));
        assert!(
            status >= 400 && text.contains("2 threads"),
            "{status} {text}"
        );
    });
}

/// A package leaves hooks and descriptors behind in its zygote: a child runs and has none of them.
#[test]
fn a_child_runs_nothing_of_its_zygotes_before_it_is_confined() {
    let source = "
import os
kept = os.open('/etc/passwd', os.O_RDONLY)
os.dup2(kept, 40)
seen = []

def look():
    seen.append(open('/proc/self/status').read())
    seen.append(sorted(os.listdir('/proc/self/fd')))

os.register_at_fork(after_in_child=look)
os.fork = lambda: 0
";
    with_worker(&OPTIONS, |worker| {
        pack(worker, "hooks", &[("hooks.py", source)]);
        let code = worker.place.source(
            "seen",
            &[(
                "f.py",
                "import hooks\ndef f(event):\n    return hooks.seen\n",
            )],
        );
        let zygote = create(worker, &json!({"leaf": false, "pkgs": ["hooks"]}));
        let leaf = json!({"code": code, "parent": zygote, "pkgs": ["hooks"]});
        let leaf = create(worker, &leaf);
        let (status, text) = post(worker, &format!("/run/{leaf}"), &json!(null));
        assert_eq!(status, 200, "{text}");
        let seen: Value = serde_json::from_str(&text).expect("JSON");
        let state = seen[0].as_str().expect("text");
        for line in [
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp_filters:\t2",
        ] {
            assert!(state.contains(line), "{line} when the hook ran: {state}");
        }
        // Standard input, output and error, the guest socket, and the listing's own descriptor.
        assert_eq!(seen[1].as_array().map(Vec::len), Some(5), "{}", seen[1]);
    });
}
