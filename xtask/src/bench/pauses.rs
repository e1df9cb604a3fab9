//! The cost of pausing (target 9): from outside, by the worker's own clock, and by the kernel's.
//!
//! From outside: calls 30 ms apart meet a paused sandbox, calls 5 ms apart don't, because the worker pauses a sandbox 10 ms after its last
//! call. A longer gap makes any call slower, even without a pause (colder caches, a sleeping core): thus the floor is called in the same
//! way, and its difference is subtracted.
//!
//! Whether calls met a paused sandbox as intended is **counted**, not assumed: on a machine too busy to wake the client in time, 5 ms may
//! become 15. Then there is a pause in both kinds of call, which makes the difference small and meaningless.

use std::time::Duration;

use anyhow::Result;

use super::child::{Server, Side};
use super::pair::{Pair, Sides};
use super::session::progress;
use super::summary::{Goal, Report, quantile};
use super::warm::TURNS;
use super::{client, process_tree, worker};

/// A gap, and how many calls with that gap are made in each turn.
type Spacing = (Duration, usize);
const NO_PAUSE: Spacing = (Duration::from_millis(5), 25);
const PAUSE: Spacing = (Duration::from_millis(30), 16);
/// The row is judged when at least this many of ten calls met a paused or running sandbox as intended.
const ENOUGH_TENTHS: u64 = 9;

/// The calls with one gap, in all rounds, and the pauses that the worker counted meanwhile.
#[derive(Default)]
struct Count {
    calls: u64,
    pauses: Option<u64>,
}

impl Count {
    fn add(&mut self, calls: usize, pauses: Option<u64>) {
        self.calls += calls as u64;
        if let Some(pauses) = pauses {
            self.pauses = Some(self.pauses.unwrap_or(0) + pauses);
        }
    }

    fn text(&self) -> String {
        let pauses = self.pauses.map_or("?".into(), |pauses| pauses.to_string());
        format!("{pauses} pauses in {} calls", self.calls)
    }
}

/// Whether the calls with the longer gap met a pause, and those with the shorter one didn't.
fn sound(short: &Count, long: &Count) -> bool {
    let (Some(in_short), Some(in_long)) = (short.pauses, long.pauses) else {
        return false;
    };
    in_long * 10 >= long.calls * ENOUGH_TENTHS
        && in_short * 10 <= short.calls * (10 - ENOUGH_TENTHS)
}

/// The times of calls with one gap, and the pauses that `server` counted meanwhile if it is a worker.
fn spaced(server: &Server, (gap, calls): Spacing, count: bool) -> Result<(Vec<f64>, Option<u64>)> {
    let counted = || {
        if count && server.side() == Side::Ours {
            worker::pauses(server)
        } else {
            Ok(None)
        }
    };
    let before = counted()?;
    let times = client::spaced(server.address(), gap, calls)?;
    let pauses = counted()?
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before));
    Ok((times, pauses))
}

/// The measurement from outside. `is_worker` says that `pair.ours` is a worker, which pauses and counts its pauses.
pub(super) fn added_by_an_unpause(
    pair: &Pair,
    rounds: usize,
    is_worker: bool,
    report: &mut Report,
) -> Result<()> {
    let (mut short, mut long, mut added) = (Sides::default(), Sides::default(), Sides::default());
    let (mut in_short, mut in_long) = (Count::default(), Count::default());
    for round in 0..rounds {
        progress(&format!("pauses, round {} of {rounds}", round + 1));
        let one = |server: &Server| {
            let without = spaced(server, NO_PAUSE, is_worker)?;
            Ok((without, spaced(server, PAUSE, is_worker)?))
        };
        let (mut ours, mut floor) = ((vec![], vec![]), (vec![], vec![]));
        for turn in 0..TURNS as usize {
            pair.by_turns(round + turn, one, |side, (without, with)| {
                let times = match side {
                    Side::Ours => {
                        in_short.add(without.0.len(), without.1);
                        in_long.add(with.0.len(), with.1);
                        &mut ours
                    }
                    Side::Floor => &mut floor,
                };
                times.0.extend(without.0);
                times.1.extend(with.0);
            })?;
        }
        for (side, (without, with)) in [(Side::Ours, ours), (Side::Floor, floor)] {
            let (without, with) = (quantile(&without, 500), quantile(&with, 500));
            short.keep(side, without);
            long.keep(side, with);
            added.keep(side, with - without);
        }
    }
    let mut goal = Goal::MoreByAtMost(15.0);
    if is_worker {
        let sound = sound(&in_short, &in_long);
        if !sound {
            goal = Goal::DiffersBy;
        }
        report.notes.push(format!(
            "5 ms apart: {}; 30 ms apart: {}{}",
            in_short.text(),
            in_long.text(),
            if sound {
                ""
            } else {
                ": NOT what it takes, so what an unpause adds isn't judged"
            }
        ));
    }
    let mut row = |what, sides: &Sides, goal| {
        report.row(9, what, "µs", &sides.ours, &sides.floor, goal);
    };
    row("calls 5 ms apart: p50", &short, Goal::Informs);
    row("calls 30 ms apart: p50", &long, Goal::Informs);
    row("30 ms apart over 5 ms apart", &added, goal);
    Ok(())
}

/// Target 9 by the worker's own counters and by the kernel's.
pub(super) fn while_paused(server: &Server, report: &mut Report) -> Result<()> {
    progress("a second of silence");
    let stats = worker::stats(server)?;
    let value = |key: &str| stats.get(key).and_then(serde_json::Value::as_f64);
    let own = |key| value(key).map_or(Vec::new(), |v| vec![v]);
    let what = "pause, by its own clock: p50";
    report.row(9, what, "µs", &own("pause.us-p50"), &[], Goal::AtMost(20.0));
    let what = "unpause, by its own clock: p50";
    report.row(9, what, "µs", &own("unpause.us-p50"), &[], Goal::Informs);
    report.notes.push(format!(
        "pauses so far: {}",
        value("pause.cnt").map_or("not reported".into(), |count| count.to_string())
    ));

    std::thread::sleep(Duration::from_millis(300));
    let pythons = server.tree()?.pythons();
    let before = process_tree::ran_nanoseconds(&pythons)?;
    std::thread::sleep(Duration::from_secs(1));
    let ran = process_tree::ran_nanoseconds(&pythons)?.saturating_sub(before) as f64 / 1e3;
    let what = format!("CPU of {} idle Python processes in 1 s", pythons.len());
    report.row(9, what, "µs", &[ran], &[], Goal::AtMost(0.0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_only_between_pauses_and_none() {
        let count = |calls, pauses| Count { calls, pauses };
        let judged = |short, long| sound(&count(100, short), &count(64, long));
        assert!(judged(Some(0), Some(64)));
        assert!(judged(Some(10), Some(58)));
        assert!(!judged(Some(60), Some(64)), "pauses on both sides");
        assert!(!judged(Some(0), Some(3)), "pauses on neither side");
        assert!(!judged(None, None), "nobody counted");
    }
}
