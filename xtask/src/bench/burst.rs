//! `cargo xtask bench burst`: many callers at once of a function that has no sandbox yet (target 10).
//!
//! ```text
//! in each round: a worker just started, one call of another function, then at once
//!     100 calls of a function that sleeps for a second   → when the last is answered, less that second
//!     starts of floor-fork, one after the other          → CPU of one × 100 ÷ cores
//! ```
//!
//! The floor is what 100 starts would take if nothing but forks had to be done and no core were ever idle.
//! The function sleeps, so an instance is free for a second of the calls only if the rest of the burst
//! takes longer than the sleep; how many Pythons there are afterwards is a note.

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

/// With no answer from anybody for this long, those due count as lost.
const LOST_AFTER: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};
/// How long the function sleeps.
const SLEEP: Duration = Duration::from_secs(1);
/// Starts of floor-fork in a round.
const FORKS: usize = 50;
/// After the worker's start and its first call: for what it keeps ready for the next.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Calls at once
    #[arg(long, default_value_t = 100)]
    calls: usize,
}

/// One burst, in milliseconds less the second that each call sleeps.
struct Burst {
    first: f64,
    median: f64,
    last: f64,
}

/// Runs the benchmark; an error only when something can't run or an answer is wrong.
pub(super) fn run(args: &Args) -> Result<()> {
    // One more than the first few instances, which a worker may start without having to think.
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

/// Waits until some of these have an answer; their places, the greatest first, so that each may be taken
/// out without moving one before it.
fn readable(due: &[(&mut Client, Asked)]) -> Result<Vec<usize>> {
    let mut waiting: Vec<PollFd<'_>> = due
        .iter()
        .map(|(client, _)| PollFd::new(client.socket(), PollFlags::IN))
        .collect();
    match poll(&mut waiting, Some(&LOST_AFTER)) {
        // A signal: whoever waits looks whether to go on.
        Err(Errno::INTR) => return Ok(Vec::new()),
        Ok(0) => bail!("{} answers never came", due.len()),
        polled => polled?,
    };
    let ready = waiting.iter().enumerate().rev();
    let ready = ready.filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
}
