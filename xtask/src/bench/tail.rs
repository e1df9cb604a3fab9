//! `cargo xtask bench tail`: whether a function's calls are slower while others' sandboxes are made and destroyed (target 11).
//!
//! ```text
//! in each round, by turns: 500 calls a second of a warm function
//!     with nothing else                                          → p99, quiet
//!     while two clients make and destroy 100 sandboxes a second  → p99, beside churn
//! ```
//!
//! The calls follow a timetable. A call that is sent late because the previous answer was late is timed from when it should have been sent:
//! otherwise a stall of 50 ms would show as one slow call instead of 25. The time that the client itself takes to wake up isn't counted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::child::{Server, Side};
use super::churn::{Driver as _, FreshForEachCall};
use super::client::{Client, micros, next_number};
use super::fleet::Calls;
use super::interrupt;
use super::pair::{Sides, order};
use super::process_tree::Neighbours;
use super::session::{Common, Session, progress};
use super::summary::{Goal, quantile};
use super::timing::Ways;
use super::{wire, worker};

/// The time between two calls of the warm function.
const INTERVAL: Duration = Duration::from_millis(2);
/// Clients that make and destroy sandboxes.
const CLIENTS: u32 = 2;
/// The row is judged when at least this share of the wanted rate of sandboxes was reached.
const ENOUGH: f64 = 0.9;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Length of one timed stretch, in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Sandboxes made and destroyed per second beside it
    #[arg(long, default_value_t = 100)]
    churn: u32,
}

/// Runs the benchmark. Fails only when something can't run or an answer is wrong.
pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.churn > 0 && args.seconds > 0.0,
        "--churn and --seconds must be above zero"
    );
    let mut session = Session::begin("tail", &args.common)?;
    let stretch = Duration::from_secs_f64(args.seconds);
    let directory = session.roomy("", &[])?;
    let server = directory.up()?;
    worker::install_echo(&server)?;
    let churn = FreshForEachCall::install(&server)?;
    let beside = |duration| {
        let pace = Duration::from_secs(1) * CLIENTS / args.churn;
        churn.run(&server, CLIENTS as usize, duration, Some(pace))
    };
    both(&server, stretch / 4, beside)?;

    let neighbours = Neighbours::now()?;
    // Here "ours" is beside churn, and "floor" is quiet.
    let (mut p50, mut p99, mut worst) = (Sides::default(), Sides::default(), Sides::default());
    let (mut rates, mut ways, mut calls) = (Vec::new(), Ways::default(), 0);
    for round in 0..args.common.rounds {
        progress(&format!("round {} of {}", round + 1, args.common.rounds));
        for side in order(round) {
            let times = match side {
                Side::Floor => timetable(server.address(), stretch)?,
                Side::Ours => {
                    let (times, churned) = both(&server, stretch, beside)?;
                    rates.push(churned.rate());
                    ways.merge(churned.ways);
                    times
                }
            };
            calls += times.len();
            p50.keep(side, quantile(&times, 500));
            p99.keep(side, quantile(&times, 990));
            worst.keep(side, quantile(&times, 1000));
            // Sandboxes that are still being destroyed must not affect a quiet stretch.
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    session.note(neighbours.note()?);
    session.note(format!("ways of the sandboxes beside it: {}", ways.text()));
    session.note(format!("{calls} calls on time or late: every answer right"));
    let enough = quantile(&rates, 500) >= ENOUGH * f64::from(args.churn);
    if !enough {
        session.note(format!(
            "fewer than {} sandboxes/s came and went, so the row isn't judged",
            args.churn
        ));
    }
    let report = &mut session.report;
    let none = &[];
    let what = "sandboxes made and destroyed meanwhile";
    report.row(11, what, "1/s", &rates, none, Goal::Informs);
    let allowed: Vec<f64> = p99.floor.iter().map(|quiet| allowed(*quiet)).collect();
    let goal = if enough {
        Goal::TimesAtMost(1.0)
    } else {
        Goal::Informs
    };
    let what =
        "warm p99 beside churn; beside it, what is allowed (twice the quiet one or 5 ms more)";
    report.row(11, what, "µs", &p99.ours, &allowed, goal);
    for (what, sides) in [("p50", &p50), ("p99", &p99), ("slowest call", &worst)] {
        let what = format!("{what} beside churn; beside it, quiet");
        report.row(11, what, "µs", &sides.ours, &sides.floor, Goal::Informs);
    }
    directory.down(server)?;
    session.end()
}

/// The allowed p99 if the quiet one is `quiet` microseconds: twice that, or 5 ms more if that is greater.
fn allowed(quiet: f64) -> f64 {
    (2.0 * quiet).max(quiet + 5000.0)
}

/// Runs the timetable and `churn` at once, both for `duration`.
fn both(
    server: &Server,
    duration: Duration,
    churn: impl FnOnce(Duration) -> Result<Calls> + Send,
) -> Result<(Vec<f64>, Calls)> {
    std::thread::scope(|scope| {
        let churning = scope.spawn(|| churn(duration));
        let times = timetable(server.address(), duration);
        let churned = churning.join().ok().context("the churn panicked")?;
        Ok((times?, churned.context("a sandbox beside it failed")?))
    })
}

/// Makes a call every [`INTERVAL`] for `duration`; returns the microseconds of each from when it was due.
pub(super) fn timetable(address: SocketAddr, duration: Duration) -> Result<Vec<f64>> {
    let mut client = Client::connect(address)?;
    client.echo(&wire::echo_body(next_number(), 8))?;
    let (started, mut times) = (Instant::now(), Vec::new());
    let mut due = started;
    while due.duration_since(started) < duration {
        interrupt::check()?;
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            std::thread::sleep(early);
            // If it woke late, the timetable moves: that delay is the client's, not the server's.
            due = Instant::now();
        }
        let late = due.elapsed();
        let took = client.echo(&wire::echo_body(next_number(), 8))?;
        times.push(micros(late + took));
        due += INTERVAL;
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_the_greater_of_two() {
        assert_eq!(allowed(200.0), 5200.0);
        assert_eq!(allowed(8000.0), 16000.0);
    }
}
