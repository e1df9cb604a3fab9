//! Starts a process anew inside a ready shell: a leaf, or a zygote that is not forked from another.
//!
//! The steps are in the order the kernel demands, and each takes something away: into the cgroups before anything is
//! allocated; into the namespaces; the uid; descriptors; capabilities; Landlock; seccomp last, and only then the program.
//! A child that a zygote forks takes the same steps, in `runtime/python/native/confine.rs`.

use crate::cgroup::{Entrances, Group};
use crate::child::{self, Failed, NameStep};
use crate::fork_order::ResourceLimits;
use crate::identity::{ShellIdentity, ShellKind};
use ol_sys::process::{
    Child, ForkOptions, InChild, SingleThread, arrange_fds, exec_path, fork, unblock_signals,
};
use ol_sys::{confine, namespaces, privilege, seccomp};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What every leaf is made from.
pub(crate) struct LeafConfig {
    /// The warden's own pid namespace, to return to after each fork.
    home: OwnedFd,
    /// The system calls that leaves and zygotes may make; `None` if the configuration switches the filter off.
    filters: Option<Filters>,
    /// The base's Python, as a path inside.
    python: CString,
    /// Its resource limits.
    pub rlimits: ResourceLimits,
}

struct Filters {
    leaf: seccomp::Program,
    zygote: seccomp::Program,
    /// The filter of a leaf that a zygote forks, as bytes, in which form the zygote receives it.
    wire: Vec<u8>,
}

/// Descriptors that a leaf or zygote gets from the worker.
pub(crate) struct WorkerFds {
    pub guest: OwnedFd,
    pub log: OwnedFd,
}

/// A leaf or zygote whose process runs, but not its program yet.
///
/// `status` is a pipe that is closed without a byte when the program starts; if a step fails, the error is written first.
pub(crate) struct StartingLeaf {
    pub child: Child,
    pub status: OwnedFd,
}

/// The shell in which a process is to be started.
pub(crate) struct TargetShell<'a> {
    pub keeper: BorrowedFd<'a>,
    pub group: &'a Group,
    pub identity: &'a ShellIdentity,
    /// The process stays in the warden's network namespace, which is the host's.
    pub host_network: bool,
}

/// Starts a leaf or zygote in a shell; `channel` is the socket on which a zygote receives its orders.
pub(crate) fn begin(
    proof: &SingleThread,
    config: &LeafConfig,
    shell: &TargetShell<'_>,
    worker_fds: &WorkerFds,
    channel: Option<BorrowedFd<'_>>,
) -> io::Result<StartingLeaf> {
    let v2_directory = shell.group.v2_directory()?;
    let entrances = shell.group.entrances(false)?;
    let (status, error_pipe) = pipe_with(PipeFlags::CLOEXEC)?;
    let options = ForkOptions {
        cgroup: v2_directory.as_ref().map(AsFd::as_fd),
        number: shell.identity.kind.number(),
        ..ForkOptions::default()
    };
    // This makes the next child start in the shell's pid namespace, so one fork is enough.
    namespaces::join(shell.keeper, libc::CLONE_NEWPID)?;
    let child = fork(proof, options, |child| {
        child::run(child, error_pipe.as_raw_fd(), || {
            become_leaf(
                child,
                config,
                shell,
                &entrances,
                worker_fds,
                channel,
                error_pipe.as_fd(),
            )
        })
    });
    namespaces::join(config.home.as_fd(), libc::CLONE_NEWPID)?;
    Ok(StartingLeaf {
        child: child?,
        status,
    })
}

