//! CPU and memory of a server and everything it started, read from `/proc`.
//!
//! Exists because a worker consists of many processes (worker, warden, keepers, Python), and a benchmark that counted only the first would
//! reward moving work into the others. A process whose parent died counts too: the benchmark adopts it (see [`super::child`]).

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rustix::io::Errno;

/// If other programs use more than this share of the cores, it shows in the results.
const NOISY: f64 = 0.05;

/// `USER_HZ`: the unit of `/proc/PID/stat` on every Linux architecture that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process and all its descendants, at one moment.
pub(super) struct Tree {
    pub(super) members: Vec<Process>,
}

pub(super) struct Process {
    pub(super) pid: u32,
    parent: u32,
    /// User and system time of the process and of the children it has reaped.
    ticks: u64,
}

impl Tree {
    /// `root` and its descendants; `with_orphans`, also the processes that this process has adopted and their descendants.
    pub(super) fn of(root: u32, with_orphans: bool) -> Result<Self> {
        let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
        let mut members = Vec::new();
        for process in all()? {
            if process.pid == root {
                members.push(process);
            } else {
                children.entry(process.parent).or_default().push(process);
            }
        }
        if with_orphans && let Some(siblings) = children.remove(&std::process::id()) {
            members.extend(orphans_among(siblings));
        }
        let mut at = 0;
        while at < members.len() {
            members.extend(children.remove(&members[at].pid).unwrap_or_default());
            at += 1;
        }
        Ok(Self { members })
    }

    /// The CPU time used so far, in seconds. Each process is rounded down to 10 ms, thus measure over seconds.
    pub(super) fn cpu_seconds(&self) -> f64 {
        self.members.iter().map(|p| p.ticks as f64).sum::<f64>() / TICKS_PER_SECOND
    }

    /// Members that run a Python interpreter: leaves and zygotes.
    pub(super) fn pythons(&self) -> Vec<u32> {
        self.having(|process| {
            executable(process.pid)
                .and_then(|path| Some(path.file_name()?.to_str()?.starts_with("python")))
                .unwrap_or(false)
        })
    }

    /// Members in the host's own pid namespace that aren't Python: of the worker, that is itself and its warden, but no keeper, which is
    /// the first process of a pid namespace.
    pub(super) fn servers(&self) -> Vec<u32> {
        let pythons: HashSet<u32> = self.pythons().into_iter().collect();
        self.having(|process| !pythons.contains(&process.pid) && namespaces_deep(process.pid) == 1)
    }

    fn having(&self, wanted: impl Fn(&Process) -> bool) -> Vec<u32> {
        self.members
            .iter()
            .filter(|process| wanted(process))
            .map(|process| process.pid)
            .collect()
    }
}

/// Processes that this process has inherited from a server or a child of one.
pub(super) fn adopted() -> Result<Vec<u32>> {
    let own = std::process::id();
    let children = all()?.into_iter().filter(|process| process.parent == own);
    Ok(orphans_among(children.collect())
        .map(|process| process.pid)
        .collect())
}

/// Those children of this process that it didn't start itself.
fn orphans_among(children: Vec<Process>) -> impl Iterator<Item = Process> {
    let started = super::tied::started();
    children
        .into_iter()
        .filter(move |process| !started.contains(&process.pid))
}

/// The proportional set size of `pids` together, in MiB: a page shared by n processes counts as 1/n for each. Processes that have ended
/// count as 0.
pub(super) fn pss_mib(pids: &[u32]) -> Result<f64> {
    let kib = pids.iter().map(|pid| {
        let Some(text) = read_of_running(*pid, "smaps_rollup")? else {
            return Ok(0.0);
        };
        text.lines()
            .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB"))
            .with_context(|| format!("no Pss in /proc/{pid}/smaps_rollup"))?
            .trim()
            .parse::<f64>()
            .context("a Pss that isn't a number")
    });
    Ok(kib.sum::<Result<f64>>()? / 1024.0)
}

