//! A shell: a sandbox's namespaces and mounts, made before any tenant is known, held open by its keeper.
//!
//! The steps are in the order the kernel demands: maps before files can be made, mounts while there are capabilities,
//! the death signal after the uid changed (a change clears it), the exec last.

use crate::child::{self, Failed, NameStep};
use crate::identity::ShellIdentity;
use crate::rootfs::SHM_BYTES;
use ol_sys::mount::{attach, detached};
use ol_sys::process::{
    Child, ForkOptions, InChild, SingleThread, arrange_fds, close_inherited, exec_fd, fork,
    ignore_signal, unblock_signals,
};
use ol_sys::{loopback, namespaces, privilege};
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::pipe::{PipeFlags, pipe_with};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What every shell is made from.
pub(crate) struct ShellConfig {
    /// The keeper's program, in memory.
    pub keeper: OwnedFd,
    /// The prefix of the worker's cgroups, which `ps` shows beside a keeper: nothing else of it says whose it is.
    pub worker: CString,
    /// Size of the scratch until a lease asks for another, in bytes.
    pub scratch: u64,
}

/// A shell being made: its keeper runs, `status` tells when it is ready (closed) or why not (words, then closed).
pub(crate) struct StartingShell {
    pub keeper: Child,
    pub status: OwnedFd,
}

/// Starts a shell below no other.
pub(crate) fn begin(
    proof: &SingleThread,
    config: &ShellConfig,
    identity: &ShellIdentity,
) -> io::Result<StartingShell> {
    let (status, error_pipe) = pipe_with(PipeFlags::CLOEXEC)?;
    // The user namespace belongs to a uid of this sandbox only. What the kernel counts per user (inotify instances, pending
    // signals, message queues) is counted for its owner too: were that root, one tenant could use up root's share. A zygote's
    // belongs to the keeper as well: the zygote itself must not have power over its own shell.
    privilege::act_as(identity.pair.keeper)?;
    let made = make(
        proof,
        config,
        identity,
        false,
        std::process::id(),
        error_pipe.as_fd(),
    );
    privilege::act_as(0)?;
    let (keeper, permit) = made?;
    settle(keeper.pid, identity, &permit)?;
    Ok(StartingShell { keeper, status })
}

/// Makes the keeper of a shell, which waits until [`settle`] with the descriptor that comes with it; what fails later is said on `words`.
/// The new user namespace belongs to the effective uid. A `sibling` is a child of our parent, `warden`.
pub(crate) fn make(
    proof: &SingleThread,
    config: &ShellConfig,
    identity: &ShellIdentity,
    sibling: bool,
    warden: u32,
    error_pipe: BorrowedFd<'_>,
) -> io::Result<(Child, OwnedFd)> {
    let (go, permit) = pipe_with(PipeFlags::CLOEXEC)?;
    let options = ForkOptions {
        namespaces: namespaces::SANDBOX,
        sibling,
        ..ForkOptions::default()
    };
    let keeper = fork(proof, options, |child| {
        child::run(child, error_pipe.as_raw_fd(), || {
            // Hold no copy of the writing end, so that a maker that dies is seen as the end of the file.
            close_inherited(child, permit.as_raw_fd());
            become_keeper(child, config, identity, go.as_fd(), error_pipe, warden)
        })
    })?;
    Ok((keeper, permit))
}

/// Writes the maps of a keeper, `pid` on the host, and lets it go on. Only its user namespace's parent may write them.
pub(crate) fn settle(pid: i32, identity: &ShellIdentity, permit: &OwnedFd) -> io::Result<()> {
    let maps = |file: &str| fs::write(format!("/proc/{pid}/{file}"), identity.map());
    // If this fails, the child sees the pipe end and exits; it is not ours to name any more, only to reap.
    maps("gid_map").and_then(|()| maps("uid_map"))?;
    rustix::io::write(permit, b"g")?;
    Ok(())
}

