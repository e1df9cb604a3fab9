//! `ol worker force-cleanup`: ends a worker that can't be stopped and removes what it left. If nothing is wrong, it does nothing and says
//! so.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use ol_worker::directory::Directory;
use rustix::process::{Signal, geteuid};
use serde_json::json;

use crate::at::At;
use crate::out::Out;
use crate::process;

/// How long killed processes may take to end: the kernel must first finish what they were doing.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct ForceCleanup {
    #[command(flatten)]
    at: At,
}

impl ForceCleanup {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let directory = self.at.open()?;
        if !geteuid().is_root() {
            bail!(
                "ol worker force-cleanup ends processes and removes cgroups of root; run it with sudo"
            );
        }
        let killed = kill(&directory)?;
        let removed = directory.remove_residue()?;
        let value = json!({
            "killed": killed,
            "cgroups": removed.cgroups,
            "network": removed.network,
            "paths": removed.paths,
        });
        let root = directory.root().display();
        if killed.is_empty() && removed.is_nothing() {
            out.result(&value, format_args!("nothing to clean up in {root}"));
        } else {
            let text = format!(
                "cleaned up {root}: {} processes ended, {} cgroups, {} parts of its network and {} paths removed",
                killed.len(),
                removed.cgroups,
                removed.network,
                removed.paths.len()
            );
            out.result(&value, text);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Kills the worker and its supervisor, if they run; returns their pids.
fn kill(directory: &Directory) -> Result<Vec<i32>> {
    if !process::is_running(directory)? {
        return Ok(Vec::new());
    }
    // Find both before killing either: the worker is recognised as the supervisor's child.
    let worker = process::worker(directory);
    let Some(supervisor) = process::supervisor(directory) else {
        if !process::is_running(directory)? {
            return Ok(Vec::new());
        }
        return process::unidentified(directory);
    };
    let mut killed = Vec::new();
    for target in [Some(supervisor), worker].into_iter().flatten() {
        target.signal(Signal::KILL)?;
        let pid = target.pid.as_raw_pid();
        if !killed.contains(&pid) {
            killed.push(pid);
        }
    }
    if !directory.wait_unlocked(PATIENCE)? {
        bail!(
            "{} is still held {} s after its holder was killed; a disk may hang, see `dmesg`",
            directory.lock_file().display(),
            PATIENCE.as_secs()
        );
    }
    Ok(killed)
}
