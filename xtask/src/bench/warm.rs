//! `cargo xtask bench warm`: the cost of a call when a sandbox exists (targets 1, 2, 9, 12).
//!
//! ```text
//! start and stop the worker `rounds` times        → ready, idle memory           (12)
//! start it once more, and floor-http; in each round, by turns:
//!     one client, back to back                     → p50, p99                     (1)
//!     32 clients, back to back                     → requests/s, CPU per request  (2)
//!     one client, 5 ms apart, then 30 ms apart     → what an unpause adds         (9)
//! leave it alone for a second                      → CPU of paused sandboxes      (9)
//! 4,000 calls from 16 clients                      → no answer wrong or lost
//! ```
//!
//! Every answer is checked. The side that goes first changes from round to round.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::child::{self, Server, Side};
use super::client;
use super::crowd::Crowd;
use super::pair::{Pair, Sides};
use super::process_tree::Neighbours;
use super::session::{Common, Session, progress};
use super::summary::{Goal, Report, quantile};
use super::{correctness, floor_http, pauses, process_tree, worker};

/// How often a round changes sides in rows that vary by chance, with new connections each time.
///
/// With one client a call takes half as long if the scheduler happens to keep all processes on one core; and a pause takes a few
/// microseconds, among the hundreds that an idle core takes to wake up.
pub(super) const TURNS: u32 = 4;
/// Calls before anything is timed: time for processes to start, files to be read, sandboxes to multiply.
const WARM_UP: Duration = Duration::from_millis(700);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Length of one timed stretch of calls, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Clients of the throughput rows
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Python processes of the floor; by default as many as clients
    #[arg(long)]
    pythons: Option<usize>,
    /// Measure floor-http against a second floor-http: shows the noise of the method, needs no worker
    #[arg(long)]
    only_floor: bool,
}

/// Runs the benchmark. Fails only when a server can't run or an answer is wrong.
pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.clients > 0 && args.seconds > 0.0,
        "--clients and --seconds must be above zero"
    );
    let mut session = Session::begin("warm", &args.common)?;
    let log = session.log.clone();
    let start_floor = |side| {
        let command = floor_http::command(args.pythons.unwrap_or(args.clients))?;
        Server::start(side, "floor-http", command, &log)
    };
    let report = &mut session.report;
    if args.only_floor {
        report
            .notes
            .push("--only-floor: \"ours\" is a second floor-http".into());
        let pair = Pair {
            ours: start_floor(Side::Ours)?,
            floor: start_floor(Side::Floor)?,
        };
        measure(&pair, args, report)?;
    } else {
        let directory = session.directory("", &[])?;
        let report = &mut session.report;
        starts(&directory, args.common.rounds, report)?;
        let pair = Pair {
            ours: directory.up()?,
            floor: start_floor(Side::Floor)?,
        };
        worker::install_echo(&pair.ours)
            .with_context(|| format!("its log ends:\n{}", child::tail(&log)))?;
        measure(&pair, args, report)
            .with_context(|| format!("the servers' log: {}", log.display()))?;
        directory.down(pair.ours)?;
    }
    session.end()
}

/// Target 12: how long `up` takes, and the memory of an idle worker.
fn starts(directory: &worker::Directory, rounds: usize, report: &mut Report) -> Result<()> {
    let (mut ready, mut memory, mut everything) = (Vec::new(), Vec::new(), Vec::new());
    let mut weighed = 0;
    for round in 1..=rounds {
        progress(&format!("start {round} of {rounds}"));
        let server = directory.up()?;
        ready.push(server.ready_after().as_secs_f64() * 1e3);
        // Work after the start in the background (spare shells, the first zygote) belongs to the idle worker.
        std::thread::sleep(Duration::from_secs(1));
        let tree = server.tree()?;
        let servers = tree.servers();
        weighed = servers.len();
        if !servers.is_empty() {
            memory.push(process_tree::pss_mib(&servers)?);
        }
        let all: Vec<u32> = tree.members.iter().map(|process| process.pid).collect();
        everything.push(process_tree::pss_mib(&all)?);
        directory.down(server)?;
    }
    let none = &[];
    report.row(
        12,
        "start until ready",
        "ms",
        &ready,
        none,
        Goal::AtMost(150.0),
    );
    let what = "idle memory, worker and warden";
    report.row(12, what, "MiB PSS", &memory, none, Goal::AtMost(20.0));
    report
        .notes
        .push(format!("processes weighed as worker and warden: {weighed}"));
    let what = "idle memory, keepers and Python too";
    report.row(12, what, "MiB PSS", &everything, none, Goal::Informs);
    Ok(())
}

