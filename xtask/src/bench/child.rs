//! A server started for a benchmark: its address is found in its output, and it is certainly ended afterwards.
//!
//! Exists because a worker left behind would spoil the next benchmark. The cases:
//!
//! * normal end, error, panic: dropping [`Server`] sends SIGTERM, and later SIGKILL to the whole process tree;
//! * the benchmark is killed: the kernel sends the child SIGTERM ([`tied`]);
//! * a server's own child outlives it: the benchmark is a subreaper ([`adopt_orphans`]), thus becomes its parent, and the drop finds it.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitOptions};

use super::client::Client;
use super::process_tree::{self, Tree};
use super::{interrupt, printed_address, tied};

/// How long a server may take from its start to its first 200.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to end when asked: the worker's own drain limit plus some seconds.
const STOP_LIMIT: Duration = Duration::from_secs(35);
/// How long processes that a server started may outlive it before they count as left behind.
const SWEEP_LIMIT: Duration = Duration::from_secs(1);

/// Makes this process the parent of every descendant whose own parent dies.
pub(super) fn adopt_orphans() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("failed to become a subreaper")
}

/// The two sides of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// The one that is measured. Orphans that this process has adopted count as its own.
    Ours,
    /// The one that it is compared with. Makes no orphans.
    Floor,
}

/// A running server and everything it started.
pub(super) struct Server {
    side: Side,
    name: &'static str,
    child: Child,
    address: SocketAddr,
    ready_after: Duration,
}

impl Server {
    /// Starts `command`, reads its address from the first `http://HOST:PORT` in its output, and waits until `GET /readyz` answers 200. All
    /// of its output is appended to `log`.
    ///
    /// Call it only from the main thread: the child dies with the thread that started it.
    pub(super) fn start(
        side: Side,
        name: &'static str,
        mut command: Command,
        log: &Path,
    ) -> Result<Self> {
        let log_file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open {}", log.display()))?;
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file.try_clone()?)
            // A process group of its own: Ctrl-C reaches only the benchmark, which then ends the server properly.
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let stdout = child.stdout.take();
        // From here on `server` owns the child, thus every early return below ends it.
        tied::started_set().insert(child.id());
        let mut server = Self {
            side,
            name,
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            ready_after: Duration::ZERO,
        };
        server
            .wait_until_ready(stdout, log_file, started)
            .with_context(|| format!("{name} didn't start; its log ends:\n{}", tail(log)))?;
        Ok(server)
    }

    fn wait_until_ready(
        &mut self,
        stdout: Option<ChildStdout>,
        log: File,
        started: Instant,
    ) -> Result<()> {
        let stdout = stdout.context("the child has no output")?;
        let (found, address) = mpsc::channel();
        // The thread sends the address once, then only empties the pipe. It ends at end of file.
        std::thread::spawn(move || printed_address::copy_and_find(stdout, log, &found));
        self.address = loop {
            match address.recv_timeout(Duration::from_millis(50)) {
                Ok(address) => break address?,
                Err(mpsc::RecvTimeoutError::Timeout) => self.must_still_run(started)?,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    bail!("it closed its output before printing http://HOST:PORT")
                }
            }
        };
        while !answers_ready(self.address) {
            self.must_still_run(started)?;
            std::thread::sleep(Duration::from_micros(500));
        }
        self.ready_after = started.elapsed();
        Ok(())
    }

    fn must_still_run(&mut self, started: Instant) -> Result<()> {
        interrupt::check()?;
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended with {status}");
        }
        ensure!(
            started.elapsed() < START_LIMIT,
            "it wasn't ready within {START_LIMIT:?}"
        );
        Ok(())
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// The time from just before the start to the first 200 of `/readyz`.
    pub(super) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// The server's current processes.
    pub(super) fn tree(&self) -> Result<Tree> {
        Tree::of(self.child.id(), self.side == Side::Ours)
    }

    /// Asks the server to end, and kills what doesn't. Returns whether it ended when asked.
    pub(super) fn stop(mut self) -> Result<Ending> {
        self.end()
    }

    fn end(&mut self) -> Result<Ending> {
        if self.child.try_wait()?.is_some() {
            return self.sweep(Ending::InOrder);
        }
        let family = self.tree()?;
        signal(self.child.id(), Signal::TERM);
        if wait(&mut self.child, STOP_LIMIT)?.is_some() {
            return self.sweep(Ending::InOrder);
        }
        for process in &family.members {
            signal(process.pid, Signal::KILL);
        }
        wait(&mut self.child, Duration::from_secs(5))?;
        self.sweep(Ending::Forced)
    }

    /// Reaps the processes that the ended server left to this one, and kills those that don't end by themselves in a moment.
    ///
    /// They are children of this process and not reaped yet, thus none of their pids can have been reused.
    fn sweep(&self, ending: Ending) -> Result<Ending> {
        tied::started_set().remove(&self.child.id());
        let ended = Instant::now();
        while reap_adopted()? > 0 && ended.elapsed() < SWEEP_LIMIT {
            std::thread::sleep(Duration::from_millis(2));
        }
        let left = process_tree::adopted()?;
        if left.is_empty() {
            return Ok(ending);
        }
        for orphan in &left {
            signal(*orphan, Signal::KILL);
        }
        let killed = Instant::now();
        let mut remaining = reap_adopted()?;
        // With a limit: a process frozen by a v1 cgroup doesn't die before it is thawed.
        while remaining > 0 && killed.elapsed() < SWEEP_LIMIT {
            std::thread::sleep(Duration::from_millis(2));
            remaining = reap_adopted()?;
        }
        eprintln!(
            "warning: {} left {} process(es) behind; killed, and {remaining} didn't die of it",
            self.name,
            left.len()
        );
        Ok(ending)
    }
}

/// Reaps the adopted processes that have ended, and counts the others.
fn reap_adopted() -> Result<usize> {
    let running = |orphan: &u32| {
        let waited =
            as_pid(*orphan).map(|pid| rustix::process::waitpid(Some(pid), WaitOptions::NOHANG));
        matches!(waited, Some(Ok(None)))
    };
    Ok(process_tree::adopted()?
        .iter()
        .filter(|orphan| running(orphan))
        .count())
}

/// How a server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// When asked, within [`STOP_LIMIT`].
    InOrder,
    /// By SIGKILL, hence it may have left something on the host.
    Forced,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Blocking is right here: nothing may be measured while processes remain.
        if let Err(error) = self.end() {
            eprintln!("warning: failed to end {}: {error:#}", self.name);
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    // It is fine if the process is already gone.
    if let Some(pid) = as_pid(pid)
        && let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
    {
        let _ = rustix::process::pidfd_send_signal(process, signal);
    }
}

fn as_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let asked = Instant::now();
    loop {
        match child.try_wait()? {
            None if asked.elapsed() < limit => std::thread::sleep(Duration::from_millis(2)),
            status => return Ok(status),
        }
    }
}

fn answers_ready(address: SocketAddr) -> bool {
    Client::connect(address)
        .and_then(|mut client| client.get("/readyz"))
        .is_ok_and(|answer| answer.status == 200)
}

/// The last lines of a log, for an error message.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(PathBuf::from(log)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
