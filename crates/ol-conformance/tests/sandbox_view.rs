//! What a function sees, as the function itself tells it and as the kernel tells it of the function's process.

use ol_testkit::process::Process;
use ol_testkit::{Worker, with_worker};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

/// Evaluates the expression that it is sent, so that a test reads as one list of questions.
const ASK: &str = "
import errno, os, socket

def outcome(action):
    try:
        return ['ok', action()]
    except OSError as error:
        return [errno.errorcode[error.errno], None]

def write(path):
    def action():
        with open(path, 'w') as file:
            file.write('x')
        os.remove(path)
    return outcome(action)[0]

def read(path):
    with open(path) as file:
        return file.read()

def f(event):
    return {name: eval(question) for name, question in event.items()}
";

fn ask(worker: &Worker<'_>, question: &str) -> Value {
    worker.call("ask", &json!({ "it": question })).ok()["it"].take()
}

fn with_ask(test: impl FnOnce(&Worker<'_>)) {
    with_worker(&[], |worker| {
        worker.install("ask", &[("f.py", ASK), ("data", "mine")]);
        test(worker);
    });
}

const CAPABILITY_SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
const NONE: &str = "0000000000000000";

#[test]
fn a_leaf_has_no_privilege() {
    with_ask(|worker| {
        let inside = ask(worker, "read('/proc/self/status')");
        let inside = inside.as_str().expect("text");
        let (leaf, _) = worker.leaf();
        for set in CAPABILITY_SETS {
            assert!(
                inside.contains(&format!("{set}:\t{NONE}")),
                "{set}: {inside}"
            );
            assert_eq!(leaf.status(set).as_deref(), Some(NONE), "{set}");
        }
        let facts = ["NoNewPrivs", "Seccomp"].map(|key| leaf.status(key));
        assert_eq!(facts, [Some("1".to_owned()), Some("2".to_owned())]);
        assert_eq!(
            ask(
                worker,
                "[os.getuid(), os.geteuid(), os.getgid(), os.getgroups()]"
            ),
            json!([1000, 1000, 1000, []])
        );
        assert_eq!(ask(worker, "outcome(lambda: os.setuid(0))[0]"), "EINVAL");
    });
}

/// No two sandboxes share a uid of the host, no keeper has its leaf's uid, and no user of the host has any of them.
#[test]
fn every_sandbox_has_its_own_user() {
    with_worker(&[], |worker| {
        for number in 0..4 {
            let name = format!("ask{number}");
            worker.install(&name, &[("f.py", ASK)]);
            let _ = worker.call(&name, &json!({})).ok();
        }
        let children = ol_testkit::process::descendants(worker.warden.pid);
        let sandboxed: Vec<Process> = children
            .into_iter()
            // The shell maker of a zygote is in no sandbox, and has two uids of that zygote.
            .filter(|child| {
                *child != worker.process && child.status("Name").as_deref() != Some("ol-maker")
            })
            .collect();
        let mut seen = BTreeSet::new();
        for process in &sandboxed {
            let uids = process.status("Uid").expect("it lives");
            let mut uids = uids
                .split_whitespace()
                .map(|uid| uid.parse::<u32>().expect("a uid"));
            let uid = uids.next().expect("the real one");
            assert!(uids.all(|other| other == uid));
            assert!(uid >= 1 << 16, "{uid} may be a user of this host");
            assert!(seen.insert(uid), "{uid} is used twice");
        }
        assert!(
            worker.leaves().len() == 4 && sandboxed.len() > 4,
            "{sandboxed:?}"
        );
    });
}

#[test]
fn every_sandbox_has_its_own_namespaces() {
    with_worker(&[], |worker| {
        for name in ["a", "b"] {
            worker.install(name, &[("f.py", ASK)]);
            let _ = worker.call(name, &json!({})).ok();
        }
        let leaves = worker.leaves();
        assert_eq!(leaves.len(), 2);
        for kind in ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"] {
            let of = |process: Process| process.link(&format!("ns/{kind}")).expect("it lives");
            let all = [of(leaves[0].0), of(leaves[1].0), of(worker.process)];
            assert_eq!(BTreeSet::from(all).len(), 3, "{kind}");
        }
    });
}

