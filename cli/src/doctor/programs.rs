//! Checks programs that a worker can do without: they make base images, or can be fetched.
//!
//! Each is run, because a program in the PATH may still be useless: a container engine's client without its engine, a program for another
//! machine.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use ol_model::visible::visible;
use ol_worker::directory::in_path;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Finding;

/// How long a program may take to print its version.
const PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

pub(super) fn look() -> [Finding; 3] {
    [
        program(
            "uv",
            &["--version"],
            "packages are installed with it; a worker fetches one when it first needs it",
        ),
        program(
            "mmdebstrap",
            &["--version"],
            "`apt-get install mmdebstrap` to make base images of Debian (-i debian)",
        ),
        program(
            "docker",
            // The client would print its own version even without an engine.
            &["version", "--format", "engine {{.Server.Version}}"],
            "an engine's images could be base images (-i docker:IMAGE); start it, or do without",
        ),
    ]
}

fn program(name: &'static str, arguments: &[&str], remedy: &str) -> Finding {
    let Some(path) = in_path(name) else {
        return Finding::optional(name, "not in PATH", remedy);
    };
    let at = path.display();
    match said(&path, arguments) {
        Ok(said) => Finding::ok(name, format!("{at} ({said})")),
        Err(why) => {
            let tried = arguments.first().copied().unwrap_or_default();
            let found = format!("{at} is there, but `{name} {tried}` {why}");
            Finding::optional(name, found, remedy)
        }
    }
}

/// The first line that the program prints with these arguments, or what it does instead.
fn said(path: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(path);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let not_run = |error: &dyn std::fmt::Display| format!("can't be run: {error}");
    let mut child = command.spawn().map_err(|error| not_run(&error))?;
    let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let ended = ended.map_err(|error| not_run(&error))?;
    let in_time = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&PATIENCE));
    if !matches!(in_time, Ok(1..)) {
        // Both may fail, if it ended just now.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("doesn't end within {} s", PATIENCE.tv_sec));
    }
    let status = child.wait().map_err(|error| not_run(&error))?;
    if !status.success() {
        return Err(format!("fails ({status})"));
    }
    let mut bytes = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // Limited, because a child of the program may keep the pipe open; one line is enough.
        let _ = stdout.take(200).read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(visible(text.lines().next().unwrap_or_default().trim()).into_owned())
}
