//! Base images from every kind of source, on each supported Python: made, changed, refused, and killed while they are made.

use ol_testkit::bases::{SUITES, base, has_mmdebstrap_or_skip};
use ol_testkit::process::descendants;
use ol_testkit::{Place, Worker, bases, bundle, eventually, in_place};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

const LOOK: &str = "
import os, socket, sqlite3, ssl, sys, zoneinfo

def write(path):
    try:
        open(path, 'w')
    except OSError as error:
        return error.strerror

def f(event):
    status = dict(line.split(':\\t', 1) for line in open('/proc/self/status'))
    return {
        'echo': event,
        'python': '%d.%d' % sys.version_info[:2],
        'ids': [os.getuid(), os.getgid(), os.getgroups()],
        'capabilities': {status[name].strip() for name in status if name.startswith('Cap')} == {'0' * 16},
        'written': sorted({write(path) for path in ('/made', '/usr/made', '/etc/passwd', '/usr/bin/python3')}),
        'host': [os.path.exists(path) for path in ('/base.json', '/etc/shadow.made', '/dev/sda')],
        'name': open('/etc/hostname').read().strip(),
        'resolver': open('/etc/resolv.conf').read(),
        'certificates': ssl.create_default_context(cafile='/etc/ssl/certs/ca-certificates.crt').cert_store_stats()['x509_ca'] > 50,
        'zone': str(zoneinfo.ZoneInfo('Europe/Prague')),
        'table': sqlite3.connect(':memory:').execute('select 1').fetchone()[0],
    }
";

/// Starts a worker on the base image made from `source`, checks it from inside a function, and stops the worker.
fn assert_serves(place: &Place, source: &str, python: &str) {
    let doctor = place.ol(&["doctor"]);
    let said = format!("{python} in the base image {source}");
    assert!(doctor.out.contains(&said), "{doctor:?}");
    let worker = place.up(&[]);
    assert_sees(&worker, python);
    let status = place.ol(&["worker", "status", "--output", "json"]);
    let status: Value = serde_json::from_str(status.ok()).expect("JSON");
    assert_eq!(status["base"], source);
    worker.down();
}

fn assert_sees(worker: &Worker<'_>, python: &str) {
    worker.install(
        "look",
        &[("f.py", LOOK), ("ol.yaml", "limits: {mem_mb: 128}\n")],
    );
    let event = json!({"text": "žluťoučký"});
    let expected = json!({
        "echo": event, "python": python, "ids": [1000, 1000, []], "capabilities": true,
        "written": ["Read-only file system"], "host": [false, false, false], "name": "sandbox", "resolver": "",
        "certificates": true, "zone": "Europe/Prague", "table": 1,
    });
    assert_eq!(worker.call("look", &event).ok(), expected);
}

fn record(place: &Place) -> Value {
    let text = fs::read(place.dir().join("lambda/base.json")).expect("base.json");
    serde_json::from_slice(&text).expect("JSON")
}

/// Packs these members of `root` into `archive`.
fn pack(root: &Path, archive: &Path, members: &[&str]) {
    run(Command::new("tar")
        .arg("-C")
        .arg(root)
        .arg("-cf")
        .arg(archive)
        .args(members));
}

fn run(command: &mut Command) {
    let status = command.status();
    assert!(
        status.expect("a part of every system").success(),
        "{command:?}"
    );
}

/// Makes a Debian base from each kind of source, one after the other in the same directory.
fn every_kind(suite: &str, python: &str) {
    in_place(|place| {
        let Some(made) = base(suite) else { return };
        let (root, archive) = (made.join("lambda"), place.own("image.tar"));
        let debian = format!("debian:{suite}");
        run(Command::new("cp").arg("-a").arg(&made).arg(place.dir()));
        // `init` again, so that the copied configuration names the paths of the copy. The base stays.
        let said = place.ol(&["worker", "init", "-i", &debian]);
        assert!(
            said.ok()
                .contains(&format!("{debian}, kept; Python {python}")),
            "{said:?}"
        );
        assert_eq!(record(place), json!({"kind": "unpacked", "from": debian}));
        assert_serves(place, &debian, python);

        let package = place.dir().join("lambda/packages/mine==1/files");
        fs::create_dir_all(&package).expect("made");
        pack(&root, &archive, &["."]);
        let tar = format!("tar:{}", archive.display());
        let said = place.ol(&["worker", "init", "-i", &tar]);
        let note = format!("kept the base image {debian}; -b replaces it by {tar}");
        assert!(said.err.contains(&note), "{said:?}");
        assert_eq!(record(place)["from"], debian);
        let _ = place.ol(&["worker", "init", "-b", "-i", &tar]).ok();
        assert!(package.is_dir() && !place.dir().join(".ol-base-new").exists());
        assert_serves(place, &tar, python);

        let dir = format!("dir:{}", root.display());
        let _ = place.ol(&["worker", "init", "-b", "-i", &dir]).ok();
        assert!(package.is_dir() && !place.dir().join("lambda/usr").exists());
        assert_serves(place, &dir, python);
        // Without -i the same base is made again.
        let said = place.ol(&["worker", "init", "-b"]);
        assert!(
            said.ok().contains(&format!("{dir}; Python {python}")),
            "{said:?}"
        );
        assert!(package.is_dir());
    });
}

