//! A throw-away virtual machine with only cgroup v2, for hosts that don't have that (v1, hybrid, a container without delegation).
//!
//! It is Debian's kernel under qemu's interpreter, thus needs neither KVM nor privileges. Its root is the host's file system, read-only,
//! beneath a layer in memory: programs built on the host run there, and nothing done there is left behind.

mod boot;
mod image;
mod kernel;
mod packages;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use crate::cargo::{self, Workspace};

/// Options common to all uses of the machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct MachineOptions {
    /// End the machine after so many seconds; installing and building count too
    #[arg(long, value_name = "SECONDS", default_value_t = 540)]
    limit: u64,
    /// Processors of the machine
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    cpus: u32,
    /// Memory of the machine
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
    /// Set a variable for the command; OL_* and RUST_* of the caller are there already
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
}

impl MachineOptions {
    /// The time at which everything must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.limit)
    }
}

/// Run a command in the cgroup v2 machine, as root, and exit with its status
#[derive(Debug, Args)]
pub(crate) struct VmArgs {
    #[command(flatten)]
    machine: MachineOptions,
    /// The command, run in the current directory
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// A command to run in the machine.
#[derive(Debug)]
pub(crate) struct Job {
    /// The command and its arguments.
    pub(crate) command: Vec<OsString>,
    /// The folder in which it runs.
    pub(crate) dir: PathBuf,
    /// Variables in addition to the usual ones.
    pub(crate) env: Vec<(String, OsString)>,
}

/// The result of a job.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The command's exit status as a shell shows it: above 128 for a signal.
    pub(crate) code: u8,
    /// Everything it printed; this was already passed on.
    pub(crate) output: Vec<u8>,
}

/// `cargo xtask vm`.
pub(crate) fn vm(args: VmArgs) -> Result<ExitCode> {
    let deadline = args.machine.deadline();
    let workspace = cargo::workspace()?;
    let job = Job {
        command: args.command,
        dir: std::env::current_dir().context("cannot tell the current directory")?,
        env: Vec::new(),
    };
    let outcome = run(&workspace, &args.machine, &job, deadline)?;
    Ok(ExitCode::from(outcome.code))
}

/// Boots the machine, runs the job in it and waits until the machine is off again.
pub(crate) fn run(
    workspace: &Workspace,
    options: &MachineOptions,
    job: &Job,
    deadline: Instant,
) -> Result<Outcome> {
    let state = workspace.target_directory.join("test-v2");
    fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
    let qemu = packages::qemu(&state, deadline)?;
    let busybox = packages::busybox(&state, deadline)?;
    let kernel = kernel::kernel(&state, deadline)?;

    let scratch = Scratch::new(&state, "run")?;
    let initramfs = scratch.path.join("initramfs.cpio");
    image::Image {
        busybox: &busybox,
        kernel: &kernel,
        workspace,
        options,
        job,
    }
    .write(&initramfs)?;
    let machine = boot::Machine {
        qemu: &qemu,
        kernel: &kernel.image,
        initramfs: &initramfs,
        options,
        console: scratch.path.join("console"),
        kept_console: state.join("console.log"),
        status: scratch.path.join("status"),
    };
    machine.run(deadline)
}

/// A directory that is removed at the end of the run.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// The prefix of their names, and the age after which one must be a leftover of a process that died.
    const PREFIX: &str = "tmp-";
    const OLD: Duration = Duration::from_secs(24 * 60 * 60);

    fn new(state: &Path, name: &str) -> Result<Self> {
        for stale in names(state)?
            .into_iter()
            .filter(|name| name.starts_with(Self::PREFIX))
        {
            let stale = state.join(stale);
            let made = fs::metadata(&stale).and_then(|metadata| metadata.modified());
            if made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > Self::OLD)) {
                let _ = fs::remove_dir_all(stale);
            }
        }
        let path = state.join(format!("{}{name}-{}", Self::PREFIX, std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Quotes a word so that a shell takes it literally.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Like [`quoted`], for a word that need not be UTF-8.
fn quoted_bytes(word: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in word {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            other => quoted.push(*other),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for (word, expected) in [
            ("it's $HOME", "'it'\\''s $HOME'"),
            ("", "''"),
            ("a\nb", "'a\nb'"),
        ] {
            assert_eq!(quoted(word), expected);
            assert_eq!(quoted_bytes(word.as_bytes()), expected.as_bytes());
        }
    }
}
