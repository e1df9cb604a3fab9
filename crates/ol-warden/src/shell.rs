//! A shell: a sandbox's namespaces and mounts, made before any tenant is known, held open by its keeper.
//!
//! The steps are in the order the kernel demands: the uid map before files can be made, mounts while there are still
//! capabilities, the death signal after the uid changed (a change clears it), the exec last.

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
    /// The prefix of the worker's cgroups. `ps` shows it beside each keeper, and nothing else tells to which worker a keeper belongs.
    pub worker: CString,
    /// Size in bytes of the scratch in a shell that is made ahead; it is changed when a sandbox asks for another size.
    pub scratch: u64,
}

/// A shell being made, whose keeper's process runs already.
///
/// `status` is a pipe that is closed without a byte when the shell is ready; if a step fails, the error is written first.
pub(crate) struct StartingShell {
    pub keeper: Child,
    pub status: OwnedFd,
}

/// Starts a shell directly below the host's namespaces.
pub(crate) fn begin(
    proof: &SingleThread,
    config: &ShellConfig,
    identity: &ShellIdentity,
) -> io::Result<StartingShell> {
    let (status, error_pipe) = pipe_with(PipeFlags::CLOEXEC)?;
    // The user namespace must be owned by a uid that only this sandbox has. What the kernel counts per user (inotify instances,
    // pending signals, message queues) is counted for the owner too: if that were root, one tenant could use up root's share.
    // The owner is the keeper's uid and not the tenant's, since a zygote must not have power over its own shell.
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

/// Makes the keeper of a shell, in new namespaces.
///
/// The keeper waits until [`settle`] is called with the returned descriptor, and writes what fails to `error_pipe`. The new user
/// namespace is owned by the effective uid. If `sibling`, the keeper becomes a child of this process's parent, `warden`.
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
            // The keeper keeps no copy of the writing end: if the process that makes it dies, reading must come to the end of the file.
            close_inherited(child, permit.as_raw_fd());
            become_keeper(child, config, identity, go.as_fd(), error_pipe, warden)
        })
    })?;
    Ok((keeper, permit))
}

/// Writes the uid and gid maps of a keeper, `pid` on the host, and lets the keeper go on.
///
/// Only a process in the parent of the keeper's user namespace may write the maps.
pub(crate) fn settle(pid: i32, identity: &ShellIdentity, permit: &OwnedFd) -> io::Result<()> {
    let maps = |file: &str| fs::write(format!("/proc/{pid}/{file}"), identity.map());
    // If this fails, the caller drops `permit`; the keeper then reads the end of the pipe and exits, and only has to be reaped.
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
    // Capabilities survive the change of uid until they are given up below. Files made from here on belong to a mapped uid.
    privilege::keep_capabilities_over_setuid().step("keep capabilities")?;
    privilege::become_user(identity.keeper()).step("become the keeper's uid")?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .step("set the parent's death signal")?;
    // The warden may have died before the signal was set. The host's /proc, which is still mounted, tells who the parent is.
    if !is_child_of(warden).step("ask for the parent")? {
        return Err(Errno::SRCH).step("look for the warden");
    }
    if let Some(number) = identity.kind.number() {
        // The kernel takes the writer's pid namespace, although the file lies in the host's /proc.
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
    // Orphans of the sandbox become the keeper's children, and the kernel reaps children of a process that ignores SIGCHLD.
    ignore_signal(libc::SIGCHLD, true).step("ignore SIGCHLD")?;
    unblock_signals();
    privilege::renounce().step("give up capabilities")?;
    arrange_fds(child, &[], &[error_pipe, config.keeper.as_fd()]).step("close descriptors")?;
    let error = exec_fd(1, &[c"keeper", &config.worker], &[]);
    // The error pipe is descriptor 0 now, so the caller, which knows its old number, can't report this failure.
    child::run(child, 0, || Err(error).step("start the keeper"))
}

/// Whether this process is still a child of `warden` (a process number on the host); if its parent died, it has another parent.
pub(crate) fn is_child_of(warden: u32) -> io::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Ok(parent.is_some_and(|parent| parent.trim() == warden.to_string()))
}

/// Makes the mounts that are a sandbox's own, on top of the template.
///
/// The template is the working directory, inherited from the warden. All paths are relative to it, since this process may lack
/// the permission to walk through the directories above.
fn mounts(scratch: u64, tenant: u32) -> Result<(), Failed> {
    // Mounts copied from the warden's namespace are locked, and a locked mount can't become the root; a bind mount of it can.
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
    // The kernel allows a new proc mount only while a fully visible one exists in the namespace, thus before the old root goes.
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

/// How many inodes a scratch of this many bytes gets: one for each 4 KiB, thus as many files as there are pages to fill.
pub(crate) fn inodes(scratch: u64) -> u64 {
    (scratch / 4096).max(64)
}

/// Makes the template the root and unmounts the host's tree (pivot_root(2), "pivot_root(".", ".")").
fn pivot() -> io::Result<()> {
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}
