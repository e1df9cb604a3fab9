//! The worker under test, used only from outside: through its command line and HTTP.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::child::{self, Ending, Server, Side};
use super::client::{Client, next_number};
use super::{fleet, tied, wire};
use crate::cargo::cargo;

const ECHO_SOURCE: &str = "def f(event):\n    return event\n";

/// Builds `ol` with the profile that everything here uses, and returns its path.
pub(super) fn build(target: &Path) -> Result<PathBuf> {
    let status = cargo()
        .args(["build", "--package", "ol"])
        .status()
        .context("failed to start cargo build")?;
    ensure!(status.success(), "failed to build ol");
    Ok(target.join("debug").join("ol"))
}

/// A worker directory for this benchmark, removed at the end.
pub(super) struct Directory {
    path: PathBuf,
    ol: PathBuf,
    log: PathBuf,
    options: String,
}

impl Directory {
    /// Runs `ol worker init`. `options` (`KEY=VALUE`; the last of a key counts) apply to every later `up`. `label` tells several
    /// directories of a benchmark apart.
    pub(super) fn init(ol: PathBuf, label: &str, options: &[String], log: &Path) -> Result<Self> {
        // A short path, because the path of a Unix socket in it may have at most 107 bytes.
        let path = std::env::temp_dir().join(format!("ol-bench-{}{label}", std::process::id()));
        ensure!(!path.exists(), "{} is in the way", path.display());
        let directory = Self {
            path,
            ol,
            log: log.to_owned(),
            options: [&["worker_port=0".to_owned()], options].concat().join(","),
        };
        let status = directory.ol("init")?.status()?;
        ensure!(
            status.success(),
            "ol worker init ended with {status}; its log ends:\n{}",
            child::tail(log)
        );
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets a section of `config.json`. There, unlike on the command line, an old worker that doesn't know it only warns.
    pub(super) fn configure(&self, section: &str, value: serde_json::Value) -> Result<()> {
        let path = self.path.join("config.json");
        let mut config: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&std::fs::read(&path)?)?;
        config.insert(section.to_owned(), value);
        std::fs::write(&path, serde_json::to_vec_pretty(&config)?)
            .with_context(|| format!("failed to write {}", path.display()))
    }

    /// Starts the worker in the foreground, as a child that dies with this process.
    pub(super) fn up(&self) -> Result<Server> {
        let mut command = tied::command(&self.ol)?;
        command
            // The targets are for sandboxes without a network.
            .args(["worker", "up", "-o", "network.egress=false"])
            .args(["-o", &self.options, "-p"])
            .arg(&self.path);
        Server::start(Side::Ours, "ol worker up", command, &self.log)
    }

    /// Stops the worker; if it had to be killed, cleans up what it left on the host, and fails.
    pub(super) fn down(&self, server: Server) -> Result<()> {
        if server.stop()? == Ending::Forced {
            self.ol("force-cleanup")?.status()?;
            bail!("the worker didn't end when asked; it was killed");
        }
        Ok(())
    }

    fn ol(&self, verb: &str) -> Result<Command> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = Command::new(&self.ol);
        command
            .args(["worker", verb, "-p"])
            .arg(&self.path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // If a worker crashed, its bind mounts of the host's /usr may still be in here: removing files through them would destroy the host.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let inside = format!("{}/", self.path.display());
        if mounts.is_empty() || mounts.contains(&inside) {
            eprintln!(
                "warning: {} is left: something is still mounted in it (ol worker force-cleanup)",
                self.path.display()
            );
        } else if self.path.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("warning: failed to remove {}: {error}", self.path.display());
        }
    }
}

/// Uploads the echo function and calls it once.
pub(super) fn install_echo(server: &Server) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    fleet::install(&mut client, "echo", &[("f.py", ECHO_SOURCE)])?;
    client
        .echo(&wire::echo_body(next_number(), 8))
        .context("the first call of the echo function failed")?;
    Ok(())
}

/// The answer of `GET /stats`: a JSON object of numbers.
pub(super) fn stats(server: &Server) -> Result<serde_json::Map<String, serde_json::Value>> {
    let reply = Client::connect(server.address())?.get("/stats")?;
    ensure!(
        reply.status == 200,
        "GET /stats was answered {}",
        reply.status
    );
    serde_json::from_slice(&reply.body).context("failed to read the answer of GET /stats")
}

/// How many times a sandbox has been paused so far; `None` when the worker doesn't report it.
pub(super) fn pauses(server: &Server) -> Result<Option<u64>> {
    Ok(stats(server)?
        .get("pause.cnt")
        .and_then(serde_json::Value::as_u64))
}
