//! Children that end with the benchmark, and a list that tells them from processes that it has inherited.
//!
//! Exists because the benchmark is a subreaper: processes that a dead worker leaves become its children, and only a list tells them from
//! those that it started itself.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

/// Makes the kernel send this process SIGTERM when the thread that started it ends.
pub(crate) fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .context("failed to ask for a signal at the parent's death")
}

/// The body of `xtask __child`: calls [`die_with_parent`], then becomes `program`. The child must make that request itself; it survives the
/// exec.
pub(crate) fn become_program(program: &[String]) -> Result<()> {
    die_with_parent()?;
    let (name, args) = program.split_first().context("no program was named")?;
    let error = Command::new(name).args(args).exec();
    Err(error).with_context(|| format!("failed to run {name}"))
}

/// A command that runs `program` as a child that dies with this process.
pub(super) fn command(program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("__child").arg(program);
    Ok(command)
}

/// The children that this process started itself; any other child is an adopted orphan.
static STARTED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A copy of [`STARTED`].
pub(super) fn started() -> BTreeSet<u32> {
    started_set().clone()
}

pub(super) fn started_set() -> MutexGuard<'static, BTreeSet<u32>> {
    // An insert or a removal can't be half done, thus a poisoned lock is fine.
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A floor that isn't a server: it answers through pipes, makes no orphans, and is killed when dropped.
pub(super) struct Helper(Child);

impl Helper {
    /// Starts `command`. Call it only from the main thread: the child dies with the thread that started it.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let child = command
            .process_group(0)
            .spawn()
            .context("failed to start a floor")?;
        started_set().insert(child.id());
        Ok(Self(child))
    }

    pub(super) fn process(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // If it was already waited for through `process`, this does nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
        started_set().remove(&self.0.id());
    }
}
