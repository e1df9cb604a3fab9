//! A leaf: the process that runs tenant code, made fresh inside a ready shell.
//!
//! The steps are in the order the kernel demands, and each takes something away: into the cgroups before anything is
//! allocated; into the namespaces; the code moved in; the uid; descriptors; capabilities; Landlock; seccomp last, and only
//! then the program. What is moved in is not locked against the namespace's own root, so capabilities must be gone
//! before tenant code runs.

use crate::cgroup::Group;
use crate::child::{self, Failed, Step};
use crate::protocol::LeafSpec;
use crate::rootfs::INNER_LEAF;
use crate::shell::inodes;
use ol_sys::process::{
    Child, InChild, SingleThread, arrange_fds, exec_path, fork, unblock_signals,
};
use ol_sys::{confine, mount, namespaces, privilege, seccomp};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, mount_remount};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What every leaf is made from.
pub(crate) struct Mold {
    /// The directory whose numbered children are code.
    pub code: OwnedFd,
    /// The warden's own pid namespace, to come back to.
    pub home: OwnedFd,
    /// `/dev/null`.
    pub null: OwnedFd,
    /// The system calls it may make; none means the filter is switched off by configuration.
    pub filter: Option<seccomp::Program>,
    /// The scratch size that shells have.
    pub scratch: u64,
    /// The base's Python, as a path inside.
    pub python: CString,
}

/// Descriptors of the worker's that the leaf gets.
pub(crate) struct Ends {
    pub guest: OwnedFd,
    pub log: OwnedFd,
}

/// A leaf being made: it runs, and `status` tells when its program starts (closed) or why not (words, then closed).
pub(crate) struct Newborn {
    pub child: Child,
    pub status: OwnedFd,
}

/// What a leaf goes through on its way into a shell.
struct Way<'a> {
    keeper: BorrowedFd<'a>,
    /// `cgroup.procs` of the groups it isn't born in.
    entrances: Vec<OwnedFd>,
    code: Option<OwnedFd>,
}

/// Starts a leaf in the shell of `keeper`.
pub(crate) fn begin(
    proof: &SingleThread,
    mold: &Mold,
    keeper: BorrowedFd<'_>,
    group: &Group,
    spec: &LeafSpec,
    ends: &Ends,
) -> io::Result<Newborn> {
    group.limit(&spec.limits)?;
    let birthplace = group.birthplace()?;
    let code = spec.code.map(|code| {
        let attributes = mount::attr::RDONLY | mount::attr::NOSUID | mount::attr::NODEV;
        mount::detached(mold.code.as_fd(), &code.0.to_string(), attributes)
    });
    let code = code
        .transpose()
        .map_err(|e| io::Error::new(e.kind(), format!("take the code: {e}")))?;
    let way = Way {
        keeper,
        entrances: group.entrances()?,
        code,
    };
    let (status, words) = pipe_with(PipeFlags::CLOEXEC)?;
    // The next child is born in the shell's pid namespace, as its pid 2; a second fork is not needed.
    namespaces::join(keeper, libc::CLONE_NEWPID)?;
    let child = fork(proof, 0, birthplace.as_ref().map(AsFd::as_fd), |child| {
        child::run(child, words.as_raw_fd(), || {
            become_leaf(child, mold, &way, spec, ends, words.as_fd())
        })
    });
    namespaces::join(mold.home.as_fd(), libc::CLONE_NEWPID)?;
    Ok(Newborn {
        child: child?,
        status,
    })
}

fn become_leaf(
    child: &InChild,
    mold: &Mold,
    way: &Way<'_>,
    spec: &LeafSpec,
    ends: &Ends,
    words: BorrowedFd<'_>,
) -> Result<Infallible, Failed> {
    for procs in &way.entrances {
        rustix::io::write(procs, b"0").step("enter the cgroup")?;
    }
    namespaces::join(way.keeper, namespaces::JOINABLE).step("join the shell")?;
    namespaces::leave(libc::CLONE_NEWCGROUP).step("make the cgroup namespace")?;
    if let Some(code) = &way.code {
        mount::attach(code.as_fd(), "/handler").step("move the code in")?;
    }
    if spec.scratch != mold.scratch {
        let options = CString::new(format!(
            "size={},nr_inodes={}",
            spec.scratch,
            inodes(spec.scratch)
        ))
        .map_err(io::Error::from)
        .step("name the scratch's size")?;
        mount_remount(
            "/host",
            MountFlags::NOSUID | MountFlags::NODEV,
            options.as_c_str(),
        )
        .step("resize the scratch")?;
    }
    privilege::keep_capabilities_over_setuid().step("keep capabilities")?;
    privilege::become_user(INNER_LEAF).step("become the sandbox's uid")?;
    rustix::process::setsid().step("setsid")?;
    // No file can usefully be larger than what there is to put it in.
    let largest = spec.limits.memory.max(spec.scratch);
    // Only lowered: the sandbox's own namespace gives no right to raise a limit of the host.
    let files = getrlimit(Resource::Nofile)
        .maximum
        .unwrap_or(u64::MAX)
        .min(4096);
    let limits = [
        (Resource::Nofile, files.min(1024), files),
        (Resource::Core, 0, 0),
        (Resource::Fsize, largest, largest),
    ];
    for (resource, soft, hard) in limits {
        let limit = Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        };
        setrlimit(resource, limit).step("set a resource limit")?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::chdir("/handler").step("enter /handler")?;
    ol_sys::process::ignore_signal(libc::SIGPIPE, false).step("reset SIGPIPE")?;
    unblock_signals();
    let log = ends.log.as_fd();
    let inherited = [mold.null.as_fd(), log, log, ends.guest.as_fd()];
    arrange_fds(child, &inherited, &[words]).step("close descriptors")?;
    // From here on last words go to number 4.
    child::run(child, 4, || {
        privilege::renounce().step("give up capabilities")?;
        confine::leaf(&["/host", "/tmp", "/dev/shm", "/dev/null"]).step("confine with Landlock")?;
        if let Some(filter) = &mold.filter {
            seccomp::install(filter).step("install the seccomp filter")?;
        }
        let argv = [c"python3", c"-I", c"-S", c"/runtime/guest.py"];
        let env = [
            c"PATH=/usr/local/bin:/usr/bin:/bin",
            c"HOME=/tmp",
            c"TMPDIR=/tmp",
            c"LANG=C.UTF-8",
            c"USER=user",
        ];
        let argv = argv.map(AsRef::as_ref);
        Err(exec_path(&mold.python, &argv, &env.map(AsRef::as_ref))).step("start Python")
    })
}

/// Opens what every leaf is made from. `code` is a directory of the worker's.
pub(crate) fn mold(
    code: &std::path::Path,
    python: CString,
    filter: Option<seccomp::Program>,
    scratch: u64,
) -> io::Result<Mold> {
    let open = |path: &std::path::Path, flags| {
        rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
    };
    Ok(Mold {
        code: open(code, OFlags::PATH | OFlags::DIRECTORY)?,
        home: open("/proc/self/ns/pid".as_ref(), OFlags::RDONLY)?,
        null: open("/dev/null".as_ref(), OFlags::RDWR)?,
        filter,
        scratch,
        python,
    })
}
