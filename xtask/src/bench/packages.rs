//! `cargo xtask bench packages`: installing a function's packages, against `uv pip install` of the same (target 13).
//!
//! ```text
//! once:         a function per set is uploaded; from then on both sides install the versions that it was locked to
//! rounds with:  the packages removed, their packed copies kept   ↔  uv with a warm cache
//!               a second function with the same packages         (nothing is installed)
//! rounds with:  neither packages nor copies, only the lock       ↔  uv without a cache, compiling
//! ```
//!
//! The worker's time is from the upload's first byte until the function is ready to be called: its packages are then compiled and synced in
//! the store. uv compiles only when told to, and syncs nothing. Both use the index that this host is configured for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::child::{Server, Side};
use super::client::Client;
use super::fleet;
use super::floor_http::PYTHON;
use super::pair::{Sides, order};
use super::process_tree::Neighbours;
use super::session::{Common, Session, progress};
use super::summary::Goal;
use super::worker;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
}

/// The sets of packages: name and requirements.
const SETS: [(&str, &str); 2] = [
    ("flask", "flask==3.1.1\nrequests==2.32.4\n"),
    ("pandas", "pandas==2.2.3\n"),
];

const SOURCE: &str = "def f(event):\n    return event\n";

/// One set, and the times of its rounds in milliseconds.
struct Set {
    name: &'static str,
    wanted: &'static str,
    pins: Vec<String>,
    /// The pins with their hashes, for uv.
    lock: PathBuf,
    known: Sides,
    compiled: Vec<f64>,
    anew: Sides,
    again: Vec<f64>,
}

/// The program that the worker is compared with.
struct Uv {
    program: PathBuf,
    cache: PathBuf,
    place: PathBuf,
}

/// Runs the benchmark. Fails only when something can't run.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut session = Session::begin("packages", &args.common)?;
    let directory = session.roomy("", &["packages.packed_mb=4096"])?;
    let server = directory.up()?;
    let neighbours = Neighbours::now()?;
    let folder = session.results().join("packages");
    std::fs::create_dir_all(&folder)?;
    let mut sets = Vec::new();
    for (name, wanted) in SETS {
        progress(&format!("{name}: finding out what it needs"));
        sets.push(Set::locked(&server, name, wanted, &folder)?);
    }
    let uv = Uv {
        program: find_uv(directory.path())?,
        cache: directory.path().join("uv-cache"),
        place: directory.path().join("uv"),
    };
    let store = directory.path().join("lambda/packages");
    for set in &sets {
        uv.install(&set.lock, &[])?;
    }
    let rounds = args.common.rounds;
    for round in 0..rounds {
        progress(&format!("round {} of {rounds}", round + 1));
        for set in &mut sets {
            set.known_round(round, &server, &store, &uv)?;
        }
    }
    // These come last, as they leave no packed copies.
    for round in 0..rounds {
        progress(&format!(
            "round {} of {rounds}, for the first time",
            round + 1
        ));
        for set in &mut sets {
            set.anew_round(round, &server, &store, &uv)?;
        }
    }
    directory.down(server)?;
    session.note(neighbours.note()?);
    for set in &sets {
        set.report(&mut session);
    }
    session.end()
}

impl Set {
    fn locked(
        server: &Server,
        name: &'static str,
        wanted: &'static str,
        folder: &Path,
    ) -> Result<Self> {
        install(server, name, wanted)?;
        let config = config(server, name)?;
        let packages = config["Packages"]["packages"].as_array();
        let packages = packages.context("the worker tells no packages")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (mut pins, mut lines) = (Vec::new(), String::new());
        for package in packages {
            let pin = format!("{}=={}", text(&package["name"]), text(&package["version"]));
            lines.push_str(&pin);
            for hash in package["sha256"].as_array().into_iter().flatten() {
                lines.push_str(&format!(" --hash=sha256:{}", text(hash)));
            }
            lines.push('\n');
            pins.push(pin);
        }
        let lock = folder.join(format!("{name}.txt"));
        std::fs::write(&lock, lines)?;
        Ok(Self {
            name,
            wanted,
            pins,
            lock,
            known: Sides::default(),
            compiled: Vec::new(),
            anew: Sides::default(),
            again: Vec::new(),
        })
    }

    fn known_round(&mut self, round: usize, server: &Server, store: &Path, uv: &Uv) -> Result<()> {
        for side in order(round) {
            let took = match side {
                Side::Ours => {
                    self.forget(server, store)?;
                    let took = install(server, self.name, self.wanted)?;
                    self.again.push(self.by_another(server)?);
                    took
                }
                Side::Floor => uv.install(&self.lock, &[])?,
            };
            self.known.keep(side, millis(took));
        }
        let compiling = uv.install(&self.lock, &["--compile-bytecode"])?;
        self.compiled.push(millis(compiling));
        Ok(())
    }