fn become_leaf(
    child: &InChild,
    config: &LeafConfig,
    shell: &TargetShell<'_>,
    entrances: &Entrances,
    worker_fds: &WorkerFds,
    channel: Option<BorrowedFd<'_>>,
    error_pipe: BorrowedFd<'_>,
) -> Result<Infallible, Failed> {
    for group in entrances.early.iter().chain(&entrances.late) {
        rustix::io::write(group, b"0").step("enter the cgroup")?;
    }
    let mut joined = namespaces::JOINABLE;
    if shell.host_network {
        joined &= !libc::CLONE_NEWNET;
    }
    namespaces::join(shell.keeper, joined).step("join the shell")?;
    namespaces::leave(libc::CLONE_NEWCGROUP).step("make the cgroup namespace")?;
    privilege::keep_capabilities_over_setuid().step("keep capabilities")?;
    privilege::become_user(shell.identity.tenant()).step("become the sandbox's uid")?;
    rustix::process::setsid().step("setsid")?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::chdir("/handler").step("enter /handler")?;
    // Ignored signals stay ignored across an exec, and the worker may have been started with SIGINT or SIGHUP ignored (nohup).
    for signal in (1..=LAST_STANDARD_SIGNAL).filter(|s| ![libc::SIGKILL, libc::SIGSTOP].contains(s))
    {
        ol_sys::process::ignore_signal(signal, false).step("reset a signal")?;
    }
    unblock_signals();
    // Each sandbox opens its own: whatever is set on an open file description, such as a lock, is seen by all who share it.
    let null = rustix::fs::openat(
        CWD,
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step("open /dev/null")?;
    let log = worker_fds.log.as_fd();
    let mut inherited = vec![null.as_fd(), log, log, worker_fds.guest.as_fd()];
    inherited.extend(channel);
    arrange_fds(child, &inherited, &[error_pipe]).step("close descriptors")?;
    let error_pipe = RawFdNumber::try_from(inherited.len()).unwrap_or(RawFdNumber::MAX);
    // `arrange_fds` placed the error pipe after the inherited descriptors; from here on failures are written to that number.
    child::run(child, error_pipe, || {
        // Only now that the descriptors have low numbers: with a thousand sandboxes, those inherited from the warden have numbers
        // above a leaf's limit.
        let rlimits = config.rlimits;
        for (resource, soft, hard) in [
            (Resource::Nofile, rlimits.files.0, rlimits.files.1),
            (Resource::Core, 0, 0),
            (Resource::Fsize, rlimits.largest_file, rlimits.largest_file),
            (
                Resource::Sigpending,
                rlimits.pending_signals,
                rlimits.pending_signals,
            ),
            (
                Resource::Msgqueue,
                rlimits.message_queues,
                rlimits.message_queues,
            ),
        ] {
            let limit = Rlimit {
                current: Some(soft),
                maximum: Some(hard),
            };
            setrlimit(resource, limit).step("set a resource limit")?;
        }
        privilege::renounce().step("give up capabilities")?;
        let leaf = shell.identity.kind == ShellKind::Leaf;
        if leaf {
            // A zygote gets no ruleset: its descendants would add theirs on top, and the kernel stacks only sixteen.
            confine::leaf(&["/host", "/tmp", "/dev/shm", "/dev/null"])
                .step("confine with Landlock")?;
        }
        if let Some(filters) = &config.filters {
            let filter = if leaf { &filters.leaf } else { &filters.zygote };
            seccomp::install(filter).step("install the seccomp filter")?;
        }
        let argv = [c"python3", c"-S", c"/runtime/guest.py"];
        // The environment holds nothing of the worker's, and the function's own is set later. Therefore `-I` would add no safety, only
        // an option that programs started by the function inherit. `guest.py` explains `-S`, and undoes it (`be_plain`).
        let env = [
            c"PATH=/usr/local/bin:/usr/bin:/bin",
            c"HOME=/tmp",
            c"TMPDIR=/tmp",
            c"LANG=C.UTF-8",
            c"USER=user",
        ];
        let argv = argv.map(AsRef::as_ref);
        Err(exec_path(&config.python, &argv, &env.map(AsRef::as_ref))).step("start Python")
    })
}

/// Higher numbers are real-time signals, which have no standard meaning.
const LAST_STANDARD_SIGNAL: i32 = 31;

type RawFdNumber = std::os::fd::RawFd;

impl LeafConfig {
    /// Opens what every leaf is made from. `largest_file` is the most bytes that a file may have.
    pub fn new(python: CString, with_filters: bool, largest_file: u64) -> io::Result<Self> {
        let open = |path: &str, flags| {
            rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
        };
        // Limits are only ever lowered: a process without privilege on the host may not raise them.
        let most = |resource, wish: u64| getrlimit(resource).maximum.unwrap_or(u64::MAX).min(wish);
        let files = most(Resource::Nofile, 4096);
        let filters = with_filters.then(|| Filters {
            wire: seccomp::forked_leaf().bytes(),
            leaf: seccomp::leaf(),
            zygote: seccomp::zygote(),
        });
        Ok(Self {
            home: open("/proc/self/ns/pid", OFlags::RDONLY)?,
            filters,
            python,
            rlimits: ResourceLimits {
                files: (files.min(1024), files),
                largest_file,
                // The kernel counts these per user, for all children of a zygote together: one child must not use them up.
                pending_signals: most(Resource::Sigpending, 4096),
                message_queues: most(Resource::Msgqueue, 64 * 1024),
            },
        })
    }

    /// The filter that a zygote installs on its leaves, as the kernel reads it; empty if there is none.
    pub fn wire_filter(&self) -> &[u8] {
        self.filters.as_ref().map_or(&[], |filters| &filters.wire)
    }
}
