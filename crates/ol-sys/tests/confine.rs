//! Tests of the Landlock rulesets, each in a process of its own: this program runs itself again; the new process confines itself,
//! tries everything and reports what it could still do.

use ol_sys::confine;
use rustix::process::{Pid, getppid, test_kill_process};
use std::fs::{self, File};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

/// The variable with the directory in which the confined process tries things; only set in that process.
const CONFINED_IN: &str = "OL_TEST_CONFINED_IN";
const REPORT: &str = "report: ";

/// A directory with `inside/`, which may be written, and `outside/`, which may not.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a temporary directory");
    for folder in ["inside", "outside"] {
        fs::create_dir(place.path().join(folder)).expect("made");
        fs::write(place.path().join(folder).join("there"), "old").expect("written");
    }
    place
}

/// Runs the test `name` again in a process of its own; returns its report.
fn again(name: &str, place: &Path) -> Vec<String> {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CONFINED_IN, place)
        .output()
        .expect("this program can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The test harness writes the test's name before the report, on the same line as its first entry.
    let report = |line: &str| line.split_once(REPORT).map(|(_, report)| report.to_owned());
    said.lines().filter_map(report).collect()
}

fn report(what: &str, done: io::Result<()>) -> String {
    let outcome = done.map_or_else(
        |error| format!("{:?}", error.kind()),
        |()| "done".to_owned(),
    );
    format!("{REPORT}{what}: {outcome}\n")
}

fn say(lines: &[String]) {
    use std::io::Write;
    let text = format!("\n{}", lines.concat());
    io::stdout()
        .write_all(text.as_bytes())
        .expect("standard output is read");
}

/// Tries everything that would create, change or destroy something in `folder`.
fn attempts(place: &Path, folder: &str) -> Vec<String> {
    let at = |name: &str| place.join(folder).join(name);
    vec![
        report(
            &format!("{folder} create"),
            File::create(at("new")).map(drop),
        ),
        report(&format!("{folder} write"), fs::write(at("there"), "new")),
        report(
            &format!("{folder} append"),
            File::options().append(true).open(at("there")).map(drop),
        ),
        report(
            &format!("{folder} truncate"),
            File::options()
                .write(true)
                .truncate(true)
                .open(at("there"))
                .map(drop),
        ),
        report(&format!("{folder} directory"), fs::create_dir(at("folder"))),
        report(
            &format!("{folder} link"),
            std::os::unix::fs::symlink("there", at("link")),
        ),
        report(
            &format!("{folder} socket"),
            UnixListener::bind(at("socket")).map(drop),
        ),
        report(&format!("{folder} remove"), fs::remove_file(at("there"))),
    ]
}

const FREE: [&str; 8] = [
    "inside create: done",
    "inside write: done",
    "inside append: done",
    "inside truncate: done",
    "inside directory: done",
    "inside link: done",
    "inside socket: done",
    "inside remove: done",
];
const CONFINED: [&str; 8] = [
    "outside create: PermissionDenied",
    "outside write: PermissionDenied",
    "outside append: PermissionDenied",
    "outside truncate: PermissionDenied",
    "outside directory: PermissionDenied",
    "outside link: PermissionDenied",
    "outside socket: PermissionDenied",
    "outside remove: PermissionDenied",
];

