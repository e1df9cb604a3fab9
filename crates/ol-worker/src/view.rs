//! Lets a worker without capabilities reach its directories when they lie in somebody's home.
//!
//! Root without capabilities is subject to permissions like any user, and a home is closed to others (0700, 0750). Nothing is changed on
//! disk: in the worker's own mount namespace, a small empty file system covers the closed directory, and the worker's directories are
//! mounted inside it at their own paths. The worker then sees less of that home than root would.
//!
//! `/run`, which holds other services' sockets, is covered in the same way. Only the files by which the C library resolves names, often
//! links into `/run`, are there, with their content at the start.

use anyhow::{Context, Result};
use ol_sys::mount::{attach, detached};
use ol_sys::namespaces;
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where services have their sockets. The worker needs none of them, but as uid 0 could open those that are root's: a container engine's,
/// the service manager's.
const SOCKETS: &str = "/run";

/// The files by which the C library resolves names; at most `LONGEST` bytes of each are kept.
const NAMING: [&str; 5] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
];
const LONGEST: u64 = 8 << 10;

/// Makes `directories` reachable for this process once it has no capabilities. The process must have one thread.
///
/// # Errors
/// When a directory doesn't exist or the kernel refuses a mount.
pub(crate) fn open_up(directories: &[PathBuf]) -> Result<()> {
    let mut wanted = BTreeSet::new();
    for directory in directories {
        let directory = directory.canonicalize();
        wanted.insert(directory.context("look at the worker's directories")?);
    }
    let mut closed: BTreeSet<PathBuf> = wanted
        .iter()
        .filter_map(|path| closed_above(path))
        .collect();
    closed.insert(PathBuf::from(SOCKETS));
    // The set lists a directory before those within it; mounting the outer one brings the inner ones along.
    let mut tops: Vec<PathBuf> = Vec::new();
    for path in wanted {
        if !tops.iter().any(|top| path.starts_with(top)) {
            tops.push(path);
        }
    }
    let naming = naming_below(&closed);
    namespaces::leave(libc::CLONE_NEWNS).context("make a mount namespace")?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .context("keep mounts to ourselves")?;
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .context("a directory's name is not UTF-8")
    };
    let mut trees = Vec::new();
    for top in tops {
        let tree =
            detached(CWD, &text(&top)?, 0).with_context(|| format!("take {}", top.display()))?;
        trees.push((top, tree));
    }
    for cover in &closed {
        // A directory within a covered one no longer exists and needs no cover.
        if cover.exists() {
            let options = c"mode=0755,size=64k,nr_inodes=256";
            mount(
                "ol",
                cover,
                "tmpfs",
                MountFlags::NOSUID | MountFlags::NODEV,
                options,
            )
            .with_context(|| format!("cover {}", cover.display()))?;
        }
    }
    for (top, tree) in &trees {
        fs::create_dir_all(top)
            .with_context(|| format!("make {} inside the cover", top.display()))?;
        attach(tree.as_fd(), &text(top)?).with_context(|| format!("put {} back", top.display()))?;
    }
    for (path, content) in naming {
        let put = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&path, content)
        };
        put().with_context(|| format!("put {} back", path.display()))?;
    }
    Ok(())
}

/// The files by which names are resolved that really lie below one of `covers`. Later replacements, as when a host's network changes, go
/// unnoticed: to see them, the directory would have to be visible, and sockets lie beside them.
fn naming_below(covers: &BTreeSet<PathBuf>) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |name: &str| {
        let path = Path::new(name).canonicalize().ok()?;
        if !covers.iter().any(|cover| path.starts_with(cover)) {
            return None;
        }
        let mut content = Vec::new();
        let file = File::open(&path).ok()?;
        file.take(LONGEST).read_to_end(&mut content).ok()?;
        Some((path, content))
    };
    NAMING.into_iter().filter_map(read).collect()
}

/// The outermost directory above `path` that root can't enter by permissions alone.
fn closed_above(path: &Path) -> Option<PathBuf> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let closed = |path: &&Path| {
        path.metadata()
            .is_ok_and(|m| !passable(m.uid(), m.gid(), m.mode()))
    };
    above.into_iter().find(closed).map(Path::to_owned)
}

/// Whether uid 0, group 0, without capabilities, may enter a directory with this owner and mode.
fn passable(uid: u32, gid: u32, mode: u32) -> bool {
    let bit = match (uid, gid) {
        (0, _) => 0o100,
        (_, 0) => 0o010,
        _ => 0o001,
    };
    mode & bit != 0
}

#[cfg(test)]
mod tests {
    use super::passable;

    #[test]
    fn root_is_held_to_the_first_class_that_fits() {
        assert!(passable(0, 0, 0o700));
        assert!(!passable(1000, 1000, 0o750), "a home on Ubuntu");
        assert!(passable(1000, 1000, 0o755));
        assert!(passable(1000, 0, 0o710));
        assert!(!passable(0, 1000, 0o077));
    }
}