fn become_keeper(
    child: &InChild,
    config: &ShellConfig,
    identity: &ShellIdentity,
    go: BorrowedFd<'_>,
    error_pipe: BorrowedFd<'_>,
    warden: u32,
) -> Result<Infallible, Failed> {
    let mut byte = [0];
    match rustix::io::read(go, &mut byte) {
        Ok(1) => {}
        other => return Err(other.err().unwrap_or(Errno::PIPE)).step("wait for the uid map"),
    }
    rustix::process::setsid().step("setsid")?;
    // Capabilities outlive the change of uid until they are renounced; files made from here on belong to a mapped uid.
    privilege::keep_capabilities_over_setuid().step("keep capabilities")?;
    privilege::become_user(identity.keeper()).step("become the keeper's uid")?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .step("set the parent's death signal")?;
    // The warden may have died before that was set. The host's proc, which is still in sight, knows our parent.
    if !is_child_of(warden).step("ask for the parent")? {
        return Err(Errno::SRCH).step("look for the warden");
    }
    if let Some(number) = identity.kind.number() {
        // Of this pid namespace, though the file is the host's: the kernel takes it from the writer.
        fs::write(
            "/proc/sys/kernel/ns_last_pid",
            number.saturating_sub(1).to_string(),
        )
        .step("set the next process number")?;
    }
    rustix::system::sethostname(b"sandbox").step("set the host name")?;
    loopback::up().step("bring loopback up")?;
    mounts(config.scratch, identity.tenant())?;
    pivot().step("change the root")?;
    // Orphans of the sandbox come to the keeper, and the kernel reaps them for a parent that ignores SIGCHLD.
    ignore_signal(libc::SIGCHLD, true).step("ignore SIGCHLD")?;
    unblock_signals();
    privilege::renounce().step("give up capabilities")?;
    arrange_fds(child, &[], &[error_pipe, config.keeper.as_fd()]).step("close descriptors")?;
    let error = exec_fd(1, &[c"keeper", &config.worker], &[]);
    // `words` has another number now, so its last use is here and not in our caller.
    child::run(child, 0, || Err(error).step("start the keeper"))
}

/// Is this process still a child of `warden` (its number on the host)? One whose parent died has another.
pub(crate) fn is_child_of(warden: u32) -> io::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Ok(parent.is_some_and(|parent| parent.trim() == warden.to_string()))
}

/// The mounts that are a sandbox's own, on top of the template. It is the working directory, inherited from the warden, and
/// everything is named from there: this process may not be allowed to pass the directories above it.
fn mounts(scratch: u64, tenant: u32) -> Result<(), Failed> {
    // What was copied from the warden's namespace is locked, and a locked mount can't become the root; a bind of it can.
    let template = detached(CWD, ".", 0).step("clone the template")?;
    attach(template.as_fd(), ".").step("bind the template")?;
    rustix::process::fchdir(&template).step("enter the template")?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    let options = format!(
        "mode=0755,size={scratch},nr_inodes={},uid={tenant},gid={tenant}\0",
        inodes(scratch)
    );
    mount("scratch", "host", "tmpfs", quiet, Some(text(&options))).step("mount the scratch")?;
    rustix::fs::mkdir("host/tmp", Mode::from_raw_mode(0o700)).step("make /host/tmp")?;
    rustix::fs::chmod("host/tmp", Mode::from_raw_mode(0o1777)).step("open /host/tmp")?;
    mount_bind("host/tmp", "tmp").step("bind /tmp")?;
    let options = format!("mode=1777,size={SHM_BYTES},nr_inodes=1024\0");
    let quiet = quiet | MountFlags::NOEXEC;
    mount("shm", "dev/shm", "tmpfs", quiet, Some(text(&options))).step("mount /dev/shm")?;
    // A new proc is allowed only while a full one is in sight, so before the old root goes.
    mount(
        "proc",
        "proc",
        "proc",
        quiet,
        Some(c"subset=pid,hidepid=invisible"),
    )
    .step("mount /proc")
}

fn text(options: &str) -> &std::ffi::CStr {
    std::ffi::CStr::from_bytes_with_nul(options.as_bytes())
        .expect("the options end in the only NUL")
}

/// One inode for each 4 KiB of scratch: as many files as there are pages to put in them.
pub(crate) fn inodes(scratch: u64) -> u64 {
    (scratch / 4096).max(64)
}

/// Makes the template the root and lets go of the host's tree (pivot_root(2), "pivot_root(".", ".")").
fn pivot() -> io::Result<()> {
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}
