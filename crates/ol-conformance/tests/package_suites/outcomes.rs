//! The outcome of each test of a run, as the runner reports it, and the differences between two runs.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::time::Instant;

/// The page that lists the remaining differences, each test by its name.
const TOLD: &str = include_str!("../../../../docs/contributing/package-suites.md");

/// The outcomes of one run.
pub struct Outcomes {
    /// Outcome (`passed`, `failed`, `skipped`) and report of each test.
    tests: BTreeMap<String, (String, String)>,
    seconds: f64,
}

impl Outcomes {
    /// Reads the runner's whole report.
    ///
    /// # Errors
    /// When the report breaks off (the last reported test is named), or the tests weren't run.
    pub fn read(told: impl Read) -> Result<Self, String> {
        let begun = Instant::now();
        let mut tests = BTreeMap::new();
        let mut last = "nothing".to_owned();
        for line in BufReader::new(told).lines() {
            let line = line.map_err(|error| format!("it broke off after {last}: {error}"))?;
            let told: Vec<Value> =
                serde_json::from_str(&line).map_err(|error| error.to_string())?;
            let text = |at: usize| told[at].as_str().unwrap_or_default().to_owned();
            if told[0] == "exit" {
                let seconds = begun.elapsed().as_secs_f64();
                // 0: all passed; 1: some failed; anything else means that the tests weren't run.
                return match told[1].as_i64() {
                    Some(0 | 1) => Ok(Self { tests, seconds }),
                    code => Err(format!("pytest ended with {code:?} after {tests:?}")),
                };
            }
            last = text(0);
            tests.insert(text(0), (text(1), text(2)));
        }
        Err(format!("it ended after {last}"))
    }

    /// How many tests had this outcome.
    pub fn count(&self, outcome: &str) -> usize {
        self.tests.values().filter(|(is, _)| is == outcome).count()
    }

    /// The tests that failed, each with the last line of its report.
    pub fn failed(&self) -> impl Iterator<Item = (&str, &str)> {
        let failed = self.tests.iter().filter(|(_, (is, _))| is == "failed");
        failed.map(|(test, (_, why))| (test.as_str(), why.lines().last().unwrap_or_default()))
    }

    /// A text for each test whose outcome differs from that in `outside` and isn't listed in [`TOLD`], or is listed and doesn't differ.
    pub fn differences(&self, outside: &Self) -> Vec<String> {
        let missing = ("missing".to_owned(), String::new());
        let all: BTreeSet<&String> = self.tests.keys().chain(outside.tests.keys()).collect();
        let one = |test: &String| {
            let (inside, why) = self.tests.get(test).unwrap_or(&missing);
            let (outside, why_outside) = outside.tests.get(test).unwrap_or(&missing);
            let told = TOLD.contains(&format!("`{test}`"));
            match (inside != outside, told) {
                (true, false) => Some(format!(
                    "{test}\n  {inside} inside: {why}\n  {outside} outside: {why_outside}"
                )),
                (false, true) => Some(format!("{test}\n  told, but {inside} in both places")),
                _ => None,
            }
        };
        all.into_iter().filter_map(one).collect()
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tests in {:.1} s", self.tests.len(), self.seconds)?;
        for outcome in ["passed", "failed", "skipped"] {
            write!(f, ", {} {outcome}", self.count(outcome))?;
        }
        Ok(())
    }
}
