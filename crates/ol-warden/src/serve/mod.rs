//! The warden's loop: one thread and one table of cells; everything that happens is an event.
//!
//! ```text
//!  worker socket ─▶ Request ─┐
//!  signalfd ─▶ SIGCHLD ──────┼─▶ Cells ─▶ Event ─▶ outbox ─▶ worker socket
//!  status pipes ─▶ ready? ───┘
//! ```
//! The loop never waits for one sandbox: it starts making or ending one, and learns of the completion by an event.

mod building;
mod cells;
mod ending;
mod occupant;
mod occupying;
mod outbox;
mod requests;
mod stopping;
mod supply;
mod watch;
mod zygotes;

use crate::cgroup::{self, GroupLimits, Layout};
use crate::fit::Fitter;
use crate::network::{Networking, Plan};
use crate::protocol::{self, Content, Egress, Event, Request, Role};
use crate::rootfs::{Base, PYTHONS, Runtime, build};
use crate::uids::Block;
use crate::{leaf, shell};
use cells::{Cells, Means};
use ol_sys::privilege;
use ol_sys::process::{Child, SingleThread, is_ignored, next_signal, signal_fd};
use outbox::Outbox;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create, openat2};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, pidfd_send_signal, wait};
use rustix::time::Timespec;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use stopping::PASSED_ON;
use stopping::Stopping;
use watch::{Token, Watch};

/// The configuration of a warden. The operator chose all paths in it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this worker's group in each cgroup hierarchy; unique to a worker directory.
    pub prefix: String,
    /// What sandboxes are made of.
    pub base: Base,
    /// An empty directory at which the template is built, in a private mount namespace; the host never sees it mounted.
    pub template: PathBuf,
    /// The directory of code, whose children have numbers as names.
    pub code: PathBuf,
    /// The package store, of which parts are shown at `/packages`.
    pub packages: PathBuf,
    /// The files of the program that serves inside, shown in `/runtime`; `guest.py` is started.
    pub runtime: Runtime,
    /// How many shells to keep ready.
    pub shells_ready: usize,
    /// Size in bytes of the scratch that ready shells have.
    pub scratch: u64,
    /// The limits that most sandboxes have.
    pub usual: GroupLimits,
    /// The most that any sandbox gets.
    pub ceiling: Ceiling,
    /// Whether leaves get the seccomp filter.
    pub seccomp: bool,
    /// The addresses for sandboxes that may reach the outside; `None` if none may.
    pub egress: Option<Plan>,
    /// Whether sandboxes may have the host's network.
    pub host_network: bool,
}

/// The most that the warden grants to any sandbox.
///
/// The worker decides on limits; these bounds hold even if the worker was taken over.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling {
    /// Bytes of memory of one leaf.
    pub memory: u64,
    /// Bytes of memory of one zygote.
    pub zygote_memory: u64,
    /// Processes of one sandbox.
    pub pids: u32,
    /// Percent of one core for one sandbox.
    pub cpu_percent: u32,
    /// Bytes of scratch of one sandbox.
    pub scratch: u64,
    /// Sandboxes at once, those being made included.
    pub sandboxes: usize,
}

impl Ceiling {
    /// Whether `content` is within these bounds.
    pub(crate) fn allows(&self, role: Role, content: &Content) -> bool {
        let limits = &content.limits;
        let memory = if role.is_zygote() {
            self.zygote_memory.max(self.memory)
        } else {
            self.memory
        };
        (1..=memory).contains(&limits.memory)
            && limits.swap <= memory
            && (1..=self.pids).contains(&limits.pids)
            && (1..=self.cpu_percent).contains(&limits.cpu_percent)
            && (1..=self.scratch).contains(&content.scratch)
    }
}

/// Why the warden ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The worker exited with this status.
    WorkerExited(i32),
    /// This signal killed the worker.
    WorkerKilled(i32),
}

