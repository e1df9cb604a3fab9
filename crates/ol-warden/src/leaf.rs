//! A process started afresh inside a ready shell: a leaf, or a zygote that is forked from none.
//!
//! The steps are in the order the kernel demands, and each takes something away: into the cgroups before anything is
//! allocated; into the namespaces; the uid; descriptors; capabilities; Landlock; seccomp last, and only then the program.
//! What a zygote forks goes the same way in `runtime/python/native/confine.rs`.

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
    /// The warden's own pid namespace, to come back to.
    home: OwnedFd,
    /// The system calls that leaves and zygotes may make; none means that the filter is switched off by configuration.
    filters: Option<Filters>,
    /// The base's Python, as a path inside.
    python: CString,
    /// Its resource limits.
    pub rlimits: ResourceLimits,
}

struct Filters {
    leaf: seccomp::Program,
    zygote: seccomp::Program,
    /// The leaf's, as it is handed to a zygote.
    wire: Vec<u8>,
}

/// Descriptors of the worker's that it gets.
pub(crate) struct WorkerFds {
    pub guest: OwnedFd,
    pub log: OwnedFd,
}

/// A leaf being made: it runs, and `status` tells when its program starts (closed) or why not (words, then closed).
pub(crate) struct StartingLeaf {
    pub child: Child,
    pub status: OwnedFd,
}

/// The shell it goes into.
pub(crate) struct TargetShell<'a> {
    pub keeper: BorrowedFd<'a>,
    pub group: &'a Group,
    pub identity: &'a ShellIdentity,
    /// It stays in the host's network namespace, which is the warden's.
    pub host_network: bool,
}

/// Starts a leaf or zygote in a shell; `channel` is where a zygote hears its orders.
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
    // The next child is born in the shell's pid namespace; a second fork is not needed.
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
    // Programs start with what was ignored before, and the worker may have come from a shell that ignores SIGINT or SIGHUP.
    for signal in (1..=LAST_STANDARD_SIGNAL).filter(|s| ![libc::SIGKILL, libc::SIGSTOP].contains(s))
    {
        ol_sys::process::ignore_signal(signal, false).step("reset a signal")?;
    }
    unblock_signals();
    // Opened by each for itself: what is set on an open file, a lock for one, is seen by all who share it.
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
    // From here on last words go to the number after them.
    child::run(child, error_pipe, || {
        // Not before its descriptors are in place: with a thousand sandboxes, the warden's are beyond what a leaf may have.
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
            // A zygote has no ruleset: its children's would come on top, and the kernel stacks only sixteen.
            confine::leaf(&["/host", "/tmp", "/dev/shm", "/dev/null"])
                .step("confine with Landlock")?;
        }
        if let Some(filters) = &config.filters {
            let filter = if leaf { &filters.leaf } else { &filters.zygote };
            seccomp::install(filter).step("install the seccomp filter")?;
        }
        let argv = [c"python3", c"-S", c"/runtime/guest.py"];
        // Nothing of the worker's environment, nor of the function's, which is told later: so `-I` would add no safety, only an option
        // that what a function starts inherits. What `-S` is for says `guest.py`, which also takes it back.
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

/// Those after it are for programs' own use.
const LAST_STANDARD_SIGNAL: i32 = 31;

type RawFdNumber = std::os::fd::RawFd;

impl LeafConfig {
    /// Opens what every leaf is made from. `largest_file` bounds a file's length in bytes.
    pub fn new(python: CString, with_filters: bool, largest_file: u64) -> io::Result<Self> {
        let open = |path: &str, flags| {
            rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
        };
        // Only lowered: the sandbox's own namespace gives no right to raise a limit of the host.
        let most = |resource, wish: u64| getrlimit(resource).maximum.unwrap_or(u64::MAX).min(wish);
        let files = most(Resource::Nofile, 4096);
        let filters = with_filters.then(|| {
            let leaf = seccomp::leaf();
            Filters {
                wire: leaf.bytes(),
                leaf,
                zygote: seccomp::zygote(),
            }
        });
        Ok(Self {
            home: open("/proc/self/ns/pid", OFlags::RDONLY)?,
            filters,
            python,
            rlimits: ResourceLimits {
                files: (files.min(1024), files),
                largest_file,
                // What one user may have is counted for all children of a zygote together: one must not use it up.
                pending_signals: most(Resource::Sigpending, 4096),
                message_queues: most(Resource::Msgqueue, 64 * 1024),
            },
        })
    }

    /// The filter that a zygote puts on its leaves, as the kernel reads it; empty if there is none.
    pub fn wire_filter(&self) -> &[u8] {
        self.filters.as_ref().map_or(&[], |filters| &filters.wire)
    }
}