#[test]
fn the_root_is_short_and_holds_no_secret() {
    with_ask(|worker| {
        let top = ask(worker, "sorted(os.listdir('/'))");
        let known = [
            "bin", "dev", "etc", "handler", "host", "lib", "lib32", "lib64", "libx32", "packages",
            "proc", "runtime", "sbin", "sys", "tmp", "usr",
        ];
        for name in top.as_array().expect("a list") {
            assert!(
                known.contains(&name.as_str().expect("a name")),
                "/{name} is visible"
            );
        }
        for path in [
            "/etc/shadow",
            "/etc/gshadow",
            "/root",
            "/home",
            "/var",
            "/run",
            "/boot",
            "/.dockerenv",
            "/sys/fs",
            "/sys/kernel",
            "/proc/sys",
            "/proc/sysrq-trigger",
            "/proc/kcore",
            "/proc/1",
            "/dev/mem",
            "/dev/kmsg",
            "/dev/sda",
            "/dev/tty",
        ] {
            assert_eq!(
                ask(worker, &format!("os.path.lexists({path:?})")),
                json!(false),
                "{path}"
            );
        }
        assert_eq!(
            ask(worker, "sorted(os.listdir('/dev'))"),
            json!([
                "fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom",
                "zero"
            ])
        );
        let host = worker.place.dir().display().to_string();
        for file in [
            "/proc/self/environ",
            "/proc/self/cmdline",
            "/proc/self/cgroup",
        ] {
            let text = ask(worker, &format!("read({file:?})"));
            assert!(
                !text.as_str().expect("text").contains(&host),
                "{file}: {text}"
            );
        }
        assert_eq!(ask(worker, "os.uname().nodename"), "sandbox");
        assert_eq!(ask(worker, "read('/handler/data')"), "mine");
        let environment = ask(worker, "dict(os.environ)");
        assert!(
            environment.get("OL_BIN").is_none() && environment["HOME"] == "/tmp",
            "{environment}"
        );
    });
}

#[test]
fn only_scratch_can_be_written() {
    with_ask(|worker| {
        for folder in [
            "/",
            "/handler",
            "/packages",
            "/runtime",
            "/usr",
            "/usr/lib",
            "/etc",
            "/dev",
            "/proc/self",
            "/sys",
        ] {
            let outcome = ask(worker, &format!("write('{folder}/made')"));
            assert!(
                ["EROFS", "EACCES", "ENOENT", "EPERM"]
                    .map(Value::from)
                    .contains(&outcome),
                "{folder}: {outcome}"
            );
        }
        for file in [
            "/handler/f.py",
            "/runtime/guest.py",
            "/etc/passwd",
            "/usr/bin/python3",
        ] {
            let outcome = ask(worker, &format!("outcome(lambda: open({file:?}, 'r+'))[0]"));
            assert!(
                ["EROFS", "EACCES"].map(Value::from).contains(&outcome),
                "{file}: {outcome}"
            );
        }
        for folder in ["/tmp", "/host", "/host/tmp", "/dev/shm"] {
            assert_eq!(
                ask(worker, &format!("write('{folder}/made')")),
                "ok",
                "{folder}"
            );
        }
        assert_eq!(
            ask(worker, "outcome(lambda: open('/dev/null', 'w').close())[0]"),
            "ok"
        );
        assert_eq!(
            ask(worker, "os.path.samefile('/tmp', '/host/tmp')"),
            json!(true)
        );
        // Writing is refused by more than one layer: all mounts but these are read-only too.
        let mounts = ask(worker, "read('/proc/self/mountinfo')");
        let mounts = mounts.as_str().expect("text").lines().map(|line| {
            let mut fields = line.split(' ').skip(4);
            (
                fields.next().expect("a path"),
                fields.next().expect("options"),
            )
        });
        let (writable, others): (Vec<_>, Vec<_>) =
            mounts.partition(|(_, options)| options.starts_with("rw,"));
        let writable: BTreeSet<&str> = writable.into_iter().map(|(path, _)| path).collect();
        assert_eq!(
            writable,
            BTreeSet::from(["/dev/shm", "/host", "/proc", "/tmp"])
        );
        assert!(
            others.iter().any(|(path, _)| *path == "/handler"),
            "{others:?}"
        );
        assert!(
            others.iter().all(|(_, options)| options.contains("nosuid")),
            "{others:?}"
        );
    });
}

/// Both bytes and files are limited, and the function gets an ordinary error at the limit.
#[test]
fn scratch_is_limited() {
    let fill = "
import os

def f(event):
    written = 0
    try:
        with open('/tmp/big', 'wb') as file:
            while True:
                file.write(b'x' * (1 << 20))
                file.flush()
                written += 1
    except OSError as error:
        refused = error.strerror
    os.remove('/tmp/big')
    made = 0
    try:
        while made < 1000000:
            os.mkdir('/tmp/%d' % made)
            made += 1
    except OSError as error:
        return [written, refused, made, error.strerror]
";
    with_worker(&[], |worker| {
        let limits = "limits: {scratch_mb: 8, mem_mb: 128}\n";
        worker.install("fill", &[("f.py", fill), ("ol.yaml", limits)]);
        let full = "No space left on device";
        let said = worker.call("fill", &json!({})).ok();
        assert_eq!((&said[1], &said[3]), (&json!(full), &json!(full)), "{said}");
        assert!((7..=8).contains(&said[0].as_u64().expect("MiB")), "{said}");
        assert!(said[2].as_u64().expect("directories") <= 8 * 256, "{said}");
    });
}

