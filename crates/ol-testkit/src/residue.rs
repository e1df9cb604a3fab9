//! What exists of a worker on this host, counted by asking the kernel, not the worker.
//!
//! A process is counted as a worker's when the kernel shows a connection to its directory: its cgroup has the prefix, it was started with
//! the directory as an argument, its mount namespace contains something of it (as for every keeper and leaf), or it has a file there open.
//! Thus it doesn't matter which process is whose child, and other workers on the machine are not counted.

use crate::process::{self, Process};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How to recognise what belongs to a worker.
#[derive(Debug, Clone)]
pub struct Traits {
    /// The prefix of its cgroups' names.
    pub prefix: String,
    /// A part of its directory's path that occurs nowhere else. (In mountinfo, a path may begin at any mount's root.)
    pub unique: String,
}

/// What exists of a worker.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Cgroup directories, in all hierarchies.
    pub cgroups: Vec<PathBuf>,
    /// Processes, each with the reason why it is counted.
    pub processes: Vec<String>,
    /// Lines of this process's mountinfo.
    pub mounts: Vec<String>,
    /// Network interfaces and tables of rules with its name, in the network namespace of the calling thread.
    pub network: Vec<String>,
    /// Network namespaces that these processes are in, except this process's.
    pub network_namespaces: BTreeSet<PathBuf>,
}

impl Traits {
    /// The traits of the worker in `directory`; `unique` is a part of that path.
    #[must_use]
    pub fn of(directory: &Path, unique: &str) -> Self {
        let path = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        // FNV-1a, 32 bits. `Place::up` checks that cgroups are still named like this.
        let hash = path
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
            });
        Self {
            prefix: format!("ol-{hash:08x}"),
            unique: unique.to_owned(),
        }
    }

    /// Counts everything.
    #[must_use]
    pub fn census(&self) -> Census {
        let ours = Process::of(i32::try_from(std::process::id()).expect("a pid is an i32"));
        let ours = ours.expect("this process lives");
        let mut census = Census {
            cgroups: self.cgroups(),
            network: self.network(),
            ..Census::default()
        };
        let mentions = |text: &str| text.contains(&self.unique);
        census.mounts = ours
            .read("mountinfo")
            .lines()
            .filter(|line| mentions(line))
            .map(str::to_owned)
            .collect();
        for process in process::all()
            .into_iter()
            .filter(|process| *process != ours)
        {
            if let Some(why) = self.tie(process, ours) {
                let name = process.status("Name").unwrap_or_default();
                census
                    .processes
                    .push(format!("{} {name}: {why}", process.pid));
                census.network_namespaces.extend(process.link("ns/net"));
            }
        }
        census
            .network_namespaces
            .retain(|namespace| Some(namespace) != ours.link("ns/net").as_ref());
        census
    }

    fn network(&self) -> Vec<String> {
        let interfaces = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
        let tables = Command::new("/usr/sbin/nft")
            .args(["list", "tables"])
            .output();
        let tables = tables.map_or_else(|_| Vec::new(), |output| output.stdout);
        interfaces
            .lines()
            .chain(String::from_utf8_lossy(&tables).lines())
            .filter(|line| line.contains(&self.prefix))
            .map(|line| line.trim().to_owned())
            .collect()
    }

    /// Why a process belongs to the worker, if it does.
    fn tie(&self, process: Process, ours: Process) -> Option<&'static str> {
        if process.read("cgroup").contains(&self.prefix) {
            return Some("is in its cgroup");
        }
        let command = process.read("cmdline");
        if command.contains(&self.unique) {
            return Some("was started on its directory");
        }
        // The keeper of a shell that nobody uses yet is in no cgroup and has nothing of the directory mounted.
        if command.contains(&self.prefix) {
            return Some("keeps a sandbox of it");
        }
        let elsewhere = process.link("ns/mnt") != ours.link("ns/mnt");
        if elsewhere && process.read("mountinfo").contains(&self.unique) {
            return Some("sees its directory mounted");
        }
        let holds = |path: &PathBuf| path.to_string_lossy().contains(&self.unique);
        process
            .descriptors()
            .iter()
            .any(holds)
            .then_some("holds a file in its directory")
    }

    /// Its cgroups in all hierarchies, including those of sandboxes.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for root in hierarchies() {
            walk(&root, &mut |path| {
                if path
                    .components()
                    .any(|part| part.as_os_str().to_string_lossy().starts_with(&self.prefix))
                {
                    found.push(path.to_owned());
                }
            });
        }
        found.sort();
        found.dedup();
        found
    }
}

impl Census {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// The mount points of cgroup hierarchies.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let is_cgroup = |line: &&str| line.contains(" - cgroup2 ") || line.contains(" - cgroup ");
    mounts
        .lines()
        .filter(is_cgroup)
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .collect()
}

fn walk(folder: &Path, see: &mut impl FnMut(&Path)) {
    // A cgroup may be removed meanwhile.
    for entry in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            see(&entry.path());
            walk(&entry.path(), see);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    /// If the census never found anything, every test would pass.
    #[test]
    fn a_process_tied_to_the_directory_is_found() {
        let place = tempfile::Builder::new()
            .prefix("olt-")
            .tempdir()
            .expect("a temporary directory");
        let unique = place
            .path()
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let traits = Traits::of(place.path(), &unique);
        assert!(traits.census().is_nothing());
        let file = fs::File::create(place.path().join("held")).expect("created");
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(file)
            .spawn()
            .expect("cat is everywhere");
        let found = traits.census().processes;
        drop(child.stdin.take());
        child.wait().expect("it ends with its input");
        assert_eq!(
            found,
            [format!("{} cat: holds a file in its directory", child.id())]
        );
        assert!(traits.census().is_nothing());
    }
}
