//! Limits, freezing and counting, the same on cgroup v2, v1 and hybrid machines.
//!
//! - `probe`: which hierarchies are mounted and which controller lives where ([`Layout`])
//! - `group`: one sandbox's groups, one per hierarchy in use, as one thing ([`Group`])
//! - `kill`: ending what is in a group
//!
//! Everything lies beneath one directory of ours in each hierarchy, named by a prefix; no other group is touched, except
//! that on pure v2 a missing controller is switched on for the children of the parent (which is said at start).

mod group;
mod kill;
mod probe;

pub use group::{Entrances, Freezer, Group, GroupLimits};
pub use probe::{Layout, probe};

use std::fs;
use std::path::Path;

/// The processes that are in groups of `prefix`, by the numbers that they have here; some may have ended by now.
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

/// Kills what is left in, and removes, every group of `prefix`; returns how many directories went. Idempotent.
///
/// # Errors
/// When a group can't be removed although nothing lives in it.
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
