//! Mounts as detached trees: cloned, made read-only, then put in place (open_tree(2), mount_setattr(2), move_mount(2)).

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `MOUNT_ATTR_*` of mount_setattr(2).
pub mod attr {
    /// No writes through this mount.
    pub const RDONLY: u64 = 1;
    /// Set-user-id bits mean nothing.
    pub const NOSUID: u64 = 2;
    /// Device nodes can't be opened.
    pub const NODEV: u64 = 4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 8;
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds the attributes `set` to the mount at `fd`, and to the mounts beneath it if `recursive`.
///
/// # Errors
/// Those of mount_setattr(2).
pub fn set_attributes(fd: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    let attr = MountAttr {
        set,
        clear: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` outlives the call and has the size passed; the path is an empty C string.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A detached, private copy of the tree at `path` (relative to `dir`), with `attributes` set on all of it. A link at
/// the end of `path` is not followed.
///
/// # Errors
/// Those of open_tree(2) and mount_setattr(2).
pub fn detached(dir: BorrowedFd<'_>, path: &str, attributes: u64) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(dir, path, flags)?;
    set_attributes(tree.as_fd(), attributes, true)?;
    Ok(tree)
}

/// Puts a detached tree at `target`, an existing file or directory of this mount namespace.
///
/// # Errors
/// Those of move_mount(2).
pub fn attach(tree: BorrowedFd<'_>, target: &str) -> io::Result<()> {
    Ok(move_mount(
        tree,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}
