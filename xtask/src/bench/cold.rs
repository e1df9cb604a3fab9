//! `cargo xtask bench cold`: what the first call of a function costs (targets 3, 4, 5).
//!
//! ```text
//! two workers, one with blanks and one without, and floor-fork; in each round, by turns, 30 ms apart:
//!     first calls of functions, and between them calls of a warm one
//!                                    → what a cold start adds, with a blank      (3)
//!                                    → what a cold start adds, by fork           (4)
//!     as many starts of floor-fork
//!     python3 -c 'import …' a few times                                           (5)
//! 200 functions that allocate 10 MB, once each, with and without zygotes
//!                                    → every answer right; calls per second
//! ```
//!
//! The way that each call went is read from its answer. A row is judged only if nearly all calls went the row's way.

use anyhow::{Context as _, Result, ensure};

use super::child::{Server, Side};
use super::client::{Client, micros};
use super::fleet::{self, Function, Work};
use super::floor_fork::{FloorFork, mean_cpu, paced};
use super::holders;
use super::pair::{Sides, order};
use super::process_tree::Neighbours;
use super::session::{Common, Session, progress};
use super::summary::{Goal, quantile};
use super::timing::Ways;
use super::whole_python::{install_pandas, whole_start};
use super::worker::Directory;

/// Cold calls before anything is timed: a worker keeps as many blanks as were wanted lately.
const WARM_UP: usize = 40;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Cold calls of each kind in a round
    #[arg(long, default_value_t = 20)]
    calls: usize,
    /// Put pandas into target/bench/pandas with pip, once, for target 5
    #[arg(long)]
    with_pandas: bool,
}

/// A worker whose cold starts should all go one way.
pub(super) struct Lane {
    kind: &'static str,
    target: u8,
    goal: f64,
    server: Server,
    /// Declared after the server, so that it is dropped (and removed) after the server has ended.
    directory: Directory,
    client: Client,
    warm: Function,
    /// Functions that haven't been called yet.
    fresh: std::vec::IntoIter<Function>,
    extra: Sides,
    cold_p50: Vec<f64>,
    warm_p50: Vec<f64>,
    floor_cpu: Vec<f64>,
    ways: Ways,
}

/// Runs the benchmark. Fails only when something can't run or an answer is wrong.
pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(args.calls > 0, "--calls must be above zero");
    let mut session = Session::begin("cold", &args.common)?;
    if args.with_pandas {
        install_pandas(&session.results())?;
    }
    let mut floor = FloorFork::start()?;
    let mut lanes = vec![
        Lane::open(&mut session, args, ("blank", 3, 0.4))?,
        Lane::open(&mut session, args, ("fork", 4, 1.2))?,
    ];
    progress("warming up");
    floor.several(WARM_UP / 2)?;
    for lane in &mut lanes {
        lane.warm_up()?;
    }
    let neighbours = Neighbours::now()?;
    let mut whole = [("import json", Vec::new()), ("import pandas", Vec::new())];
    for round in 0..args.common.rounds {
        progress(&format!(
            "cold calls, round {} of {}",
            round + 1,
            args.common.rounds
        ));
        for lane in &mut lanes {
            lane.round(round, args.calls, &mut floor)?;
        }
        for (statement, times) in &mut whole {
            if let Some(time) = whole_start(statement, &session.results())? {
                times.push(time);
            }
        }
    }
    session.note(neighbours.note()?);
    rows(&lanes, &whole, &mut session);
    for lane in lanes {
        lane.directory.down(lane.server)?;
    }
    drop(floor);
    holders::run(&mut session, args.common.rounds)?;
    session.end()
}

