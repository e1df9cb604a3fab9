//! Fetches a function's files from a git repository with the ordinary `git` client, so that the operator's keys, proxies and credential
//! helpers work here too.
//!
//! ```text
//!   TMP/ol-install-X/          0700, removed whatever happens
//!    ├ said                    git's output
//!    └ repository/             init ─► fetch one commit ─► check it out
//! ```
//!
//! Nothing of the repository is executed: no hook, no template, no submodule. Nobody is prompted: if a password is needed, git fails and
//! says so. The whole fetch has a time limit.
//!
//! While the directory exists, ^C is delayed: the signals that would end the program are blocked, and checked while git runs. They take
//! effect after the directory was removed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use ol_sys::process::{signal_fd, unblock_signals};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tempfile::TempDir;

use super::git_url::GitUrl;

/// The most bytes of git's output in an error.
const SAID_BYTES: u64 = 4 << 10;

/// Variables by which git finds another repository, or that change how it looks at this one. They are set if this program is called from a
/// git hook, and would make our git use the wrong repository. `git rev-parse --local-env-vars` and git(1) list them.
///
/// Variables with configuration (`GIT_CONFIG_COUNT` and similar) are kept: they may carry keys and proxies.
const OF_A_REPOSITORY: [&str; 14] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
    "GIT_CEILING_DIRECTORIES",
];

/// One commit of a repository, checked out.
pub(super) struct Checkout {
    // Order of dropping: the directory is removed before the signals are unblocked.
    directory: TempDir,
    _signals: HeldSignals,
    function: PathBuf,
}

impl Checkout {
    /// Fetches what `url` names; fails after `limit`.
    pub(super) fn fetch(url: &GitUrl, limit: Duration) -> Result<Self> {
        let signals = HeldSignals::hold()?;
        let directory = tempfile::Builder::new()
            .prefix("ol-install-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir();
        let directory = directory.with_context(|| {
            format!(
                "failed to make a directory in {}",
                std::env::temp_dir().display()
            )
        })?;
        let git = Git {
            signals: &signals.0,
            repository: directory.path().join("repository"),
            said: directory.path().join("said"),
            deadline: Instant::now() + limit,
            ssh: ssh(),
        };
        git.check_out(url)
            .map_err(|failed| failed.sentence(url, limit))?;
        let function = inside(&git.repository, url)?;
        Ok(Self {
            directory,
            _signals: signals,
            function,
        })
    }

    /// The function's directory.
    pub(super) fn function(&self) -> &Path {
        &self.function
    }

    /// Removes the files.
    pub(super) fn remove(self) -> Result<()> {
        let path = self.directory.path().to_owned();
        let removed = self.directory.close();
        removed.with_context(|| format!("failed to remove {}", path.display()))
    }
}

/// Blocks SIGINT, SIGTERM and SIGHUP until dropped; then pending ones have their usual effect.
struct HeldSignals(OwnedFd);

impl HeldSignals {
    fn hold() -> Result<Self> {
        let all = [Signal::INT, Signal::TERM, Signal::HUP].map(Signal::as_raw);
        Ok(Self(
            signal_fd(&all).context("failed to hold signals back")?,
        ))
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // This program blocks no other signals.
        unblock_signals();
    }
}

/// Why nothing was fetched.
enum Failed {
    /// git is not installed.
    Missing,
    /// It took too long.
    Late,
    /// A signal is waiting.
    Interrupted,
    /// git failed; holds its output.
    Said(String),
    /// An error of this host.
    Host(io::Error),
}

impl Failed {
    fn sentence(self, url: &GitUrl, limit: Duration) -> anyhow::Error {
        let shown = url.shown();
        let what = match &url.reference {
            Some(reference) => format!("{reference} of {shown}"),
            None => shown,
        };
        match self {
            Self::Missing => anyhow!(
                "failed to fetch {what}: git is not installed; install it (apt-get install git), or give a directory"
            ),
            Self::Late => anyhow!(
                "failed to fetch {what} within {} s; check the address, or allow more with --timeout",
                limit.as_secs()
            ),
            Self::Interrupted => {
                anyhow!("interrupted while fetching {what}; nothing was installed")
            }
            Self::Said(text) => {
                anyhow!("failed to fetch {what}; check its name and your access; git says: {text}")
            }
            Self::Host(error) => anyhow::Error::new(error).context("failed to run git"),
        }
    }
}

struct Git<'a> {
    signals: &'a OwnedFd,
    repository: PathBuf,
    said: PathBuf,
    deadline: Instant,
    ssh: Option<&'static str>,
}

