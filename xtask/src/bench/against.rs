//! `cargo xtask bench against OL`: compares this build of the worker with another one, by turns in one run.
//!
//! ```text
//! in each round, two new workers of each build, one with blanks and one without; by turns:
//!     one client, back to back                     → p50, p99                    (1)
//!     many clients, back to back                   → requests/s, CPU per request (2)
//!     first calls of functions, by blank, by fork  → p50                         (3, 4)
//!     two clients, a new sandbox for each call     → sandboxes/s                 (6)
//! ```
//!
//! Exists because two runs of another benchmark can't tell builds apart: between runs, machines of this kind drift by more than the few per
//! cent in question. Each round uses new workers, because two workers of one build also differ for as long as they live: by where their
//! memory lies, and by the cores that they ran on first.
//!
//! "Floor" in the table is the other build.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::child::Side;
use super::churn::{Driver as _, FreshForEachCall};
use super::client;
use super::cold::Lane;
use super::crowd::Crowd;
use super::pair::{Sides, order};
use super::process_tree::Neighbours;
use super::session::{Common, Session, progress};
use super::summary::{Goal, Report, quantile};
use super::timing::Ways;
use super::warm::TURNS;
use super::worker;

/// The part by which this build may be slower and still count as equal; equal builds differ by this much here.
const WITHIN: f64 = 0.03;
/// Cold calls of each kind in a round.
const COLD: usize = 30;
/// Clients that make and destroy sandboxes.
const CHURNERS: usize = 2;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The other build: the path of an `ol`
    #[arg(value_name = "OL")]
    other: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Length of one timed stretch of calls, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Clients of the throughput rows
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Only calls of a function whose sandbox exists: the rows of (1) and (2)
    #[arg(long)]
    only_warm: bool,
}

/// The workers of one build.
struct Build {
    warm: Lane,
    /// A worker without blanks; `None` when no cold calls are wanted.
    forks: Option<Lane>,
    churn: FreshForEachCall,
    /// The microseconds of calls back to back.
    one_client: Vec<f64>,
}

/// The results of the rounds, for each build.
#[derive(Default)]
struct Results {
    p50: Sides,
    p99: Sides,
    rate: Sides,
    cpu: Sides,
    blank: Sides,
    fork: Sides,
    churn: Sides,
}

/// Runs the benchmark. Fails only when a worker can't run or an answer is wrong.
pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.clients > 0 && args.seconds > 0.0,
        "--clients and --seconds must be above zero"
    );
    let mut session = Session::begin("against", &args.common)?;
    let builds = [session.binary()?, std::path::absolute(&args.other)?];
    let neighbours = Neighbours::now()?;
    let (mut results, mut ways) = (Results::default(), <[Ways; 2]>::default());
    for round in 0..args.common.rounds {
        progress(&format!("round {} of {}", round + 1, args.common.rounds));
        let [ours, other] = &builds;
        let mut ours = Build::open(&mut session, args, ours, "-a")?;
        let mut other = Build::open(&mut session, args, other, "-b")?;
        for turn in 0..TURNS as usize {
            for side in order(round + turn) {
                match side {
                    Side::Ours => ours.one_client(args)?,
                    Side::Floor => other.one_client(args)?,
                }
            }
        }
        for side in order(round) {
            let build = match side {
                Side::Ours => &mut ours,
                Side::Floor => &mut other,
            };
            build.round(side, args, &mut results)?;
        }
        for (build, ways) in [ours, other].into_iter().zip(&mut ways) {
            build.close(ways)?;
        }
    }
    session.note(neighbours.note()?);
    session.note(format!("beside: {}", args.other.display()));
    for (ways, whose) in ways.iter().zip(["ours", "the other's"]) {
        session.note(format!("ways of {whose} cold calls: {}", ways.text()));
    }
    results.rows(args, &mut session.report);
    session.end()
}

