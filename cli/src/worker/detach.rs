//! `ol worker up -d`: starts the worker in the background, and waits for its message that it is ready.
//!
//! ```text
//!   ol worker up -d                       ol worker up --detached
//!     │ spawn: stdin = pipe, ──────────────► │ settle: new session, pipe moved off stdin
//!     │        stdout, stderr = worker.out   │ … starts …
//!     │ ◄──────────── "ready URL\n" ──────── │ serves on
//!     │ ◄──────────── (end of pipe) ──────── ✕ failed: its reason is in worker.out
//! ```
//!
//! The child gets the pipe as its standard input, because that is the only descriptor that can be passed without unsafe code. However the
//! child dies, the pipe's end is noticed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use ol_worker::directory::Directory;
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;

use crate::out::Out;

/// How many lines of the log are shown after a failure.
const TAIL_LINES: usize = 20;
/// How many bytes of the log are read for them.
const TAIL_BYTES: u64 = 64 << 10;

/// Starts the worker of `directory` in the background and waits until it is ready or has failed.
pub(super) fn start(out: Out, directory: &Directory, options: &[String]) -> Result<ExitCode> {
    let path = directory.output();
    // The log may contain output of functions and installers, thus only its owner may read it.
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        // Opening a named pipe without a reader fails instead of waiting.
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&path);
    let log = log.with_context(|| format!("failed to open {} for the log", path.display()))?;
    let begins = log.metadata()?.len();
    let (said, notify) = pipe_with(PipeFlags::CLOEXEC)?;

    let child = command(directory, options)?
        .stdin(notify)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("failed to start the worker in the background")?;
    // `Command` has closed its copy of the pipe's end, thus now only the child holds it.
    let mut line = String::new();
    BufReader::new(File::from(said)).read_line(&mut line)?;
    match line.strip_prefix("ready ") {
        Some(url) => {
            ready(out, directory, url.trim());
            Ok(ExitCode::SUCCESS)
        }
        None => failed(out, child, &path, begins),
    }
}

fn command(directory: &Directory, options: &[String]) -> Result<Command> {
    // The child must not inherit other files of the calling shell: somebody may wait for the end of a pipe among them.
    ol_sys::process::close_on_exec_above_stderr().context("look after open files")?;
    // The real path if possible, for people who list processes; the link always works.
    let program = std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let mut command = Command::new(program);
    command
        .arg0("ol")
        .args(["worker", "up", "--detached", "-p"]);
    command.arg(directory.root());
    for given in options {
        command.arg("-o").arg(given);
    }
    Ok(command)
}

fn ready(out: Out, directory: &Directory, url: &str) {
    let pid: Option<i32> = fs::read_to_string(directory.pid_file())
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let whom = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let value = json!({"url": url, "pid": pid, "log": directory.output()});
    out.result(
        &value,
        format_args!(
            "ready at {url}{whom}; its log is {}",
            directory.output().display()
        ),
    );
}

fn failed(out: Out, mut child: Child, path: &Path, begins: u64) -> Result<ExitCode> {
    let status = child.wait().context("failed to wait for the worker")?;
    let text = written_since(path, begins).with_context(|| {
        format!(
            "the worker failed to start, and {} is unreadable",
            path.display()
        )
    })?;
    let lines: Vec<&str> = text.lines().collect();
    let reason = lines.iter().rev().find_map(|l| l.strip_prefix("error: "));
    // If the log has only one line, that line is the reason.
    if lines.len() > 1 {
        out.note(format_args!("{} ends:", path.display()));
        for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
            out.note(format_args!("  {line}"));
        }
    }
    match reason {
        Some(reason) => bail!("{reason}"),
        None => bail!(
            "the worker ended while starting ({status}); see {}",
            path.display()
        ),
    }
}

/// What was appended to the file after its first `begins` bytes; at most the last `TAIL_BYTES` of it.
fn written_since(path: &Path, begins: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(begins.max(end.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Called first in the background process: leaves the terminal's session, and moves the pipe away from standard input, so that processes
/// started later don't inherit it.
pub(super) fn settle() -> Result<OwnedFd> {
    // Fails only for the leader of a process group, which a spawned child is not.
    rustix::process::setsid().context("--detached is for `ol worker up -d` to use")?;
    let notify = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(notify)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_starts_part_of_the_log_is_shown() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let path = scratch.path().join("worker.out");
        fs::write(&path, "an earlier start\nerror: this time\n").expect("written");
        let begins = "an earlier start\n".len() as u64;
        let text = written_since(&path, begins).expect("read");
        assert_eq!(text, "error: this time\n");
    }
}
