//! `ol worker up -d`: the worker in the background, and the word that it is ready.
//!
//! ```text
//!   ol worker up -d                       ol worker up --detached
//!     │ spawn: stdin = pipe, ──────────────► │ settle: new session, pipe moved off stdin
//!     │        stdout, stderr = worker.out   │ … starts …
//!     │ ◄──────────── "ready URL\n" ──────── │ serves on
//!     │ ◄──────────── (end of pipe) ──────── ✕ failed: its reason is in worker.out
//! ```
//!
//! The pipe travels as standard input because that is the one descriptor which a child can be given
//! without any unsafe code; the end of it can't be missed, whatever the child dies of.

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

/// Lines of the log that a failure shows.
const TAIL_LINES: usize = 20;
/// How much of the log is looked at for them.
const TAIL_BYTES: u64 = 64 << 10;

/// Starts the worker of `directory` in the background and waits until it is ready or has failed.
pub(super) fn start(out: Out, directory: &Directory, options: &[String]) -> Result<ExitCode> {
    let path = directory.output();
    // What functions and installers print may come there too, so it is its owner's alone.
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        // A named pipe that nobody reads is refused rather than waited for.
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
    // `Command` gave its copy of the pipe's end up with itself, so only the child holds it now.
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
    // What the starting shell happened to have open stays here: somebody may wait for the end of such a pipe.
    ol_sys::process::close_on_exec_above_stderr().context("look after open files")?;
    // By its path where possible, for those who list processes; the link works in any case.
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
    // A log of one line is no more than the reason.
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

/// What was appended to the file after its first `begins` bytes, or the last part of it.
fn written_since(path: &Path, begins: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(begins.max(end.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// In the background process, before anything else: leaves the terminal's session, and takes our pipe
/// off standard input, so that nobody who is started later inherits it.
pub(super) fn settle() -> Result<OwnedFd> {
    // Fails only for the leader of a group, which a spawned child is not.
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