impl Build {
    fn open(session: &mut Session<'_>, args: &Args, ol: &Path, label: &str) -> Result<Self> {
        let cold = if args.only_warm { 0 } else { COLD };
        let directory = session.roomy_of(ol, label, &[])?;
        let warm = Lane::on(directory, cold, ("blank", 3, 1.0))?;
        let forks = (!args.only_warm)
            .then(|| {
                let directory = session.roomy_of(ol, &format!("{label}-fork"), &[])?;
                Lane::on(directory, cold, ("fork", 4, 1.0))
            })
            .transpose()?;
        worker::install_echo(warm.server())?;
        let churn = FreshForEachCall::install(warm.server())?;
        let mut build = Self {
            warm,
            forks,
            churn,
            one_client: Vec::new(),
        };
        for lane in [Some(&mut build.warm), build.forks.as_mut()] {
            if let Some(lane) = lane.filter(|_| cold > 0) {
                lane.warm_up()?;
            }
        }
        Ok(build)
    }

    fn one_client(&mut self, args: &Args) -> Result<()> {
        let address = self.warm.server().address();
        client::steady(address, Duration::from_millis(150))?;
        let times = client::steady(address, Duration::from_secs_f64(args.seconds) / TURNS)?;
        self.one_client.extend(times);
        Ok(())
    }

    fn round(&mut self, side: Side, args: &Args, results: &mut Results) -> Result<()> {
        results.p50.keep(side, quantile(&self.one_client, 500));
        results.p99.keep(side, quantile(&self.one_client, 990));
        let stretch = Duration::from_secs_f64(args.seconds);
        let server = self.warm.server();
        let mut crowd = Crowd::connect(server.address(), args.clients)?;
        crowd.run(Duration::from_millis(700))?;
        // Adopted processes may belong to the other build, but that is idle now.
        let before = server.tree()?.cpu_seconds();
        let run = crowd.run(stretch)?;
        let cpu = server.tree()?.cpu_seconds() - before;
        let calls = run.times.len() as f64;
        results.rate.keep(side, calls / run.seconds);
        results.cpu.keep(side, cpu * 1e6 / calls);
        drop(crowd);
        if args.only_warm {
            return Ok(());
        }
        let cold = self.warm.cold_calls(COLD)?.0;
        results.blank.keep(side, quantile(&cold, 500));
        if let Some(lane) = &mut self.forks {
            let cold = lane.cold_calls(COLD)?.0;
            results.fork.keep(side, quantile(&cold, 500));
        }
        let server = self.warm.server();
        let made = self.churn.run(server, CHURNERS, stretch, None)?;
        results.churn.keep(side, made.rate());
        // Sandboxes that are still being destroyed must not affect the next measurement.
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }

    fn close(self, ways: &mut Ways) -> Result<()> {
        for lane in [Some(self.warm), self.forks].into_iter().flatten() {
            ways.merge(lane.close()?);
        }
        Ok(())
    }
}

impl Results {
    fn rows(&self, args: &Args, report: &mut Report) {
        let (at_most, at_least) = (
            Goal::TimesAtMost(1.0 + WITHIN),
            Goal::TimesAtLeast(1.0 - WITHIN),
        );
        let mut row = |target, what: &str, unit, sides: &Sides, goal| {
            if !sides.ours.is_empty() {
                report.row(target, what, unit, &sides.ours, &sides.floor, goal);
            }
        };
        let many = format!("warm echo, {} clients", args.clients);
        row(1, "warm echo, 1 client: p50", "µs", &self.p50, at_most);
        row(
            1,
            "warm echo, 1 client: p99",
            "µs",
            &self.p99,
            Goal::Informs,
        );
        row(2, &many, "requests/s", &self.rate, at_least);
        let what = format!("{many}: CPU per request");
        row(2, &what, "µs", &self.cpu, at_most);
        row(3, "cold call (blank): p50", "µs", &self.blank, at_most);
        row(4, "cold call (fork): p50", "µs", &self.fork, at_most);
        let what = format!("sandboxes made, called once and destroyed, {CHURNERS} clients");
        row(6, &what, "1/s", &self.churn, at_least);
    }
}
