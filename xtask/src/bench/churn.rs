//! `cargo xtask bench churn`: how many sandboxes per second are made and destroyed (target 6).
//!
//! ```text
//! in each round, by turns, two clients each:
//!     the worker: make a sandbox, call it once, destroy it, again
//!     floor-create: namespaces, mounts, cgroups; nothing inside
//! and some starts of floor-fork, because a worker's sandbox contains a Python and floor-create's doesn't
//! ```

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::child::{Server, Side};
use super::fleet::{self, Calls, Function, Work};
use super::floor_create::Place;
use super::floor_fork::{FloorFork, mean_cpu};
use super::pair::{Sides, order};
use super::process_tree::Neighbours;
use super::session::{Common, Session, progress};
use super::summary::{Goal, quantile};
use super::timing::Ways;

/// Starts of floor-fork in a round, to measure their CPU.
const FORKS: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Length of one timed stretch, in seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Clients of the worker, and loops of the floor
    #[arg(long, default_value_t = 2)]
    clients: usize,
}

/// A way to make a worker create and destroy sandboxes. (Another one would be the worker's other API, which makes them without calling a
/// function.)
pub(super) trait Driver {
    /// What the driver does, for the table.
    const WHAT: &'static str;

    /// Prepares the driver, before anything is timed.
    fn install(server: &Server) -> Result<Self>
    where
        Self: Sized;

    /// Runs `clients` clients for `duration`, each making one sandbox after the other; with `pace`, each client makes one per that time.
    fn run(
        &self,
        server: &Server,
        clients: usize,
        duration: Duration,
        pace: Option<Duration>,
    ) -> Result<Calls>;
}

/// Calls a function that gets a new sandbox for each call.
pub(super) struct FreshForEachCall(Function);

impl Driver for FreshForEachCall {
    const WHAT: &'static str = "sandboxes made, called once and destroyed";

    fn install(server: &Server) -> Result<Self> {
        let function = Function::new("churn", Work::Nothing).with("reuse-sandbox: false\n");
        fleet::upload(server, std::slice::from_ref(&function))?;
        Ok(Self(function))
    }

    fn run(
        &self,
        server: &Server,
        clients: usize,
        duration: Duration,
        pace: Option<Duration>,
    ) -> Result<Calls> {
        fleet::call_again(server, &self.0, clients, duration, pace)
    }
}

/// Runs the benchmark. Fails only when something can't run or an answer is wrong.
pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.clients > 0 && args.seconds > 0.0,
        "--clients and --seconds must be above zero"
    );
    churn::<FreshForEachCall>(args)
}

fn churn<D: Driver>(args: &Args) -> Result<()> {
    let mut session = Session::begin("churn", &args.common)?;
    let stretch = Duration::from_secs_f64(args.seconds);
    let place = Place::make()?;
    let mut forks = FloorFork::start()?;
    let directory = session.roomy("", &[])?;
    let server = directory.up()?;
    let driver = D::install(&server)?;
    let run = |duration| {
        let made = driver.run(&server, args.clients, duration, None);
        made.context("a sandbox failed")
    };
    run(stretch / 2)?;
    place.rate(args.clients, stretch / 4)?;

    let neighbours = Neighbours::now()?;
    let (mut rate, mut latency, mut share) = (Sides::default(), Vec::new(), Vec::new());
    let mut ways = Ways::default();
    let cores = std::thread::available_parallelism()?.get() as f64;
    for round in 0..args.common.rounds {
        progress(&format!("round {} of {}", round + 1, args.common.rounds));
        for side in order(round) {
            match side {
                Side::Ours => {
                    let calls = run(stretch)?;
                    rate.keep(side, calls.rate());
                    latency.push(quantile(&calls.times, 500) / 1e3);
                    ways.merge(calls.ways);
                }
                Side::Floor => rate.keep(side, place.rate(args.clients, stretch)?),
            }
        }
        let fork = mean_cpu(&forks.several(FORKS)?) / 1e6;
        share.push(rate.ours.last().unwrap_or(&0.0) * fork / cores * 100.0);
    }
    session.note(neighbours.note()?);
    session.note(format!("ways: {}", ways.text()));
    // Sandboxes are destroyed in the background.
    std::thread::sleep(Duration::from_secs(1));
    let left = server.tree()?.pythons().len();
    session.note(format!("Python processes a second afterwards: {left}"));
    session.note(
        "every answer right; floor-create runs no Python, so what floor-fork's CPU takes of the cores at our rate is a row",
    );
    let report = &mut session.report;
    let what = format!("{}, {} clients", D::WHAT, args.clients);
    let goal = Goal::TimesAtLeast(0.5);
    report.row(6, what, "1/s", &rate.ours, &rate.floor, goal);
    let what = "one such call: p50";
    report.row(6, what, "ms", &latency, &[], Goal::Informs);
    let what = "CPU that floor-fork would take at that rate";
    report.row(6, what, "% of the cores", &share, &[], Goal::Informs);
    directory.down(server)?;
    session.end()
}
