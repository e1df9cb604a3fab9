//! Running a child process against the clock. Everything `xtask` starts may hang (a machine that
//! never powers off, a build waiting for a lock), and the answer is always the same: read its
//! output as it comes, and at the deadline end that one process, by the handle it was started with
//! and never by its name.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often an exiting child is looked at, once its output has ended.
const POLL: Duration = Duration::from_millis(20);

/// How a child ended.
pub(crate) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It was still there at the deadline, and was killed.
    TimedOut,
}

/// Runs `command` without input until it ends or `deadline` passes, and hands each piece of its
/// standard output to `on_output` as it arrives. Its standard error is ours.
///
/// The child is also killed should this program die: `setpriv` asks the kernel for that before it
/// becomes `command`.
pub(crate) fn supervise(
    command: &Command,
    deadline: Instant,
    mut on_output: impl FnMut(&[u8]),
) -> Result<Ended> {
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(key, value),
            None => tied.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        tied.current_dir(dir);
    }
    let name = command.get_program().display().to_string();
    let mut child = tied
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start setpriv (package util-linux) to run {name}"))?;
    let mut stdout = child
        .stdout
        .take()
        .with_context(|| format!("{name} has no standard output"))?;

    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        // The pipe ends, or nobody listens any more: either way there is no more to do.
        while let Ok(read) = stdout.read(&mut buffer) {
            if read == 0 || sender.send(buffer[..read].to_vec()).is_err() {
                break;
            }
        }
    });

    let mut open = true;
    let ended = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // An error here means it has ended in this very moment, and `wait` will say so.
            let _ = child.kill();
            child
                .wait()
                .with_context(|| format!("cannot wait for {name}"))?;
            break Ended::TimedOut;
        }
        if open {
            match receiver.recv_timeout(left) {
                Ok(piece) => on_output(&piece),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
        } else if let Some(status) = child
            .try_wait()
            .with_context(|| format!("cannot wait for {name}"))?
        {
            break Ended::Exited(status);
        } else {
            thread::sleep(POLL.min(left));
        }
    };
    if !open {
        // It has ended. After a timeout it may live on for as long as a grandchild keeps the pipe
        // open.
        reader.join().ok();
    }
    Ok(ended)
}

/// Runs a tool which must succeed, and returns what it printed.
pub(crate) fn output(command: &Command, deadline: Instant) -> Result<String> {
    let mut printed = Vec::new();
    let name = command.get_program().display().to_string();
    match supervise(command, deadline, |piece| printed.extend_from_slice(piece))? {
        Ended::Exited(status) if status.success() => String::from_utf8(printed)
            .with_context(|| format!("{name} printed something which is not text")),
        Ended::Exited(status) => bail!("{name} {} failed: {status}", words(command)),
        Ended::TimedOut => bail!(
            "{name} {} was still running at the time limit, and was ended",
            words(command)
        ),
    }
}

/// The arguments of a command, for a message.
fn words(command: &Command) -> String {
    command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