/// The worker: may write beneath its directories and nowhere else, and read as before.
#[test]
fn a_worker_writes_only_where_it_may() {
    if let Some(place) = std::env::var_os(CONFINED_IN) {
        let place = Path::new(&place);
        let inside = place.join("inside");
        let level = confine::writer([inside.as_path()].into_iter()).expect("confined");
        let mut lines = vec![format!("{REPORT}level {level:?}\n")];
        lines.push(report(
            "read outside",
            fs::read(place.join("outside/there")).map(drop),
        ));
        lines.extend(attempts(place, "inside"));
        lines.extend(attempts(place, "outside"));
        // Moves out of one folder into the other.
        fs::write(inside.join("mine"), "mine").expect("it may");
        lines.push(report(
            "rename out",
            fs::rename(inside.join("mine"), place.join("outside/mine")),
        ));
        return say(&lines);
    }
    let place = place();
    let lines = again("a_worker_writes_only_where_it_may", place.path());
    if skipped(&lines) {
        return;
    }
    let (first, rest) = lines.split_at(2);
    assert_eq!(first, ["level Full", "read outside: done"]);
    let (inside, rest) = rest.split_at(8);
    let (outside, rest) = rest.split_at(8);
    assert_eq!(inside, FREE);
    assert_eq!(outside, CONFINED);
    // Landlock says EXDEV where a move would change what may be done with a file.
    assert!(
        ["rename out: CrossesDevices", "rename out: PermissionDenied"].contains(&rest[0].as_str()),
        "{rest:?}"
    );
    let left: Vec<_> = fs::read_dir(place.path().join("outside"))
        .expect("there")
        .map(|e| e.expect("read").file_name())
        .collect();
    assert_eq!(left, ["there"]);
    assert_eq!(
        fs::read_to_string(place.path().join("outside/there")).expect("there"),
        "old"
    );
}

/// A leaf: may write as little, and in addition reaches no process outside by a signal, and no abstract socket there.
#[test]
fn a_leaf_reaches_nobody_outside() {
    if let Some(place) = std::env::var_os(CONFINED_IN) {
        let place = Path::new(&place);
        let inside = place.join("inside").display().to_string();
        let abstract_name =
            SocketAddr::from_abstract_name(place.as_os_str().as_encoded_bytes()).expect("a name");
        let reach = || UnixStream::connect_addr(&abstract_name).map(drop);
        let signal = || {
            let parent: Pid = getppid().expect("it waits for us");
            test_kill_process(parent).map_err(io::Error::from)
        };
        let mut lines = vec![
            report("before: connect", reach()),
            report("before: signal", signal()),
        ];
        let level = confine::leaf(&[&inside, "/nowhere/at/all"]).expect("confined");
        lines.push(format!("{REPORT}level {level:?}\n"));
        lines.push(report("connect", reach()));
        lines.push(report("signal", signal()));
        lines.push(report(
            "read",
            fs::read(place.join("outside/there")).map(drop),
        ));
        lines.push(report("run", Command::new("true").status().map(drop)));
        lines.extend(attempts(place, "inside"));
        lines.extend(attempts(place, "outside"));
        return say(&lines);
    }
    let place = place();
    let name = SocketAddr::from_abstract_name(place.path().as_os_str().as_encoded_bytes())
        .expect("a name");
    let _listener = UnixListener::bind_addr(&name).expect("an unused name");
    let lines = again("a_leaf_reaches_nobody_outside", place.path());
    if skipped(&lines) {
        return;
    }
    let (first, rest) = lines.split_at(7);
    assert_eq!(
        first,
        [
            "before: connect: done",
            "before: signal: done",
            "level Full",
            "connect: PermissionDenied",
            "signal: PermissionDenied",
            "read: done",
            "run: done"
        ]
    );
    let (inside, outside) = rest.split_at(8);
    assert_eq!(inside, FREE);
    assert_eq!(outside, CONFINED);
}

/// Whether to skip the rest, since this kernel's Landlock is missing or too old; then it says so loudly.
fn skipped(lines: &[String]) -> bool {
    let full = lines.iter().any(|line| line == "level Full");
    let level = lines.iter().find_map(|line| line.strip_prefix("level "));
    let level = level.unwrap_or_else(|| panic!("no report: {lines:?}"));
    if !full {
        use std::io::Write;
        let reason = format!("this kernel enforces Landlock only as {level}");
        let _ = writeln!(
            io::stderr(),
            "\n!! SKIPPED, so NOT tested: ol-sys confine: {reason}\n"
        );
        if let Some(path) = std::env::var_os("OL_SKIP_LOG") {
            let mut log = File::options()
                .append(true)
                .create(true)
                .open(path)
                .expect("the log of skipped tests");
            writeln!(log, "ol-sys confine\t{reason}").expect("written");
        }
        assert!(
            std::env::var_os("CI").is_none(),
            "skipped under CI: {reason}"
        );
    }
    !full
}
