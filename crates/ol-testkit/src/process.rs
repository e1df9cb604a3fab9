//! Reads `/proc`. A process that ends meanwhile gives no values, which is no error.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// A process. It can't be confused with a later one of the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its pid, in the namespace of this process.
    pub pid: i32,
    /// When it started, in ticks since the machine's boot.
    started: u64,
}

impl Process {
    /// The process that has this pid now; `None` also for one that only waits to be reaped.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let fields = stat(pid)?;
        let dead = matches!(fields.first()?.as_str(), "Z" | "X");
        (!dead).then_some(Self {
            pid,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether it lives.
    #[must_use]
    pub fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Its parent.
    #[must_use]
    pub fn parent(self) -> Option<i32> {
        stat(self.pid)?.get(1)?.parse().ok()
    }

    /// The processor time that it has used, in ticks of 10 ms.
    #[must_use]
    pub fn ticks(self) -> Option<u64> {
        let fields = stat(self.pid)?;
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(number(11)? + number(12)?)
    }

    /// The value of a line in its `/proc/PID/status`.
    #[must_use]
    pub fn status(self, key: &str) -> Option<String> {
        let text = self.read("status");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    }

    /// A number in its `/proc/PID/status`, without its unit.
    ///
    /// # Panics
    /// When it is gone or has no such line.
    #[must_use]
    pub fn number(self, key: &str) -> u64 {
        let value = self.status(key);
        let first = value
            .as_deref()
            .and_then(|value| value.split_whitespace().next());
        first
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("{self:?} has no {key}: {value:?}"))
    }

    /// What its file descriptors refer to.
    #[must_use]
    pub fn descriptors(self) -> Vec<PathBuf> {
        let folder = fs::read_dir(format!("/proc/{}/fd", self.pid));
        let entries = folder.into_iter().flatten().filter_map(Result::ok);
        entries
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .collect()
    }

    /// A symbolic link in its `/proc/PID`, such as `ns/net` or `exe`.
    #[must_use]
    pub fn link(self, name: &str) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/{name}", self.pid)).ok()
    }

    /// A file in its `/proc/PID`; empty when it is gone.
    #[must_use]
    pub fn read(self, name: &str) -> String {
        let bytes = fs::read(format!("/proc/{}/{name}", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether something is mounted at `path` in its mount namespace.
    #[must_use]
    pub fn has_mount(self, path: &str) -> bool {
        let mounts = self.read("mountinfo");
        mounts
            .lines()
            .any(|line| line.split(' ').nth(4) == Some(path))
    }

    /// Sends it a signal, if it is still the same process.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn signal(self, signal: rustix::process::Signal) {
        use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        // The pidfd is open: if the process still lives now, the pidfd refers to it and not to a later one.
        if self.lives() {
            pidfd_send_signal(&pidfd, signal).expect("root may signal anybody");
        }
    }
}

/// All processes on this machine.
#[must_use]
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Process::of)
        .collect()
}

/// The children of `ancestor`, their children, and so on.
#[must_use]
pub fn descendants(ancestor: i32) -> BTreeSet<Process> {
    let all: Vec<_> = all()
        .into_iter()
        .filter_map(|process| Some((process, process.parent()?)))
        .collect();
    let mut found = BTreeSet::new();
    let mut new = vec![ancestor];
    while let Some(parent) = new.pop() {
        let children = all
            .iter()
            .filter(|(_, its)| *its == parent)
            .map(|(process, _)| *process);
        new.extend(
            children
                .filter(|child| found.insert(*child))
                .map(|child| child.pid),
        );
    }
    found
}

/// The fields of `/proc/PID/stat` after the name, which may contain blanks and brackets.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}