#[test]
fn python_3_9_of_bullseye() {
    every_kind(SUITES[0].0, SUITES[0].1);
}

#[test]
fn python_3_11_of_bookworm() {
    every_kind(SUITES[1].0, SUITES[1].1);
}

#[test]
fn python_3_13_of_trixie() {
    every_kind(SUITES[2].0, SUITES[2].1);
}

/// Uses the bases of the other test files; here `up` also makes the directory.
#[test]
fn up_takes_a_base_for_a_new_directory() {
    for (python, root) in bases() {
        in_place(|place| {
            let dir = format!("dir:{}", root.display());
            let said = place.ol(&["worker", "up", "-d", "-o", "worker_port=0", "-i", &dir]);
            assert!(
                said.err.contains(&format!("{dir}; Python {python}")),
                "{said:?}"
            );
            let worker = place.attach();
            assert_sees(&worker, &python);
            worker.down();
        });
    }
}

/// An archive without Python that holds a file of `bytes` bytes.
fn lame(place: &Place, name: &str, bytes: usize) -> PathBuf {
    let root = place.own("lame");
    fs::create_dir_all(root.join("usr/bin")).expect("made");
    fs::write(root.join("usr/bin/tool"), vec![b'x'; bytes]).expect("written");
    let archive = place.own(name);
    pack(&root, &archive, &["."]);
    archive
}

/// Each archive is refused in one sentence; afterwards a new directory isn't there, and an old one is as it was.
#[test]
fn archives_that_are_no_base() {
    in_place(|place| {
        let own = |name: &str, bytes: &[u8]| {
            let path = place.own(name);
            fs::write(&path, bytes).expect("written");
            path
        };
        let lame = lame(place, "lame.tar", 100_000);
        let whole = fs::read(&lame).expect("packed");
        let member = |name: &str| bundle::with_member(name, tar::EntryType::Regular, "", b"x");
        let link = |target: &str| bundle::with_member("l", tar::EntryType::Link, target, b"");
        let cases = [
            (place.own("none.tar"), "is no file"),
            (
                own("text.tar", &b"no archive at all ".repeat(100)),
                "no tar archive",
            ),
            (own("empty.tar", b""), "no tar archive"),
            (own("cut.tar", &whole[..whole.len() / 2]), "cut short"),
            (own("cut.tar.gz", &bundle::gzip(&whole)[..100]), "cut short"),
            (own("x.tar.zst", b"\x28\xb5\x2f\xfd1234"), "zstd -d"),
            (own("climbs.tar.gz", &member("../x")), "climbs"),
            (own("absolute.tar.gz", &member("/etc/x")), "begins with /"),
            (own("steals.tar.gz", &link("../../canary")), "climbs"),
            (lame, "Python 3.9"),
        ];
        let refused = |archive: &Path, named: &str| {
            let tar = format!("tar:{}", archive.display());
            let said = place.ol(&["worker", "init", "-b", "-i", &tar]);
            let sentence = said.refusal();
            assert!(
                sentence.contains(&tar) && sentence.contains(named),
                "{said:?}"
            );
        };
        for (archive, named) in &cases {
            refused(archive, named);
            assert!(!place.dir().exists(), "{named} left a directory");
        }
        let _ = place.ol(&["worker", "init"]).ok();
        let package = place.dir().join("lambda/packages/mine==1");
        fs::create_dir_all(&package).expect("made");
        for (archive, named) in &cases {
            refused(archive, named);
            assert_eq!(record(place), json!({"kind": "host"}));
            assert!(package.is_dir() && !place.dir().join(".ol-base-new").exists());
        }
        // A refused command doesn't stop a running worker either.
        let worker = place.up(&[]);
        refused(&cases[0].0, cases[0].1);
        assert!(place.ol(&["worker", "status"]).ok().contains("ready"));
        worker.down();
    });
}

