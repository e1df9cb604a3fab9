//! Runs a child process with a deadline. Everything that `xtask` starts may hang (a machine that never powers off, a build that waits for a
//! lock). Thus its output is read as it comes, and at the deadline that one process is killed, through the handle it was started with and
//! never by its name.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a child is checked for its end, once its output has ended.
const POLL: Duration = Duration::from_millis(20);

/// How a child ended.
pub(crate) enum Ended {
    /// It ended by itself.
    Exited(ExitStatus),
    /// It still ran at the deadline, and was killed.
    TimedOut,
}

/// Runs `command` without input until it ends or `deadline` passes, and passes each piece of its standard output to `on_output` as it
/// arrives. Its standard error is this program's.
///
/// The child is also killed if this program dies: `setpriv` asks the kernel for that before it becomes `command`.
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
        // Ends when the pipe does, or when the receiver is gone.
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
            // An error here means that it has just ended, and `wait` will say so.
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
        // The output has ended, hence so will the thread. After a timeout the thread may live on, as long as a grandchild keeps the pipe
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
