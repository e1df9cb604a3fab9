//! `cargo xtask bench burst`: many callers at once of a function without a sandbox (target 10).
//!
//! ```text
//! in each round: a new worker, one call of another function, then at once
//!     100 calls of a function that sleeps for a second   → time of the last answer, minus that second
//!     starts of floor-fork, one after the other          → CPU of one × 100 ÷ cores
//! ```
//!
//! The floor is the time that 100 starts would take if only forks were needed and no core were ever idle. Since the function sleeps for a
//! second, an instance can take a second call only if the rest of the burst takes longer than that; a note tells how many Python processes
//! there are afterwards.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::child::{Server, Side};
use super::client::{Asked, Client};
use super::fleet::{self, Function, Work};
use super::floor_fork::{FloorFork, mean_cpu};
use super::interrupt;
use super::pair::{Sides, order};
use super::process_tree::Neighbours;
use super::session::{Common, Session, progress};
use super::summary::{Goal, quantile};
use super::timing::Ways;

/// If no answer at all comes for this long, the missing ones count as lost.
const LOST_AFTER: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};
/// How long the function sleeps.
const SLEEP: Duration = Duration::from_secs(1);
/// Starts of floor-fork in a round.
const FORKS: usize = 50;
/// Pause after the worker's start and first call, in which it prepares what it keeps ready.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Calls at once
    #[arg(long, default_value_t = 100)]
    calls: usize,
}

/// The times of one burst, in milliseconds without the second that each call sleeps.
struct Burst {
    first: f64,
    median: f64,
    last: f64,
}

/// Runs the benchmark. Fails only when something can't run or an answer is wrong.
pub(super) fn run(args: &Args) -> Result<()> {
    // At least two calls: a worker may start its first instances without any decision about their number.
    ensure!(
        (2..=1000).contains(&args.calls),
        "--calls must be 2 to 1000"
    );
    let mut session = Session::begin("burst", &args.common)?;
    let mut floor = FloorFork::start()?;
    let directory = session.roomy("", &[])?;
    let cores = std::thread::available_parallelism()?.get() as f64;
    let neighbours = Neighbours::now()?;
    let (mut last, mut first, mut median) = (Sides::default(), Vec::new(), Vec::new());
    let (mut ways, mut pythons) = (Ways::default(), Vec::new());
    for round in 0..args.common.rounds {
        progress(&format!("round {} of {}", round + 1, args.common.rounds));
        for side in order(round) {
            if side == Side::Floor {
                let starts: Vec<_> = (0..FORKS).map(|_| floor.one()).collect::<Result<_>>()?;
                let whole = mean_cpu(&starts) / 1e3 * args.calls as f64;
                last.keep(side, whole / cores);
                continue;
            }
            let server = directory.up()?;
            let burst = one(&server, round, args.calls, &mut ways)
                .with_context(|| format!("round {}", round + 1))?;
            last.keep(side, burst.last);
            first.push(burst.first);
            median.push(burst.median);
            pythons.push(server.tree()?.pythons().len());
            directory.down(server)?;
        }
    }
    session.note(neighbours.note()?);
    session.note(format!("ways: {}", ways.text()));
    session.note(format!(
        "every answer right; Python processes after each burst, one of them the other function's: {pythons:?}"
    ));
    let report = &mut session.report;
    let calls = args.calls;
    let what = format!("{calls} cold calls at once: last answer, less 1 s");
    let goal = Goal::TimesAtMost(1.3);
    report.row(10, what, "ms", &last.ours, &last.floor, goal);
    let none = &[];
    let what = "the middle one of them";
    report.row(10, what, "ms", &median, none, Goal::Informs);
    let what = "the first of them";
    report.row(10, what, "ms", &first, none, Goal::Informs);
    session.end()
}

fn one(server: &Server, round: usize, calls: usize, ways: &mut Ways) -> Result<Burst> {
    let other = Function::new("other", Work::Nothing);
    let sleeper =
        Function::new(format!("sleeper-{round}"), Work::Sleep).with("instances:\n  max: 1000\n");
    fleet::upload(server, &[other.clone(), sleeper.clone()])?;
    Client::connect(server.address())?.run(&other)?;
    std::thread::sleep(SETTLE);

    let mut clients = (0..calls)
        .map(|_| Client::connect(server.address()))
        .collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    let mut due = Vec::with_capacity(calls);
    for client in &mut clients {
        let asked = client.ask(&sleeper)?;
        due.push((client, asked));
    }
    let mut times = Vec::with_capacity(calls);
    while !due.is_empty() {
        interrupt::check()?;
        for index in readable(&due)? {
            let (client, asked) = due.swap_remove(index);
            ways.add(client.hear(&asked)?);
            times.push(began.elapsed().saturating_sub(SLEEP).as_secs_f64() * 1e3);
        }
    }
    Ok(Burst {
        first: quantile(&times, 0),
        median: quantile(&times, 500),
        last: quantile(&times, 1000),
    })
}

/// Waits until some of the clients have an answer; returns their indices, the greatest first, so that each may be removed with
/// `swap_remove` without moving an earlier one.
fn readable(due: &[(&mut Client, Asked)]) -> Result<Vec<usize>> {
    let mut waiting: Vec<PollFd<'_>> = due
        .iter()
        .map(|(client, _)| PollFd::new(client.socket(), PollFlags::IN))
        .collect();
    match poll(&mut waiting, Some(&LOST_AFTER)) {
        // A signal came: the caller checks whether to continue.
        Err(Errno::INTR) => return Ok(Vec::new()),
        Ok(0) => bail!("{} answers never came", due.len()),
        polled => polled?,
    };
    let ready = waiting.iter().enumerate().rev();
    let ready = ready.filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
}