fn measure(pair: &Pair, args: &Args, report: &mut Report) -> Result<()> {
    let neighbours = Neighbours::now()?;
    calls(pair, args, report)?;
    pauses::added_by_an_unpause(pair, args.common.rounds, !args.only_floor, report)?;
    if !args.only_floor {
        pauses::while_paused(&pair.ours, report)?;
    }
    report.notes.push(neighbours.note()?);
    progress("4,000 calls from 16 clients");
    let tally = correctness::run(pair.ours.address(), 16, 4000)?;
    tally.must_be_clean()?;
    report.notes.push(format!(
        "{} calls from 16 clients: every answer right",
        tally.right
    ));
    let pythons = pair.ours.tree()?.pythons().len();
    let floor = pair.floor.tree()?.pythons().len();
    report.notes.push(format!(
        "Python processes at the end: ours {pythons}, floor {floor}"
    ));
    Ok(())
}

/// Targets 1 and 2.
fn calls(pair: &Pair, args: &Args, report: &mut Report) -> Result<()> {
    let stretch = Duration::from_secs_f64(args.seconds);
    let (mut one_p50, mut one_p99) = (Sides::default(), Sides::default());
    let (mut rate, mut cpu) = (Sides::default(), Sides::default());
    let (mut many_p50, mut many_p99) = (Sides::default(), Sides::default());
    for round in 0..args.common.rounds {
        progress(&format!(
            "calls, round {} of {}",
            round + 1,
            args.common.rounds
        ));
        let one = |server: &Server| {
            client::steady(server.address(), WARM_UP / 4)?;
            client::steady(server.address(), stretch / TURNS)
        };
        let (mut ours, mut floor) = (vec![], vec![]);
        for turn in 0..TURNS as usize {
            pair.by_turns(round + turn, one, |side, times| match side {
                Side::Ours => ours.extend(times),
                Side::Floor => floor.extend(times),
            })?;
        }
        for (side, times) in [(Side::Ours, ours), (Side::Floor, floor)] {
            one_p50.keep(side, quantile(&times, 500));
            one_p99.keep(side, quantile(&times, 990));
        }
        let many = |server: &Server| {
            let mut crowd = Crowd::connect(server.address(), args.clients)?;
            crowd.run(WARM_UP)?;
            let before = server.tree()?.cpu_seconds();
            let run = crowd.run(stretch)?;
            Ok((run, server.tree()?.cpu_seconds() - before))
        };
        pair.by_turns(round, many, |side, (run, cpu_seconds)| {
            let calls = run.times.len() as f64;
            rate.keep(side, calls / run.seconds);
            cpu.keep(side, cpu_seconds * 1e6 / calls);
            many_p50.keep(side, quantile(&run.times, 500));
            many_p99.keep(side, quantile(&run.times, 990));
        })?;
    }
    let mut row = |target, what: String, unit, sides: &Sides, goal| {
        report.row(target, what, unit, &sides.ours, &sides.floor, goal);
    };
    let one = "warm echo, 1 client";
    row(
        1,
        format!("{one}: p50"),
        "µs",
        &one_p50,
        Goal::TimesAtMost(1.5),
    );
    row(
        1,
        format!("{one}: p99"),
        "µs",
        &one_p99,
        Goal::TimesAtMost(2.0),
    );
    let many = format!("warm echo, {} clients", args.clients);
    row(
        2,
        many.clone(),
        "requests/s",
        &rate,
        Goal::TimesAtLeast(0.75),
    );
    row(
        2,
        format!("{many}: CPU per request"),
        "µs",
        &cpu,
        Goal::TimesAtMost(1.4),
    );
    row(2, format!("{many}: p50"), "µs", &many_p50, Goal::Informs);
    row(2, format!("{many}: p99"), "µs", &many_p99, Goal::Informs);
    Ok(())
}