/// A base with a shell, whose `python3` is this script.
fn scripted(place: &Place, made: &Path, script: &str) -> PathBuf {
    const SHELL: [&str; 8] = [
        "./bin",
        "./lib",
        "./lib64",
        "./usr/bin/dash",
        "./usr/bin/sh",
        "./usr/lib64",
        "./usr/lib/x86_64-linux-gnu/libc.so.6",
        "./usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    ];
    let archive = place.own("scripted.tar");
    pack(&made.join("lambda"), &archive, &SHELL);
    let more = place.own("more");
    fs::create_dir_all(more.join("usr/bin")).expect("made");
    executable(&more.join("usr/bin/python3"), script);
    // Appended to the archive: of two members with the same name the later one counts.
    run(Command::new("tar")
        .arg("-C")
        .arg(&more)
        .arg("-rf")
        .arg(&archive)
        .arg("."));
    archive
}

fn executable(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
}

/// The base's Python is run to see whether it works, not only looked for.
#[test]
fn archives_whose_python_does_not_serve() {
    in_place(|place| {
        let Some(made) = base("bookworm") else { return };
        for (script, named) in [
            ("echo 3.8", "has only Python 3.8"),
            ("echo 2.7", "has only Python 2.7"),
            ("echo broken >&2; exit 1", "that fails (broken)"),
            ("kill -9 $$", "that fails"),
            ("echo four", "that fails"),
        ] {
            let archive = scripted(place, &made, script);
            let tar = format!("tar:{}", archive.display());
            let said = place.ol(&["worker", "init", "-i", &tar]);
            assert!(said.refusal().contains(named), "{named}: {said:?}");
            assert!(!place.dir().exists(), "{named} left a directory");
        }
    });
}

#[test]
fn a_device_in_an_archive_is_left_out() {
    in_place(|place| {
        let Some(made) = base("bookworm") else { return };
        let folder = place.own("more/srv");
        fs::create_dir_all(&folder).expect("made");
        run(Command::new("mknod")
            .arg(folder.join("disk"))
            .args(["b", "1", "1"]));
        run(Command::new("mknod").arg(folder.join("pipe")).arg("p"));
        let archive = scripted(place, &made, "echo 3.13");
        let said = place.ol(&[
            "worker",
            "init",
            "-i",
            &format!("tar:{}", archive.display()),
        ]);
        assert!(
            said.ok().contains("Python 3.13") && said.err.contains("left out 2 devices"),
            "{said:?}"
        );
        let srv = place.dir().join("lambda/srv");
        assert_eq!(fs::read_dir(srv).expect("there").count(), 0);
    });
}

/// Starts `ol worker init -b -i debian:trixie` and kills it once mmdebstrap has made `file`.
fn killed_in_the_making(place: &Place, file: &str) {
    let mut init = place.command(&["worker", "init", "-b", "-i", "debian:trixie"]);
    let mut init: Child = init.spawn().expect("ol can be run");
    let scratch = place.dir().join(".ol-base-new/tmp");
    eventually("mmdebstrap to be at work", 100.0, || {
        let mut folders = fs::read_dir(&scratch).into_iter().flatten().flatten();
        folders.find(|folder| folder.path().join(file).exists())
    });
    let pid = i32::try_from(init.id()).expect("a pid is an i32");
    let started = descendants(pid);
    assert!(started.len() > 1, "{started:?}");
    kill_process(Pid::from_raw(pid).expect("not zero"), Signal::KILL).expect("our own child");
    let status = init.wait().expect("our own child");
    assert!(!status.success(), "{status}");
    // The processes that `init` had started die too, long before they would have ended by themselves, and their mounts go.
    eventually("what it started to die", 3.0, || {
        started.iter().all(|process| !process.lives()).then_some(())
    });
    eventually("nothing of it to live", 20.0, || {
        place.census().is_nothing().then_some(())
    });
}

#[test]
fn a_kill_in_the_making_harms_nothing() {
    if !has_mmdebstrap_or_skip() {
        return;
    }
    in_place(|place| {
        killed_in_the_making(place, "var/lib/dpkg/status");
        let _ = place.ol(&["worker", "init"]).ok();
        assert!(!place.dir().join(".ol-base-new").exists());
        let package = place.dir().join("lambda/packages/mine==1");
        fs::create_dir_all(&package).expect("made");

        // The base from before still serves, and the next start removes what is left.
        killed_in_the_making(place, "usr/bin/dpkg");
        assert_eq!(record(place), json!({"kind": "host"}));
        let worker = place.up(&[]);
        assert!(!place.dir().join(".ol-base-new").exists());
        worker.install("echo", &[("f.py", "def f(event):\n    return event\n")]);
        assert_eq!(worker.call("echo", &json!(1)).ok(), json!(1));
        worker.down();
        assert!(package.is_dir());
    });
}

#[test]
fn a_release_that_is_none() {
    if !has_mmdebstrap_or_skip() {
        return;
    }
    in_place(|place| {
        let said = place.ol(&["worker", "init", "-i", "debian:none-such"]);
        let sentence = said.refusal();
        // These are the words of apt, which mmdebstrap runs.
        for part in [
            "debian:none-such",
            "does not have a Release file",
            "check the release's name",
        ] {
            assert!(sentence.contains(part), "{said:?}");
        }
        assert!(!place.dir().exists());
    });
}

#[test]
fn without_the_program_that_makes_it() {
    in_place(|place| {
        let mut init = place.command(&["worker", "init", "-i", "debian"]);
        let said = ol_testkit::Said::from(
            init.env("PATH", "/nowhere")
                .output()
                .expect("ol can be run"),
        );
        assert!(
            said.refusal().contains("apt-get install mmdebstrap"),
            "{said:?}"
        );
        assert!(!place.dir().exists());
        let mut doctor = place.command(&["doctor"]);
        let said = ol_testkit::Said::from(
            doctor
                .env("PATH", "/nowhere")
                .output()
                .expect("ol can be run"),
        );
        assert!(said.out.contains("– mmdebstrap"), "{said:?}");
    });
}

/// A container client without its engine is found in the PATH like one that works.
#[test]
fn doctor_asks_programs_and_does_not_trust_their_presence() {
    in_place(|place| {
        let folder = place.own("bin");
        fs::create_dir_all(&folder).expect("made");
        let doctor = |script: &str| {
            executable(&folder.join("docker"), script);
            let mut doctor = place.command(&["doctor"]);
            let path = format!("{}:/usr/bin:/bin", folder.display());
            let said = doctor.env("PATH", path).output().expect("ol can be run");
            let said = ol_testkit::Said::from(said);
            let line = said.out.lines().find(|line| line.contains("docker"));
            line.expect("it is looked for").to_owned()
        };
        let dead = doctor("echo engine; echo 'Cannot connect' >&2; exit 1");
        assert!(dead.starts_with("– docker"), "{dead}");
        assert!(
            dead.contains("`docker version` fails (exit status: 1)"),
            "{dead}"
        );
        let alive = doctor("echo engine 27.1");
        assert!(alive.starts_with("✓ docker"), "{alive}");
        assert!(alive.ends_with("(engine 27.1)"), "{alive}");
    });
}

/// Tests run without a container engine: a script answers as the `docker` command does, with a real image.
#[test]
fn an_image_of_dockers() {
    in_place(|place| {
        let Some(made) = base("bookworm") else { return };
        let (folder, calls) = (place.own("bin"), place.own("calls"));
        fs::create_dir_all(&folder).expect("made");
        let script = format!(
            "echo \"$*\" >> {calls}\ncase \"$*\" in\n'image inspect ol-min') echo '[{{}}]' ;;\n\
             'create --network=none ol-min '*) echo c0ffee ;;\n'export c0ffee') exec tar -C {root} -c . ;;\n\
             'rm c0ffee') echo c0ffee ;;\n*) echo \"Error: no such image: $*\" >&2; exit 1 ;;\nesac",
            calls = calls.display(),
            root = made.join("lambda").display()
        );
        executable(&folder.join("docker"), &script);
        let path = format!(
            "{}:{}",
            folder.display(),
            std::env::var("PATH").expect("a PATH")
        );
        let init = |base: &str| {
            let mut init = place.command(&["worker", "init", "-b", "-i", base]);
            ol_testkit::Said::from(init.env("PATH", &path).output().expect("ol can be run"))
        };
        let said = init("docker:none");
        assert!(said.refusal().contains("no such image"), "{said:?}");
        assert!(!place.dir().exists());
        let said = init("ol-min");
        assert!(
            said.ok().contains("base image ol-min; Python 3.11"),
            "{said:?}"
        );
        assert_serves(place, "ol-min", "3.11");
        let calls = fs::read_to_string(&calls).expect("called");
        assert!(calls.ends_with("export c0ffee\nrm c0ffee\n"), "{calls}");
        // No engine has this one.
        let said = init("ol-wasm");
        assert!(
            said.ok().contains("base image host") && said.err.contains("has the image ol-wasm"),
            "{said:?}"
        );
        assert_eq!(record(place), json!({"kind": "host"}));
    });
}