#[test]
fn descriptors_and_processes_are_only_its_own() {
    with_ask(|worker| {
        let question = "{int(fd): os.readlink('/proc/self/fd/' + fd) for fd in os.listdir('/proc/self/fd') if os.path.lexists('/proc/self/fd/' + fd)}";
        let fds = ask(worker, question);
        let fds = fds.as_object().expect("an object");
        assert_eq!(
            fds.keys().collect::<Vec<_>>(),
            ["0", "1", "2", "3"],
            "{fds:?}"
        );
        assert_eq!(fds["0"], "/dev/null");
        assert!(
            fds["1"].as_str().expect("text").starts_with("pipe:") && fds["1"] == fds["2"],
            "{fds:?}"
        );
        assert!(
            fds["3"].as_str().expect("text").starts_with("socket:"),
            "{fds:?}"
        );
        // As the kernel counts them, not the function.
        assert_eq!(worker.leaf().0.descriptors().len(), 4);
        assert_eq!(
            ask(
                worker,
                "sorted(name for name in os.listdir('/proc') if name.isdigit())"
            ),
            json!(["2"])
        );
        assert_eq!(ask(worker, "outcome(lambda: os.kill(1, 9))[0]"), "EPERM");
    });
}

#[test]
fn there_is_no_network_but_its_own_loopback() {
    with_ask(|worker| {
        assert_eq!(
            ask(worker, "[name for _, name in socket.if_nameindex()]"),
            json!(["lo"])
        );
        let port = worker.address.rsplit_once(':').expect("host:port").1;
        let connect = |to: &str, port: &str| {
            format!("outcome(lambda: socket.create_connection(({to:?}, {port}), 5))[0]")
        };
        // The worker's port is on the host's loopback, which isn't the sandbox's.
        assert_eq!(ask(worker, &connect("127.0.0.1", port)), "ECONNREFUSED");
        assert_eq!(
            ask(worker, &connect("169.254.169.254", "80")),
            "ENETUNREACH"
        );
        assert_eq!(ask(worker, &connect("1.1.1.1", "53")), "ENETUNREACH");
        let roundtrip = "(lambda l: (lambda c: (l.accept()[0].sendall(b'hi'), c.recv(2).decode())[1])(socket.create_connection(l.getsockname())))(socket.create_server(('127.0.0.1', 0)))";
        assert_eq!(ask(worker, roundtrip), "hi");
    });
}

#[test]
fn the_worker_itself_has_no_privilege() {
    with_ask(|worker| {
        let _ = ask(worker, "1");
        for set in CAPABILITY_SETS {
            assert_eq!(worker.process.status(set).as_deref(), Some(NONE), "{set}");
            assert_ne!(
                worker.warden.status("CapEff").as_deref(),
                Some(NONE),
                "the warden's are what makes this a test"
            );
        }
        assert_eq!(worker.process.status("NoNewPrivs").as_deref(), Some("1"));
        // Every thread is checked, since each has its own capabilities.
        for entry in fs::read_dir(format!("/proc/{}/task", worker.process.pid)).expect("it lives") {
            let status = fs::read_to_string(entry.expect("a thread").path().join("status"))
                .expect("it lives");
            assert!(
                status.contains(&format!("CapEff:\t{NONE}")) && status.contains("NoNewPrivs:\t1"),
                "{status}"
            );
        }
    });
}

/// No sandbox shares a device with the host, or an open file with another sandbox.
///
/// Whatever is set on an open file, or locked in it, is seen by all who share it.
#[test]
fn devices_are_not_the_hosts_and_open_files_not_each_others() {
    use std::os::unix::fs::MetadataExt as _;
    let source = "
import fcntl, os

def f(event):
    stat = os.fstat(0)
    before = fcntl.fcntl(0, fcntl.F_GETFL) & os.O_APPEND
    fcntl.fcntl(0, fcntl.F_SETFL, os.O_APPEND)
    with open('/dev/null', 'r+b', buffering=0) as file:
        same = os.path.samestat(os.fstat(file.fileno()), stat)
        file.write(b'x')
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            same = 'locked by another'
    return [before, same, stat.st_dev, stat.st_ino, stat.st_rdev]
";
    with_worker(&[], |worker| {
        let host = fs::metadata("/dev/null").expect("this host has one");
        // The host's device is locked here: a sandbox that had the same device couldn't lock it.
        let held = fs::File::open("/dev/null").expect("this host has one");
        rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("locked");
        for name in ["one", "two"] {
            worker.install(name, &[("f.py", source)]);
            let seen = worker.call(name, &json!(null)).ok();
            assert_eq!(seen[0], 0, "{name} sees what another set: {seen}");
            assert_eq!(seen[1], json!(true), "{name}: {seen}");
            assert_ne!(
                (&seen[2], &seen[3]),
                (&json!(host.dev()), &json!(host.ino())),
                "{name} has the host's device"
            );
            assert_eq!(seen[4], json!(host.rdev()), "{name}: {seen}");
        }
        worker.install("ask", &[("f.py", ASK)]);
        for device in ["zero", "full", "random", "urandom"] {
            let host = fs::metadata(format!("/dev/{device}")).expect("this host has one");
            let question = format!(
                "[os.stat('/dev/{device}').st_rdev, len(open('/dev/{device}', 'rb').read(8))]"
            );
            assert_eq!(ask(worker, &question), json!([host.rdev(), 8]), "{device}");
        }
    });
}