/// Serves `worker`, a child of this process, until it ends; then destroys every sandbox and returns. Meant for a
/// process that does nothing else: it changes the mount namespace, blocks signals and reaps all children.
///
/// # Errors
/// When it can't begin (the reason names the step), or the loop's own calls fail; sandboxes are destroyed in any case.
pub fn serve(
    config: &Config,
    layout: &Layout,
    socket: &OwnedFd,
    worker: &Child,
) -> io::Result<Ending> {
    let proof = SingleThread::prove()?;
    rustix::process::set_child_subreaper(Pid::from_raw(1))?;
    let mut heard = vec![
        libc::SIGCHLD,
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGQUIT,
        // Received only to be ignored: the kernel's default for these would end the warden.
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
    ];
    // Under nohup SIGHUP is ignored, and stays so.
    if !is_ignored(libc::SIGHUP)? {
        heard.push(libc::SIGHUP);
    }
    let signals = signal_fd(&heard)?;
    rustix::fs::fcntl_setfl(socket, OFlags::NONBLOCK)?;
    let watch = Watch::new()?;
    watch.add(socket.as_fd(), Token::Worker)?;
    watch.add(signals.as_fd(), Token::Signals)?;
    let mut outbox = Outbox::default();
    let begun = begin(config, layout, proof, watch);
    let (mut cells, egress, sockets) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            // The worker waits for the first message. Shutting the socket down tells it that none will come.
            rustix::net::shutdown(socket, rustix::net::Shutdown::Both)?;
            return outlast(worker).and(Err(error));
        }
    };
    outbox.push(
        Event::Ready {
            version: protocol::VERSION,
            egress,
        },
        sockets,
    );
    let end = run(&mut cells, &mut outbox, socket, &signals, worker);
    // In any case end what tenants may still be doing first, then the worker.
    let mut exit = None;
    let ended = cells.end_all(|pid, status| {
        if pid == worker.pid {
            exit = Some(ending_of(status));
        }
    });
    let ending = match (end, exit) {
        (Ok(LoopEnd::Worker(ending)), _) | (Ok(LoopEnd::HungUp), Some(ending)) => Ok(ending),
        (Ok(LoopEnd::HungUp), None) => outlast(worker),
        // The worker has ended already; it can't go on without a warden.
        (Err(error), Some(_)) => Err(error),
        (Err(error), None) => outlast(worker).and(Err(error)),
    };
    ended?;
    cells.means.networking.end()?;
    cgroup::remove_all(layout, &config.prefix)?;
    layout.leave(&config.prefix)?;
    ending
}

/// How long a worker that closed its socket may take to exit.
const LAST_MOMENTS: Timespec = Timespec {
    tv_sec: 3,
    tv_nsec: 0,
};

