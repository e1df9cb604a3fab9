//! How a call got its sandbox, according to the worker's `X-OL-Timing`.
//!
//! Exists because a cold start can go several ways (a new process, a fork, one forked ahead), and a row about one of them is meaningful
//! only if its calls really went that way. If a worker doesn't send the header, every call counts as `fresh`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::summary::quantile;

/// The share of calls that must have gone a row's way for the row to be judged.
const ENOUGH: f64 = 0.9;

/// One call's way and phases: `queue=12;kind=fork;create=700`, in microseconds.
#[derive(Debug, PartialEq)]
pub(super) struct Timing {
    kind: String,
    phases: Vec<(String, f64)>,
}

impl Timing {
    /// Reads the header's value; without one the call counts as `fresh`, with no phases known.
    pub(super) fn parse(value: Option<&str>) -> Result<Self> {
        let (mut kind, mut phases) = ("fresh".to_owned(), Vec::new());
        for part in value
            .unwrap_or_default()
            .split(';')
            .filter(|p| !p.is_empty())
        {
            let (name, value) = part
                .split_once('=')
                .with_context(|| format!("not NAME=VALUE in X-OL-Timing: {part:?}"))?;
            match (name.trim(), value.trim()) {
                ("kind", value) => kind = value.to_owned(),
                // A value that isn't a number is only for people.
                (name, value) => phases.extend(value.parse().ok().map(|us| (name.to_owned(), us))),
            }
        }
        Ok(Self { kind, phases })
    }
}

/// How often each way occurred in a number of calls.
#[derive(Default)]
pub(super) struct Ways {
    kinds: BTreeMap<String, usize>,
    phases: BTreeMap<String, Vec<f64>>,
}

impl Ways {
    pub(super) fn add(&mut self, timing: Timing) {
        *self.kinds.entry(timing.kind).or_default() += 1;
        for (name, micros) in timing.phases {
            self.phases.entry(name).or_default().push(micros);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (name, micros) in other.phases {
            self.phases.entry(name).or_default().extend(micros);
        }
    }

    /// Whether nearly all calls went by `kind`.
    pub(super) fn mostly(&self, kind: &str) -> bool {
        let whole: usize = self.kinds.values().sum();
        let these = self.kinds.get(kind).copied().unwrap_or(0);
        whole > 0 && these as f64 >= ENOUGH * whole as f64
    }

    /// The ways as text, like `97 fork, 3 fresh; p50: queue 12 µs, create 700 µs`.
    pub(super) fn text(&self) -> String {
        let list = |parts: Vec<String>| parts.join(", ");
        let kinds = self.kinds.iter();
        let kinds = list(
            kinds
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect(),
        );
        let phases = self.phases.iter();
        let phases = phases.map(|(name, us)| format!("{name} {:.0} µs", quantile(us, 500)));
        if self.phases.is_empty() {
            kinds
        } else {
            format!("{kinds}; p50: {}", list(phases.collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_read_with_its_phases() {
        let fork = "queue=12;kind=fork;create=700; bind=150;zygote=z-1";
        let timing = Timing::parse(Some(fork)).expect("well formed");
        assert_eq!(timing.kind, "fork");
        let names: Vec<&str> = timing.phases.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["queue", "create", "bind"]);
        assert_eq!(Timing::parse(None).expect("nothing said").kind, "fresh");
        assert!(Timing::parse(Some("fork")).is_err());
    }

    #[test]
    fn a_row_is_about_one_way() {
        let mut ways = Ways::default();
        assert!(!ways.mostly("fork"), "no calls at all");
        for n in 0..20 {
            let kind = if n < 18 {
                "kind=fork;create=7"
            } else {
                "kind=fresh"
            };
            ways.add(Timing::parse(Some(kind)).expect("well formed"));
        }
        assert!(ways.mostly("fork") && !ways.mostly("fresh"));
        assert_eq!(ways.text(), "18 fork, 2 fresh; p50: create 7 µs");
    }
}
