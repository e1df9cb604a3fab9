//! Runs tests in a function, and without a sandbox.

use crate::outcomes::Outcomes;
use ol_testkit::Worker;
use ol_testkit::place::listing;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs the tests of `order` in the function `suite`.
///
/// # Panics
/// When the function doesn't answer, or its answer breaks off.
pub fn inside(worker: &Worker<'_>, order: &str) -> Outcomes {
    let mut client = worker.connect();
    client
        .send_part("POST", "/run/suite", order.len(), order.as_bytes())
        .expect("sent");
    let mut incoming = client.incoming().expect("an answer");
    if incoming.head.status != 200 {
        let mut text = String::new();
        let _ = incoming.read_to_string(&mut text);
        panic!("{}: {text}", incoming.head.status);
    }
    Outcomes::read(incoming)
        .unwrap_or_else(|error| panic!("inside: {error}; its log:\n{}", worker.log_of("suite")))
}

/// Runs the tests as an ordinary user, with the function's environment, and with no network but loopback.
///
/// # Panics
/// When the runner can't be started, or doesn't come to its end.
pub fn outside(worker: &Worker<'_>, folder: &Path, order: &str) -> Outcomes {
    let permit = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own");
    };
    // Only root may enter a test's directories; here this user has to.
    for path in folder.ancestors().skip(1).take(2) {
        permit(path, 0o711);
    }
    let scratch = worker.place.source("scratch", &[]);
    permit(&scratch, 0o777);
    let packages = listing(&worker.place.dir().join("lambda/packages"));
    let packages = packages.iter().map(|package| package.join("files"));
    let path = std::env::join_paths(packages.chain([folder.to_owned()])).expect("no colon");
    let mut child = Command::new("unshare")
        .args(["--net", "--", "sh", "-c"])
        .arg(
            "ip link set lo up && exec setpriv --reuid 65534 --regid 65534 --clear-groups \
             --no-new-privs /usr/bin/python3 -S \"$0\"",
        )
        .arg(folder.join("f.py"))
        .current_dir(&scratch)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("LANG", "C.UTF-8")
        .env("USER", "user")
        .env("HOME", &scratch)
        .env("TMPDIR", &scratch)
        .env("OPENBLAS_NUM_THREADS", "1")
        .env("PYTHONPATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(scratch.join("errors")).expect("made"))
        .spawn()
        .expect("unshare and setpriv are parts of util-linux");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(order.as_bytes()).expect("sent");
    drop(stdin);
    let outcomes = Outcomes::read(child.stdout.take().expect("piped")).unwrap_or_else(|error| {
        let errors = fs::read_to_string(scratch.join("errors")).unwrap_or_default();
        panic!("outside: {error}:\n{errors}");
    });
    let status = child.wait().expect("our own child");
    assert!(status.success(), "{status}");
    outcomes
}