/// Waits until the worker exits, and kills it if that takes longer than [`LAST_MOMENTS`].
fn outlast(worker: &Child) -> io::Result<Ending> {
    let mut exit = [PollFd::new(&worker.pidfd, PollFlags::IN)];
    if poll(&mut exit, Some(&LAST_MOMENTS))? == 0 {
        // Fails only if it exited at this very moment.
        let _ = pidfd_send_signal(&worker.pidfd, Signal::KILL);
    }
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == worker.pid => {
                return Ok(ending_of(status));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Why the loop ended.
enum LoopEnd {
    Worker(Ending),
    /// The worker closed its end of the socket or sent nonsense: it is ending, broken, or was taken over.
    HungUp,
}

fn begin(
    config: &Config,
    layout: &Layout,
    proof: SingleThread,
    watch: Watch,
) -> io::Result<(Cells, Egress, Vec<OwnedFd>)> {
    let (networking, egress, sockets) =
        Networking::begin(config.egress.as_ref(), config.host_network, &config.prefix)?;
    // Shells' namespaces are made under other effective uids, which must not cost this process its capabilities.
    privilege::keep_capabilities_over_setuid()?;
    build(
        &config.base,
        &config.template,
        config.runtime,
        networking.resolver(),
    )?;
    // Shells inherit this working directory and start from it, see `shell::mounts`.
    rustix::process::chdir(&config.template)?;
    let python = find_python(&config.template)?;
    let seed = config
        .prefix
        .bytes()
        .fold(0_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    let largest_file = config.ceiling.memory.max(config.ceiling.scratch);
    let leaf_config = leaf::LeafConfig::new(python, config.seccomp, largest_file)?;
    let shell_config = shell::ShellConfig {
        keeper: keeper_program()?,
        worker: CString::new(config.prefix.as_str())?,
        scratch: config.scratch,
    };
    let cells = Cells::new(
        Means {
            proof,
            layout: layout.clone(),
            uids: Block::claim(seed)?,
            shell_config,
            leaf_config,
            fitter: Fitter::new(&config.code, &config.packages, config.scratch)?,
            networking,
        },
        config,
        watch,
    );
    Ok((cells, egress, sockets))
}

/// The path of the base's Python, looked up with the template as the root.
fn find_python(template: &Path) -> io::Result<CString> {
    let root = rustix::fs::open(
        template,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let there = |path: &&str| {
        openat2(
            &root,
            *path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )
        .is_ok()
    };
    let path = PYTHONS.iter().copied().find(there).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("the base image has no Python (looked for /{}): install python3 or choose another base", PYTHONS.join(", /")),
        )
    })?;
    Ok(CString::new(format!("/{path}"))?)
}

/// The keeper's program in a sealed memory file, which can be executed from any root and changed by nobody.
fn keeper_program() -> io::Result<OwnedFd> {
    let fd = memfd_create("keeper", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = ol_sys::KEEPER;
    while !rest.is_empty() {
        let written = rustix::io::write(&fd, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    let seals =
        rustix::fs::SealFlags::WRITE | rustix::fs::SealFlags::GROW | rustix::fs::SealFlags::SHRINK;
    rustix::fs::fcntl_add_seals(&fd, seals | rustix::fs::SealFlags::SEAL)?;
    Ok(fd)
}

/// How long there must be no event before spare shells are made.
const QUIET: Duration = Duration::from_millis(1);
/// How long to wait before trying again to make a shell or to remove a group, for which no event comes.
const SOON: Duration = Duration::from_millis(10);

fn run(
    cells: &mut Cells,
    outbox: &mut Outbox,
    socket: &OwnedFd,
    signals: &OwnedFd,
    worker: &Child,
) -> io::Result<LoopEnd> {
    let mut stopping = Stopping::default();
    let mut writing = false;
    let mut idle = true;
    loop {
        let again = cells.refill(idle, outbox);
        outbox.flush(socket.as_fd())?;
        if writing == outbox.is_empty() {
            writing = !outbox.is_empty();
            cells.watch.also_to_write(socket.as_fd(), writing)?;
        }
        let patience = if again || cells.has_removals() {
            Some(SOON)
        } else {
            cells.has_spares_to_make().then_some(QUIET)
        };
        let tokens = cells.watch.wait(patience)?;
        idle = tokens.is_empty();
        for token in tokens.iter().copied() {
            match token {
                Token::Alarm(slot) => cells.look_at_alarm(slot),
                Token::ShellMaker(zygote) => cells.look_at_maker(zygote, outbox),
                Token::Status(slot) => cells.look_at_status(slot, outbox),
                Token::Signals | Token::Worker => {}
            }
        }
        if tokens.contains(&Token::Signals) {
            while let Some(signal) = next_signal(signals.as_fd()) {
                // Ctrl-C and `kill` are meant for the worker: it drains and exits, and then the warden ends too.
                if let Some(passed_on) = stopping.hear(signal) {
                    let _ = pidfd_send_signal(&worker.pidfd, passed_on);
                }
            }
            if let Some(ending) = reap(cells, outbox, worker)? {
                return Ok(LoopEnd::Worker(stopping.as_told(ending)));
            }
        }
        if tokens.contains(&Token::Worker) && !take_requests(cells, outbox, socket.as_fd())? {
            return Ok(LoopEnd::HungUp);
        }
        cells.retry_removals(outbox);
    }
}

/// Handles the worker's requests; returns false if it hung up.
///
/// Takes a bounded number at a time, so that the loop notices deaths in between.
fn take_requests(
    cells: &mut Cells,
    outbox: &mut Outbox,
    socket: BorrowedFd<'_>,
) -> io::Result<bool> {
    for _ in 0..64 {
        match protocol::receive::<Request>(socket) {
            Ok(Some((request, fds))) => cells.handle(request, fds, outbox),
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            // A worker that sends nonsense is broken or was taken over, and is treated like one that hung up.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Reaps every child that has ended; returns how the worker ended, if it did.
///
/// The kernel lets a keeper be reaped only after every other process of its pid namespace is gone.
fn reap(cells: &mut Cells, outbox: &mut Outbox, worker: &Child) -> io::Result<Option<Ending>> {
    let mut ending = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == worker.pid => {
                ending = Some(ending_of(status))
            }
            Ok(Some((pid, status))) => cells.reaped(pid.as_raw_pid(), status, outbox),
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(ending),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn ending_of(status: WaitStatus) -> Ending {
    match status.terminating_signal() {
        Some(signal) => Ending::WorkerKilled(signal),
        None => Ending::WorkerExited(status.exit_status().unwrap_or(1)),
    }
}
