//! Finds out which cgroup hierarchies this machine has, per controller.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The controllers that set limits.
pub(super) const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// Which hierarchy has which controller. Paths are directories in which the group of the worker's prefix is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The cgroup2 directory to work beneath, if cgroup2 is mounted.
    pub v2: Option<PathBuf>,
    /// The controllers of [`CONTROLLERS`] that v2 offers in that directory.
    pub v2_controllers: Vec<String>,
    /// v1 hierarchies in use: controllers that v2 doesn't offer, and the freezer when there is no cgroup2.
    pub v1: BTreeMap<String, PathBuf>,
    /// The group of this process is delegated to it (systemd `Delegate=yes`).
    ///
    /// The process must leave that group before the group can have children with controllers.
    pub delegated: bool,
}

impl Layout {
    /// Each directory beneath which a group of the worker's prefix is made.
    pub fn parents(&self) -> impl Iterator<Item = &Path> {
        self.v2.iter().chain(self.v1.values()).map(PathBuf::as_path)
    }

    /// The controllers of [`CONTROLLERS`] that no hierarchy offers.
    pub fn missing(&self) -> Vec<&'static str> {
        CONTROLLERS
            .into_iter()
            .filter(|c| {
                !self.v2_controllers.iter().any(|have| have == c) && !self.v1.contains_key(*c)
            })
            .collect()
    }

    /// Whether cgroup2 serves for freezing only, without a controller.
    ///
    /// Groups in it can then be threaded, and a process moves itself between threaded groups without a delay.
    pub fn threaded(&self) -> bool {
        self.v2.is_some() && self.v2_controllers.is_empty()
    }

    /// Makes the top group of `prefix` in each hierarchy, ready for children with limits.
    ///
    /// Returns sentences for the operator on what it changed outside of the worker's own groups.
    ///
    /// # Errors
    /// When a directory or a controller file can't be written.
    pub fn prepare(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut said = Vec::new();
        if let Some(parent) = &self.v2 {
            if self.delegated {
                let supervisor = supervisor(parent, prefix);
                make_dir(&supervisor)?;
                write(&supervisor.join("cgroup.procs"), "0")?;
            }
            for controller in &self.v2_controllers {
                if enable(parent, controller)? {
                    said.push(format!(
                        "switched on the {controller} controller beneath {}",
                        parent.display()
                    ));
                }
            }
            let top = parent.join(prefix);
            make_dir(&top)?;
            for controller in &self.v2_controllers {
                enable(&top, controller)?;
            }
        }
        for parent in self.v1.values() {
            make_dir(&parent.join(prefix))?;
        }
        Ok(said)
    }
}

impl Layout {
    /// Undoes what [`Self::prepare`] did to a delegated subtree. Called by the last process of a worker.
    ///
    /// # Errors
    /// When a controller can't be switched off or the group can't be left.
    pub fn leave(&self, prefix: &str) -> io::Result<()> {
        let Some(parent) = self.v2.as_ref().filter(|_| self.delegated) else {
            return Ok(());
        };
        for controller in &self.v2_controllers {
            write(
                &parent.join("cgroup.subtree_control"),
                &format!("-{controller}"),
            )?;
        }
        write(&parent.join("cgroup.procs"), "0")?;
        fs::remove_dir(supervisor(parent, prefix))
    }
}