impl Lane {
    fn open(
        session: &mut Session<'_>,
        args: &Args,
        meant: (&'static str, u8, f64),
    ) -> Result<Self> {
        let directory = session.roomy(&format!("-{}", meant.0), &[])?;
        Self::on(directory, args.common.rounds * args.calls, meant)
    }

    /// Starts the worker of `directory`, with functions for `calls` cold calls and for a warm-up.
    pub(super) fn on(
        directory: Directory,
        calls: usize,
        (kind, target, goal): (&'static str, u8, f64),
    ) -> Result<Self> {
        if kind == "fork" {
            directory.configure("blanks", serde_json::json!({"max": 0}))?;
        }
        let server = directory.up()?;
        let functions = Function::several(kind, WARM_UP + calls, Work::Nothing);
        let warm = Function::new("warm", Work::Nothing);
        progress(&format!("uploading {} functions", functions.len()));
        fleet::upload(&server, &functions)?;
        fleet::upload(&server, std::slice::from_ref(&warm))?;
        let mut client = Client::connect(server.address())?;
        client.run(&warm).context("the first call failed")?;
        Ok(Self {
            kind,
            target,
            goal,
            server,
            directory,
            client,
            warm,
            fresh: functions.into_iter(),
            extra: Sides::default(),
            cold_p50: Vec::new(),
            warm_p50: Vec::new(),
            floor_cpu: Vec::new(),
            ways: Ways::default(),
        })
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Makes cold calls that aren't timed.
    pub(super) fn warm_up(&mut self) -> Result<()> {
        self.cold_calls(WARM_UP)?;
        self.ways = Ways::default();
        Ok(())
    }

    /// Stops the worker; returns the ways that its cold calls went.
    pub(super) fn close(self) -> Result<Ways> {
        self.directory.down(self.server)?;
        Ok(self.ways)
    }

    /// Makes `count` cold calls, and as many warm ones between them; returns the microseconds of both.
    pub(super) fn cold_calls(&mut self, count: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let (mut cold, mut warm) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let function = self.fresh.next().context("too few functions")?;
            paced(|| self.client.run(&self.warm).map(drop))?;
            let (took, timing) = self.client.run(&function)?;
            cold.push(micros(took));
            self.ways.add(timing);
            paced(|| self.client.run(&self.warm).map(drop))?;
            warm.push(micros(self.client.run(&self.warm)?.0));
        }
        Ok((cold, warm))
    }

    fn round(&mut self, round: usize, calls: usize, floor: &mut FloorFork) -> Result<()> {
        for side in order(round) {
            if side == Side::Ours {
                let (cold, warm) = self.cold_calls(calls)?;
                let (cold, warm) = (quantile(&cold, 500), quantile(&warm, 500));
                self.extra.keep(side, cold - warm);
                self.cold_p50.push(cold);
                self.warm_p50.push(warm);
            } else {
                let starts = floor.several(calls)?;
                let times: Vec<f64> = starts.iter().map(|start| start.micros).collect();
                self.extra.keep(side, quantile(&times, 500));
                self.floor_cpu.push(mean_cpu(&starts));
            }
        }
        Ok(())
    }
}

fn rows(lanes: &[Lane], whole: &[(&str, Vec<f64>)], session: &mut Session<'_>) {
    let none = &[];
    for lane in lanes {
        let Lane { kind, target, .. } = *lane;
        let right = lane.ways.mostly(kind);
        let judged = |goal| if right { goal } else { Goal::Informs };
        let (ours, floor) = (&lane.extra.ours, &lane.extra.floor);
        let report = &mut session.report;
        let what = format!("cold start ({kind}), extra over a warm call: p50");
        let goal = judged(Goal::TimesAtMost(lane.goal));
        report.row(target, what, "µs", ours, floor, goal);
        let what = format!("cold call ({kind}): p50");
        report.row(target, what, "µs", &lane.cold_p50, none, Goal::Informs);
        let what = format!("warm call between those ({kind}): p50");
        report.row(target, what, "µs", &lane.warm_p50, none, Goal::Informs);
        let what = format!("CPU of a start of floor-fork (beside {kind})");
        report.row(target, what, "µs", none, &lane.floor_cpu, Goal::Informs);
        if kind == "fork" {
            for (statement, times) in whole {
                let what = format!("cold start (fork), against python3 -c '{statement}'");
                // The goal: a hundred times faster.
                let goal = match *statement {
                    "import pandas" => judged(Goal::TimesAtMost(0.01)),
                    _ => Goal::Informs,
                };
                report.row(5, what, "µs", ours, times, goal);
            }
        }
        let shortfall = if right {
            String::new()
        } else {
            format!(": NOT {kind}, so the row isn't judged")
        };
        session.note(format!(
            "ways of the cold calls meant to go by {kind}: {}{shortfall}",
            lane.ways.text()
        ));
    }
    if whole.last().is_some_and(|(_, times)| times.is_empty()) {
        session.note("no pandas for /usr/bin/python3; --with-pandas gets it once");
    }
}
