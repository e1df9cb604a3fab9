//! Limits, freezing and accounting of sandboxes, behind one interface for cgroup v2, v1 and hybrid machines.
//!
//! - `probe`: which hierarchies are mounted, and which of them has which controller ([`Layout`])
//! - `group`: one sandbox's groups, one per hierarchy in use, handled as one ([`Group`])
//! - `kill`: kills the processes in a group
//!
//! In each hierarchy all groups lie beneath one directory, which is named by the worker's prefix. No other group is changed, with
//! one exception: on pure v2, a missing controller is switched on for the children of the parent group, and the worker says so at
//! start.

mod group;
mod kill;
mod probe;

pub use group::{Entrances, Freezer, Group, GroupLimits};
pub use probe::{Layout, probe};

use std::fs;
use std::path::Path;

/// The processes that are in groups of `prefix`, by their numbers in this pid namespace; some may have ended by now.
#[must_use]
pub fn processes(layout: &Layout, prefix: &str) -> Vec<i32> {
    let mut pids = Vec::new();
    for parent in layout.parents() {
        kill::all_members(&parent.join(prefix), &mut pids);
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Kills the processes in every group of `prefix` and removes the groups; returns how many directories it removed. Idempotent.
///
/// # Errors
/// When a group can't be removed although no process is in it.
pub fn remove_all(layout: &Layout, prefix: &str) -> std::io::Result<usize> {
    let mut removed = 0;
    for parent in layout.parents() {
        let top = parent.join(prefix);
        if top.is_dir() {
            kill::kill_all(&top)?;
            removed += remove_tree(&top)?;
        }
    }
    Ok(removed)
}

/// Removes a cgroup directory and those beneath it, deepest first.
fn remove_tree(top: &Path) -> std::io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(top)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(top) {
        Ok(()) => Ok(removed + 1),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(removed),
        Err(error) => Err(std::io::Error::new(
            error.kind(),
            format!("remove cgroup {}: {error}", top.display()),
        )),
    }
}