/// The group for the worker's own processes on a delegated subtree.
pub(super) fn supervisor(parent: &Path, prefix: &str) -> PathBuf {
    parent.join(format!("{prefix}-supervisor"))
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v1: Vec<&str> = self.v1.keys().map(String::as_str).collect();
        match (&self.v2, v1.is_empty()) {
            (Some(_), true) => write!(f, "cgroup v2 ({})", self.v2_controllers.join(", ")),
            (Some(_), false) => {
                write!(f, "hybrid (freeze and kill on v2; {} on v1)", v1.join(", "))
            }
            (None, false) => write!(f, "cgroup v1 ({})", v1.join(", ")),
            (None, true) => write!(f, "none mounted"),
        }
    }
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
///
/// # Errors
/// When `/proc` can't be read.
pub fn probe() -> io::Result<Layout> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let mut layout = from_mounts(&mountinfo);
    if let Some(root) = layout.v2.clone() {
        if let Some(own) = delegated_group(&root, &own) {
            layout.v2 = Some(own);
            layout.delegated = true;
        }
        let v2 = layout.v2.clone().unwrap_or(root);
        let offered = fs::read_to_string(v2.join("cgroup.controllers"))?;
        layout.v2_controllers = CONTROLLERS
            .into_iter()
            .filter(|c| offered.split_whitespace().any(|have| have == *c))
            .map(str::to_owned)
            .collect();
        for controller in &layout.v2_controllers {
            layout.v1.remove(controller);
        }
        layout.v1.remove("freezer");
    }
    Ok(layout)
}

/// The first mount of each hierarchy that has one of [`CONTROLLERS`] or the freezer.
fn from_mounts(mountinfo: &str) -> Layout {
    let mut layout = Layout::default();
    for line in mountinfo.lines() {
        // id parent major:minor root mountpoint options [optional…] - type source superoptions
        let Some((mount, filesystem)) = line.split_once(" - ") else {
            continue;
        };
        let Some(at) = mount.split(' ').nth(4) else {
            continue;
        };
        let mut filesystem = filesystem.split(' ');
        match filesystem.next() {
            Some("cgroup2") => layout.v2 = layout.v2.or_else(|| Some(PathBuf::from(at))),
            Some("cgroup") => {
                let options = filesystem.nth(1).unwrap_or_default();
                for controller in CONTROLLERS.into_iter().chain(["freezer"]) {
                    if options.split(',').any(|o| o == controller) {
                        layout
                            .v1
                            .entry(controller.to_owned())
                            .or_insert_with(|| PathBuf::from(at));
                    }
                }
            }
            _ => {}
        }
    }
    layout
}

/// This process's own v2 group, if it was delegated (systemd marks it with an extended attribute) and no other process is in it.
fn delegated_group(root: &Path, own: &str) -> Option<PathBuf> {
    let relative = own.lines().find_map(|l| l.strip_prefix("0::/"))?;
    if relative.is_empty() {
        return None;
    }
    let group = root.join(relative);
    let marked = |name: &str| {
        let mut value = [0_u8; 8];
        rustix::fs::getxattr(&group, name, &mut value).is_ok_and(|n| value.get(..n) == Some(b"1"))
    };
    // The group must be empty before its children can have controllers, so this process must be the only one in it.
    let alone = || {
        let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        procs.trim() == std::process::id().to_string()
    };
    ((marked("user.delegate") || marked("trusted.delegate")) && alone()).then(|| group.clone())
}

fn enable(group: &Path, controller: &str) -> io::Result<bool> {
    let file = group.join("cgroup.subtree_control");
    let on = fs::read_to_string(&file)?;
    if on.split_whitespace().any(|c| c == controller) {
        return Ok(false);
    }
    write(&file, &format!("+{controller}"))?;
    Ok(true)
}

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io::Error::new(
            error.kind(),
            format!("make cgroup {}: {error}", path.display()),
        )),
        _ => Ok(()),
    }
}

/// Writes `value` to a cgroup file; the error carries both.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("write {value:?} to {}: {error}", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
34 30 0:30 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_machine_is_read_per_controller() {
        let layout = from_mounts(HYBRID);
        assert_eq!(
            layout.v2.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        assert_eq!(layout.v1["cpu"], Path::new("/sys/fs/cgroup/cpu"));
        assert_eq!(layout.v1.len(), 4);
        assert_eq!(layout.missing(), Vec::<&str>::new());
    }

    #[test]
    fn what_no_hierarchy_offers_is_missing() {
        let layout =
            from_mounts("29 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!(layout.v1.len(), 0);
        assert_eq!(layout.missing(), ["memory", "pids", "cpu"]);
    }
}
