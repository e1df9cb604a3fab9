//! From samples to verdicts: medians of rounds, ratios, a table for people, JSON for programs.
//!
//! Exists so that all benchmarks judge in the same way. A comparison is made **round by round** (the worker's value ÷ the floor's of the
//! same round, then the median of these), because a shared machine drifts more between rounds than within one.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// The median and the extremes of the rounds' values.
#[derive(Clone, Copy, Serialize, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// The spread; `None` if there are no rounds.
    fn of(rounds: &[f64]) -> Option<Self> {
        let sorted = sorted(rounds);
        Some(Self {
            median: middle(&sorted)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

/// The value that `permille` of a thousand samples don't exceed; 500 is the median. 0 if there are no samples.
pub(super) fn quantile(samples: &[f64], permille: usize) -> f64 {
    let sorted = sorted(samples);
    let rank = (sorted.len() * permille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    Some(if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[half - 1], upper)
    } else {
        upper
    })
}

/// How a row is judged. "Ours" is the worker's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// ours ÷ floor is at most this.
    TimesAtMost(f64),
    /// ours ÷ floor is at least this.
    TimesAtLeast(f64),
    /// ours − floor is at most this, in the row's unit.
    MoreByAtMost(f64),
    /// Not judged; the difference ours − floor is shown.
    DiffersBy,
    /// ours is at most this, in the row's unit.
    AtMost(f64),
    /// Not judged; the ratio ours ÷ floor is shown if there is a floor.
    Informs,
}

impl Goal {
    fn compare(self, ours: f64, floor: f64) -> f64 {
        match self {
            Self::MoreByAtMost(_) | Self::DiffersBy => ours - floor,
            _ => ours / floor,
        }
    }

    fn met(self, ours: Spread, versus: Option<Spread>) -> Option<bool> {
        match self {
            Self::TimesAtMost(limit) | Self::MoreByAtMost(limit) => Some(versus?.median <= limit),
            Self::TimesAtLeast(limit) => Some(versus?.median >= limit),
            Self::AtMost(limit) => Some(ours.median <= limit),
            Self::DiffersBy | Self::Informs => None,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::TimesAtMost(limit) => format!("≤ {limit}×"),
            Self::TimesAtLeast(limit) => format!("≥ {limit}×"),
            Self::MoreByAtMost(limit) => format!("≤ +{limit} {unit}"),
            Self::AtMost(limit) => format!("≤ {limit} {unit}"),
            Self::DiffersBy | Self::Informs => "–".into(),
        }
    }

    fn comparison_text(self, spread: Spread) -> String {
        match self {
            Self::MoreByAtMost(_) | Self::DiffersBy => format!(
                "{:+.1} ({:+.1}…{:+.1})",
                spread.median, spread.min, spread.max
            ),
            _ => format!(
                "{:.2}× ({:.2}–{:.2})",
                spread.median, spread.min, spread.max
            ),
        }
    }
}

/// One line of the table.
#[derive(Serialize, Debug)]
pub(super) struct Row {
    /// The number of the target that the row belongs to.
    target: u8,
    what: String,
    unit: &'static str,
    ours: Option<Spread>,
    floor: Option<Spread>,
    /// Ours compared with the floor, round by round: a ratio, or a difference if the goal is one.
    versus: Option<Spread>,
    goal: String,
    met: Option<bool>,
    #[serde(skip)]
    judged_by: Goal,
}

/// The results of one benchmark.
#[derive(Serialize)]
pub(super) struct Report {
    bench: &'static str,
    machine: Machine,
    pub(super) notes: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Machine {
    cores: usize,
    kernel: String,
    commit: String,
}

impl Report {
    pub(super) fn new(bench: &'static str) -> Self {
        let first_line = |text: String| text.lines().next().unwrap_or("unknown").to_owned();
        let git = std::process::Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .output();
        Self {
            bench,
            machine: Machine {
                cores: std::thread::available_parallelism().map_or(0, Into::into),
                kernel: first_line(
                    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default(),
                ),
                commit: first_line(
                    git.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
                        .unwrap_or_default(),
                ),
            },
            notes: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds a row from one value per round. `floor` is empty if there is nothing to compare with.
    pub(super) fn row(
        &mut self,
        target: u8,
        what: impl Into<String>,
        unit: &'static str,
        ours: &[f64],
        floor: &[f64],
        goal: Goal,
    ) {
        let versus: Vec<f64> = ours
            .iter()
            .zip(floor)
            .map(|(ours, floor)| goal.compare(*ours, *floor))
            .collect();
        let (ours, versus) = (Spread::of(ours), Spread::of(&versus));
        self.rows.push(Row {
            target,
            what: what.into(),
            unit,
            ours,
            floor: Spread::of(floor),
            versus,
            goal: goal.text(unit),
            met: ours.and_then(|ours| goal.met(ours, versus)),
            judged_by: goal,
        });
    }

    pub(super) fn print(&self) {
        let Machine {
            cores,
            kernel,
            commit,
        } = &self.machine;
        println!(
            "\nbench {} · {cores} cores · Linux {kernel} · commit {commit}\n",
            self.bench
        );
        let titles = [
            "#",
            "what",
            "ours",
            "floor",
            "ours to floor",
            "goal",
            "met?",
        ];
        let mut table = vec![titles.map(str::to_owned)];
        table.extend(self.rows.iter().map(Row::cells));
        let widths: Vec<usize> = (0..titles.len())
            .map(|column| {
                let cells = table.iter().map(|row| row[column].chars().count());
                cells.max().unwrap_or(0)
            })
            .collect();
        for row in &table {
            let cells = row.iter().zip(&widths);
            let line: Vec<String> = cells.map(|(cell, w)| format!("{cell:<w$}")).collect();
            println!("{}", line.join("  ").trim_end());
        }
        println!();
        for note in &self.notes {
            println!("note: {note}");
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("failed to write {}", path.display()))?;
        println!("written: {}", path.display());
        Ok(())
    }
}

impl Row {
    fn cells(&self) -> [String; 7] {
        let numbers = |spread: Option<Spread>| {
            spread.map_or("–".to_owned(), |Spread { median, min, max }| {
                let (median, min, max) = (short(median), short(min), short(max));
                format!("{median} ({min}–{max})")
            })
        };
        [
            self.target.to_string(),
            format!("{}, {}", self.what, self.unit),
            numbers(self.ours),
            numbers(self.floor),
            self.versus.map_or("–".to_owned(), |spread| {
                self.judged_by.comparison_text(spread)
            }),
            self.goal.clone(),
            match self.met {
                Some(true) => "yes".into(),
                Some(false) => "NO".into(),
                None if matches!(self.judged_by, Goal::DiffersBy | Goal::Informs) => "–".into(),
                None => "not measured".into(),
            },
        ]
    }
}

/// Formats a number with three significant digits, or with all digits before the point.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let at = |permille| quantile(&samples, permille);
        assert_eq!(
            [at(0), at(500), at(990), at(1000)],
            [1.0, 50.0, 99.0, 100.0]
        );
        assert_eq!(quantile(&[], 500), 0.0);
    }

    #[test]
    fn rounds_are_compared_in_pairs() {
        let mut report = Report::new("test");
        // The machine slows down threefold; the ratio stays.
        let (ours, floor) = ([2.0, 4.0, 6.0, 3.0], [1.0, 2.0, 3.0, 1.0]);
        report.row(1, "x", "µs", &ours, &floor, Goal::TimesAtMost(2.0));
        report.row(1, "x", "µs", &ours, &floor, Goal::TimesAtLeast(2.1));
        report.row(1, "x", "µs", &ours, &floor, Goal::MoreByAtMost(1.5));
        report.row(1, "x", "µs", &[], &[], Goal::AtMost(1.0));
        let versus = report.rows[0].versus.expect("both sides are there");
        assert_eq!((versus.median, versus.min, versus.max), (2.0, 2.0, 3.0));
        assert_eq!(report.rows[2].versus.map(|s| s.median), Some(2.0));
        let met: Vec<_> = report.rows.iter().map(|row| row.met).collect();
        assert_eq!(met, [Some(true), Some(false), Some(false), None]);
    }
}
