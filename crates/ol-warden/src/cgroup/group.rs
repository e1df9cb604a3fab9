//! One sandbox's groups: one directory in each hierarchy that is in use, handled as one.

use super::probe::{Layout, write};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags, open};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a sandbox may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GroupLimits {
    /// Memory in bytes, page cache and tmpfs included.
    pub memory: u64,
    /// Swap in bytes on top of it.
    pub swap: u64,
    /// Processes and threads.
    pub pids: u32,
    /// CPU time in percent of one core.
    pub cpu_percent: u32,
    /// When memory runs out, the whole sandbox is killed, not only the process that exceeded the limit.
    pub oom_ends_all: bool,
}

/// The file that freezes and thaws a group.
#[derive(Debug)]
pub enum Freezer {
    /// cgroup v2: `cgroup.freeze`, and `cgroup.events`, on which POLLPRI tells when the group is frozen.
    V2 {
        /// Write `1` or `0`.
        freeze: OwnedFd,
        /// Holds the line `frozen 0` or `frozen 1`.
        events: OwnedFd,
    },
    /// cgroup v1: `freezer.state`, `FROZEN` or `THAWED`.
    V1 {
        /// Reads `FREEZING` until all processes have stopped.
        state: OwnedFd,
    },
}

/// A sandbox's groups in all hierarchies.
#[derive(Debug)]
pub struct Group {
    v2: Option<PathBuf>,
    v2_limits: bool,
    v2_threaded: bool,
    v1: Vec<(String, PathBuf)>,
    /// The limits that were set last.
    applied: Option<GroupLimits>,
}

/// The files to which a process writes `0` to enter the groups by itself.
#[derive(Debug)]
pub struct Entrances {
    /// Those of groups to enter before the process allocates anything.
    pub early: Vec<OwnedFd>,
    /// Those of groups that count processes; only the process that stays enters them, not the go-between that forks it.
    pub late: Vec<OwnedFd>,
}

impl Group {
    /// Makes the directories `prefix/name`.
    ///
    /// # Errors
    /// When one can't be made; those made before it are removed again.
    pub fn create(layout: &Layout, prefix: &str, name: &str) -> io::Result<Self> {
        let at = |parent: &Path| parent.join(prefix).join(name);
        let group = Self {
            v2: layout.v2.as_deref().map(at),
            v2_limits: !layout.v2_controllers.is_empty(),
            v2_threaded: layout.threaded(),
            v1: layout
                .v1
                .iter()
                .map(|(c, parent)| (c.clone(), at(parent)))
                .collect(),
            applied: None,
        };
        for (made, path) in group.directories().enumerate() {
            if let Err(error) = fs::create_dir(path) {
                let error = io::Error::new(
                    error.kind(),
                    format!("make cgroup {}: {error}", path.display()),
                );
                // The directories are empty and just made, so this succeeds; the first error is the one to report.
                for ours in group.directories().take(made) {
                    let _ = fs::remove_dir(ours);
                }
                return Err(error);
            }
        }
        if let (Some(v2), true) = (&group.v2, group.v2_threaded)
            && let Err(error) = write(&v2.join("cgroup.type"), "threaded")
        {
            let _ = group.remove();
            return Err(error);
        }
        Ok(group)
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.v2
            .iter()
            .chain(self.v1.iter().map(|(_, path)| path))
            .map(PathBuf::as_path)
    }

    fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1
            .iter()
            .find(|(c, _)| c == controller)
            .map(|(_, path)| path.as_path())
    }

    /// Opens the v2 directory for `CLONE_INTO_CGROUP`, which spares a child the cost of a migration.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn v2_directory(&self) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.v2
            .as_deref()
            .map(|path| Ok(open(path, flags, Mode::empty())?))
            .transpose()
    }

    /// Opens the files for a process with one thread to enter the groups: those of v1, and also of v2 if `with_v2`.
    ///
    /// Of two files that do the same the one for threads is taken: a process that moves itself through it need not wait until the
    /// kernel has stopped all forks of the machine, which takes 8 to 16 ms after a pause.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn entrances(&self, with_v2: bool) -> io::Result<Entrances> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = |path: PathBuf| Ok::<_, io::Error>(open(path, flags, Mode::empty())?);
        let mut entrances = Entrances {
            early: Vec::new(),
            late: Vec::new(),
        };
        if let Some(v2) = self.v2.as_deref().filter(|_| with_v2) {
            let name = if self.v2_threaded {
                "cgroup.threads"
            } else {
                "cgroup.procs"
            };
            entrances.early.push(file(v2.join(name))?);
        }
        for (controller, path) in &self.v1 {
            let tasks = file(path.join("tasks"))?;
            if controller == "pids" {
                entrances.late.push(tasks);
            } else {
                entrances.early.push(tasks);
            }
        }
        Ok(entrances)
    }

    /// Sets the limits; writes only those that differ from the present ones.
    ///
    /// # Errors
    /// When a file that must exist can't be written.
    pub fn limit(&mut self, limits: &GroupLimits) -> io::Result<()> {
        const PERIOD: u64 = 100_000; // µs
        let before = self.applied;
        if before == Some(*limits) {
            return Ok(());
        }
        let differs =
            |what: fn(&GroupLimits) -> u64| before.map(|b| what(&b)) != Some(what(limits));
        let quota = u64::from(limits.cpu_percent) * PERIOD / 100;
        let v2 = self.v2.clone().filter(|_| self.v2_limits);
        let set = |file: &str, value: String| match &v2 {
            // Each file exists only where its controller is on (and swap is compiled in).
            Some(v2) if v2.join(file).exists() => write(&v2.join(file), &value),
            _ => Ok(()),
        };
        if differs(|l| l.memory) || differs(|l| l.swap) {
            self.limit_memory(before.map(|b| b.memory), limits)?;
        }
        if differs(|l| l.oom_ends_all.into()) {
            set(
                "memory.oom.group",
                u8::from(limits.oom_ends_all).to_string(),
            )?;
        }
        if differs(|l| l.pids.into()) {
            set("pids.max", limits.pids.to_string())?;
            if let Some(pids) = self.v1("pids") {
                write(&pids.join("pids.max"), &limits.pids.to_string())?;
            }
        }
        if differs(|l| l.cpu_percent.into()) {
            set("cpu.max", format!("{quota} {PERIOD}"))?;
            if let Some(cpu) = self.v1("cpu") {
                write(&cpu.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
                write(&cpu.join("cpu.cfs_quota_us"), &quota.to_string())?;
            }
        }
        self.applied = Some(*limits);
        Ok(())
    }

    fn limit_memory(&self, before: Option<u64>, limits: &GroupLimits) -> io::Result<()> {
        if let Some(v2) = self.v2.as_deref().filter(|_| self.v2_limits) {
            for (file, value) in [
                ("memory.max", limits.memory),
                ("memory.swap.max", limits.swap),
            ] {
                let path = v2.join(file);
                if path.exists() {
                    write(&path, &value.to_string())?;
                }
            }
        }
        let Some(memory) = self.v1("memory") else {
            return Ok(());
        };
        let with_swap = memory.join("memory.memsw.limit_in_bytes");
        let both = limits.memory.saturating_add(limits.swap).to_string();
        let grows = before.is_some_and(|before| before < limits.memory);
        // Memory alone may never exceed memory with swap, not even between two writes.
        if grows && with_swap.exists() {
            write(&with_swap, &both)?;
        }
        write(
            &memory.join("memory.limit_in_bytes"),
            &limits.memory.to_string(),
        )?;
        if !grows && with_swap.exists() {
            write(&with_swap, &both)?;
        }
        // v1 counts socket buffers separately, and only once this is set; a quarter is plenty for loopback and pipes to peers.
        let sockets = memory.join("memory.kmem.tcp.limit_in_bytes");
        if sockets.exists() {
            write(&sockets, &(limits.memory / 4).to_string())?;
        }
        Ok(())
    }

    /// Sets only the memory limit, to `memory` bytes.
    ///
    /// If more than that is in use, the kernel first reclaims what it can, and refuses if that isn't enough.
    ///
    /// # Errors
    /// When the kernel refuses; the limit then stays as it was.
    pub fn limit_memory_to(&mut self, memory: u64) -> io::Result<()> {
        let before = self
            .applied
            .ok_or_else(|| io::Error::other("it has no limits yet"))?;
        self.limit(&GroupLimits { memory, ..before })
    }

    /// The memory limit in bytes; 0 if no limits were set.
    pub fn memory_limit(&self) -> u64 {
        self.applied.map_or(0, |limits| limits.memory)
    }

    /// Bytes of memory in use.
    ///
    /// # Errors
    /// When there is no memory controller, or its file can't be read.
    pub fn memory_used(&self) -> io::Result<u64> {
        let file = match (self.v1("memory"), &self.v2) {
            (Some(v1), _) => v1.join("memory.usage_in_bytes"),
            (None, Some(v2)) => v2.join("memory.current"),
            (None, None) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let text = fs::read_to_string(file)?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// Kills every process in the group itself, not in groups beneath it; forks in it fail from then on.
    ///
    /// # Errors
    /// When the group can't be read or changed.
    pub fn kill_members(&self) -> io::Result<()> {
        self.thaw_to_die()?;
        for path in self.directories() {
            let file = path.join("pids.max");
            if file.exists() {
                write(&file, "0")?;
            }
        }
        for path in self.directories() {
            super::kill::kill_in(path)?;
        }
        Ok(())
    }

    /// Opens the freezer's files, which are then handed to the worker.
    ///
    /// # Errors
    /// When the machine has none, or those of open(2).
    pub fn freezer(&self) -> io::Result<Freezer> {
        let file = |path: PathBuf, flags| open(path, flags | OFlags::CLOEXEC, Mode::empty());
        if let Some(v2) = &self.v2 {
            let freeze = file(v2.join("cgroup.freeze"), OFlags::WRONLY)?;
            let events = file(v2.join("cgroup.events"), OFlags::RDONLY)?;
            Ok(Freezer::V2 { freeze, events })
        } else if let Some(v1) = self.v1("freezer") {
            Ok(Freezer::V1 {
                state: file(v1.join("freezer.state"), OFlags::RDWR)?,
            })
        } else {
            Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "no cgroup2 and no freezer hierarchy is mounted",
            ))
        }
    }

    /// On v1, a descriptor that becomes readable when memory runs out. The offending process then stays blocked until user space
    /// kills the group, so nothing is answered in between. v2 ends the whole group by itself.
    ///
    /// # Errors
    /// When the event can't be registered with the kernel.
    pub fn out_of_memory_alarm(&self) -> io::Result<Option<OwnedFd>> {
        let Some(memory) = self.v1("memory") else {
            return Ok(None);
        };
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let path = memory.join("memory.oom_control");
        let control = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let order = format!("{} {}", alarm.as_raw_fd(), control.as_raw_fd());
        write(&memory.join("cgroup.event_control"), &order)?;
        // Disables the OOM killer, which would kill single processes.
        write(&path, "1")?;
        Ok(Some(alarm))
    }

    /// How many processes of this group the kernel killed because memory ran out.
    pub fn oom_kills(&self) -> u64 {
        let file = match (self.v1("memory"), &self.v2) {
            (Some(v1), _) => v1.join("memory.oom_control"),
            (None, Some(v2)) => v2.join("memory.events"),
            (None, None) => return 0,
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .find_map(|l| l.strip_prefix("oom_kill "))
            .and_then(|n| n.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Thaws the group on v1, where a frozen process doesn't die when it is killed.
    ///
    /// # Errors
    /// When the freezer can't be written.
    pub fn thaw_to_die(&self) -> io::Result<()> {
        self.v1("freezer")
            .map_or(Ok(()), |v1| write(&v1.join("freezer.state"), "THAWED"))
    }

    /// Removes the directories; missing ones are no error.
    ///
    /// # Errors
    /// The first failure (`EBUSY` while a process is inside), after trying all.
    pub fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        for path in self.directories() {
            match fs::remove_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    result = result.and(Err(io::Error::new(
                        error.kind(),
                        format!("{}: {error}", path.display()),
                    )));
                }
                _ => {}
            }
        }
        result
    }
}