    fn anew_round(&mut self, round: usize, server: &Server, store: &Path, uv: &Uv) -> Result<()> {
        for side in order(round) {
            let took = match side {
                Side::Ours => {
                    self.forget(server, store)?;
                    ask(server, "POST", "/packages/gc?quota_mb=0")?;
                    install(server, self.name, self.wanted)?
                }
                Side::Floor => uv.install(&self.lock, &["--compile-bytecode", "--no-cache"])?,
            };
            self.anew.keep(side, millis(took));
        }
        Ok(())
    }

    /// Moves its packages aside; their packed copies stay.
    ///
    /// They aren't removed, because a file system without a journal is slow for some time in making files where others were deleted lately
    /// (ext4: up to 5 min).
    fn forget(&self, server: &Server, store: &Path) -> Result<()> {
        ask(server, "DELETE", &format!("/registry/{}", self.name))?;
        for pin in &self.pins {
            aside(&store.join(pin))?;
        }
        Ok(())
    }

    /// Installs a second function with the same set; fails if a sandbox was made for it.
    fn by_another(&self, server: &Server) -> Result<f64> {
        let made = |server| -> Result<Option<u64>> {
            Ok(worker::stats(server)?
                .get("create.cnt")
                .and_then(Value::as_u64))
        };
        let before = made(server)?;
        let other = format!("{}-2", self.name);
        let took = install(server, &other, self.wanted)?;
        ensure!(
            before == made(server)?,
            "a second function with the same set had a sandbox made"
        );
        ask(server, "DELETE", &format!("/registry/{other}"))?;
        Ok(millis(took))
    }

    fn report(&self, session: &mut Session<'_>) {
        let (name, count) = (self.name, self.pins.len());
        let report = &mut session.report;
        let what = format!("{name} ({count} packages), installed before; uv's cache warm");
        let goal = Goal::TimesAtMost(1.3);
        report.row(13, what, "ms", &self.known.ours, &self.known.floor, goal);
        let what = format!("{name}, the same; uv told to compile too");
        report.row(
            13,
            what,
            "ms",
            &self.known.ours,
            &self.compiled,
            Goal::Informs,
        );
        let what = format!("{name}, for the first time; uv without cache, compiling");
        report.row(
            13,
            what,
            "ms",
            &self.anew.ours,
            &self.anew.floor,
            Goal::Informs,
        );
        let what = format!("{name}, a second function with the same");
        report.row(13, what, "ms", &self.again, &[], Goal::Informs);
    }
}

impl Uv {
    fn install(&self, lock: &Path, more: &[&str]) -> Result<Duration> {
        if self.place.exists() {
            aside(&self.place)?;
        }
        let began = Instant::now();
        let said = Command::new(&self.program)
            .args(["pip", "install", "--quiet", "--python", PYTHON, "--target"])
            .arg(&self.place)
            .arg("--requirements")
            .arg(lock)
            .args(more)
            .env("UV_CACHE_DIR", &self.cache)
            .stdin(Stdio::null())
            .output()
            .context("failed to start uv")?;
        let took = began.elapsed();
        ensure!(
            said.status.success(),
            "uv failed: {}",
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(took)
    }
}

/// Renames a package's directory to a name that isn't a package's.
fn aside(path: &Path) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let to = path.with_file_name(format!(".aside-{number}"));
    std::fs::rename(path, &to).with_context(|| format!("failed to rename {}", path.display()))
}

/// The uv that the worker found on `PATH`, or fetched.
fn find_uv(directory: &Path) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fetched = std::fs::read_dir(directory.join("worker/packages/tools"));
    let fetched = fetched.into_iter().flatten().filter_map(Result::ok);
    let places = std::env::split_paths(&path).chain(fetched.map(|entry| entry.path()));
    let mut programs = places.map(|folder| folder.join("uv"));
    programs
        .find(|program| program.is_file())
        .context("the worker has no uv")
}

/// Uploads the function; returns the time until it was ready.
fn install(server: &Server, name: &str, wanted: &str) -> Result<Duration> {
    let mut client = Client::connect(server.address())?;
    let began = Instant::now();
    fleet::install(
        &mut client,
        name,
        &[("f.py", SOURCE), ("requirements.txt", wanted)],
    )?;
    loop {
        let state = config(server, name)?;
        let now = &state["Preparation"];
        match now["state"].as_str() {
            Some("ready") => return Ok(began.elapsed()),
            Some("preparing") => {
                let number = now["number"].as_u64().unwrap_or_default();
                ask(
                    server,
                    "GET",
                    &format!("/registry/{name}/config?wait=50&after={number}"),
                )?;
            }
            _ => bail!("{name} can't be prepared: {}", now["error"]),
        }
    }
}

fn config(server: &Server, name: &str) -> Result<Value> {
    let answer = ask(server, "GET", &format!("/registry/{name}/config"))?;
    serde_json::from_slice(&answer).context("the worker's answer is no JSON")
}

fn ask(server: &Server, method: &str, path: &str) -> Result<Vec<u8>> {
    let reply = Client::connect(server.address())?.call(method, path, b"")?;
    let said = String::from_utf8_lossy(&reply.body);
    ensure!(
        (200..300).contains(&reply.status),
        "{method} {path} was answered {}: {said}",
        reply.status
    );
    Ok(reply.body)
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}