impl Git<'_> {
    fn check_out(&self, url: &GitUrl) -> Result<(), Failed> {
        // With an empty template there are no hooks, except those of core.hooksPath.
        let path = self.repository.as_os_str();
        self.run(quiet().args(["init", "-q", "--template="]).arg(path))?;
        let wanted = url.reference.as_deref().unwrap_or("HEAD");
        match self.fetch(&["--depth=1"], &url.url, &[wanted]) {
            // A web server that only serves files can't make a shallow copy.
            Err(Failed::Said(text)) if text.contains("dumb http transport") => {
                match self.fetch(&[], &url.url, &[wanted]) {
                    Err(Failed::Said(_)) if is_commit(wanted) => self.fetch_all(&url.url)?,
                    other => return other.and_then(|()| self.take("FETCH_HEAD")),
                }
            }
            // Servers accept commits only by full id, and some only those at the tip of a branch: then everything is fetched.
            Err(Failed::Said(_)) if is_commit(wanted) => self.fetch_all(&url.url)?,
            other => return other.and_then(|()| self.take("FETCH_HEAD")),
        }
        self.take(wanted)
    }

    fn fetch_all(&self, url: &str) -> Result<(), Failed> {
        let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        self.fetch(&["--update-head-ok"], url, &all)
    }

    fn fetch(&self, options: &[&str], url: &str, wanted: &[&str]) -> Result<(), Failed> {
        let mut command = self.inside();
        command.args(["fetch", "-q", "--no-tags", "--no-recurse-submodules"]);
        self.run(command.args(options).arg("--").arg(url).args(wanted))
    }

    fn take(&self, commit: &str) -> Result<(), Failed> {
        let commit = format!("{commit}^{{commit}}");
        let mut command = self.inside();
        self.run(command.args(["checkout", "-q", "--detach", &commit, "--"]))
    }

    fn inside(&self) -> Command {
        let mut command = quiet();
        command.arg("-C").arg(&self.repository);
        command
    }

    /// Runs git to its end; on a timeout or signal, kills it and all processes that it started.
    fn run(&self, command: &mut Command) -> Result<(), Failed> {
        let said = File::create(&self.said).map_err(Failed::Host)?;
        command
            .stdin(Stdio::null())
            .stdout(said.try_clone().map_err(Failed::Host)?)
            .stderr(said)
            // Its output is searched for certain messages, thus must be in English.
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .process_group(0);
        for variable in OF_A_REPOSITORY {
            command.env_remove(variable);
        }
        if let Some(ssh) = self.ssh {
            command.env("GIT_SSH_COMMAND", ssh);
        }
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failed::Missing,
            _ => Failed::Host(error),
        })?;
        let ended = self.wait(&mut child);
        if ended.is_err() {
            // It is not reaped yet, hence the pid still belongs to its process group.
            if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
        }
        if ended?.success() {
            return Ok(());
        }
        Err(Failed::Said(self.words()))
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus, Failed> {
        let host = |error: rustix::io::Errno| Failed::Host(error.into());
        let pid = Pid::from_raw(child.id().cast_signed()).ok_or(Failed::Missing)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(host)?;
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let timeout =
                Timespec::try_from(left).map_err(|e| Failed::Host(io::Error::other(e)))?;
            let mut fds = [
                PollFd::new(&pidfd, PollFlags::IN),
                PollFd::new(self.signals, PollFlags::IN),
            ];
            match poll(&mut fds, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(host(error)),
                Ok(_) if !fds[0].revents().is_empty() => return child.wait().map_err(Failed::Host),
                // The signal stays pending and takes effect after the directory was removed.
                Ok(_) if !fds[1].revents().is_empty() => return Err(Failed::Interrupted),
                Ok(_) if left.is_zero() => return Err(Failed::Late),
                Ok(_) => {}
            }
        }
    }

    /// git's output, on one line and without control characters.
    fn words(&self) -> String {
        let mut bytes = Vec::new();
        let file = File::open(&self.said);
        // If the output can't be read, the error has none; that git failed is reported anyway.
        let _ = file.and_then(|file| file.take(SAID_BYTES).read_to_end(&mut bytes));
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let line = lines.collect::<Vec<_>>().join("; ");
        line.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }
}

/// git with the operator's settings, except those that would run programs.
fn quiet() -> Command {
    let mut command = Command::new("git");
    command.args([
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fsmonitor=false",
    ]);
    command.args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"]);
    command
}

/// Whether `reference` looks like a full or shortened commit id. A branch may have such a name too, and then takes precedence.
fn is_commit(reference: &str) -> bool {
    (4..=64).contains(&reference.len()) && reference.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The ssh command that makes ssh ask nothing; `None` if the operator configured a command.
fn ssh() -> Option<&'static str> {
    let said = |name| std::env::var_os(name).is_some();
    if said("GIT_SSH_COMMAND") || said("GIT_SSH") {
        return None;
    }
    let configured = Command::new("git")
        .args(["config", "--get", "core.sshCommand"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    (!configured).then_some("ssh -o BatchMode=yes")
}

/// The function's directory in the repository. No part of the path may be a link, which could lead anywhere on this host.
fn inside(repository: &Path, url: &GitUrl) -> Result<PathBuf> {
    let mut path = repository.to_owned();
    for part in url
        .directory
        .iter()
        .flat_map(|directory| directory.components())
    {
        path.push(part);
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        if !is_directory {
            let wanted = url.directory.as_deref().unwrap_or(Path::new(""));
            bail!(
                "{} has no directory {}; check its name behind the #",
                url.shown(),
                wanted.display()
            );
        }
    }
    Ok(path)
}