/// Nanoseconds for which the main threads of `pids` have run: precise enough to see that a paused process didn't run at all.
pub(super) fn ran_nanoseconds(pids: &[u32]) -> Result<u64> {
    let ran = pids.iter().map(|pid| {
        let Some(text) = read_of_running(*pid, "schedstat")? else {
            return Ok(0);
        };
        let first = text.split_whitespace().next().unwrap_or_default();
        first.parse::<u64>().context("a schedstat without a number")
    });
    ran.sum()
}

/// `/proc/PID/NAME`; `None` when the process has ended, which it may do at any time.
fn read_of_running(pid: u32, name: &str) -> Result<Option<String>> {
    let path = format!("/proc/{pid}/{name}");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        // ENOENT when it has been reaped, ESRCH while it waits for that.
        Err(error)
            if error.kind() == ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("failed to read {path}")),
    }
}

/// The machine's CPU time over a stretch, and how much of it was used by programs that have nothing to do with the benchmark and make its
/// results noisy.
pub(super) struct Neighbours {
    whole: f64,
    busy: f64,
    own: f64,
}

impl Neighbours {
    pub(super) fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("failed to read /proc/stat")?;
        let line = text.lines().next().unwrap_or_default();
        // See proc_stat(5): user nice system idle iowait irq softirq steal; all steps are USER_HZ.
        let ticks: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .map(|field| field.parse().context("not a number in /proc/stat"))
            .collect::<Result<_>>()?;
        let whole = ticks.iter().sum::<f64>();
        Ok(Self {
            whole,
            busy: whole - ticks.get(3..5).unwrap_or_default().iter().sum::<f64>(),
            own: Tree::of(std::process::id(), false)?.cpu_seconds() * TICKS_PER_SECOND,
        })
    }

    /// The share of all cores, 0 to 1, that other programs have used since.
    fn share_since(&self) -> Result<f64> {
        let now = Self::now()?;
        let foreign = (now.busy - self.busy) - (now.own - self.own);
        Ok((foreign / (now.whole - self.whole).max(1.0)).clamp(0.0, 1.0))
    }

    /// That share as a sentence, with a warning when it is too large.
    pub(super) fn note(&self) -> Result<String> {
        let share = self.share_since()?;
        let warning = if share > NOISY {
            ": TOO MANY, measure again"
        } else {
            ""
        };
        let percent = share * 100.0;
        Ok(format!(
            "other programs used {percent:.0} % of the cores meanwhile{warning}"
        ))
    }
}

fn all() -> Result<Vec<Process>> {
    Ok(std::fs::read_dir("/proc")
        .context("failed to read /proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        // A process that ended since the listing is left out.
        .filter_map(|pid| {
            read(
                pid,
                &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?,
            )
        })
        .collect())
}

/// See proc_pid_stat(5). The command's name may contain spaces and brackets, thus the last bracket ends it.
fn read(pid: u32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    // Field 3 (state) is at 0: ppid 4, utime 14, stime 15, cutime 16, cstime 17.
    let ticks = (11..15)
        .map(|field| fields.get(field)?.parse::<u64>().ok())
        .sum::<Option<u64>>()?;
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        ticks,
    })
}

fn executable(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// How many pid namespaces this process is visible in; 1 means only the host's own.
fn namespaces_deep(pid: u32) -> usize {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
            Some(line.split_whitespace().count())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_nasty_name_is_read() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 99 0 0";
        let process = read(7, line).expect("a whole line");
        assert_eq!((process.pid, process.parent, process.ticks), (7, 3, 127));
        assert!(read(7, "7 (short) S 3").is_none());
    }

    #[test]
    fn a_child_is_a_member_and_its_memory_counts() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep starts");
        let tree = Tree::of(std::process::id(), false).expect("/proc is readable");
        let pids: Vec<u32> = tree.members.iter().map(|p| p.pid).collect();
        assert!(pids.contains(&std::process::id()) && pids.contains(&child.id()));
        assert!(pss_mib(&[std::process::id()]).expect("readable") > 0.1);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
}
