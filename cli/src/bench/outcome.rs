//! The result of a benchmark: the original worker's JSON keys, followed by two more.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::out::Out;

/// The result. Numbers are rounded to three decimals, as in the original worker.
#[derive(Debug, Serialize, PartialEq)]
pub(super) struct Outcome {
    benchmark: &'static str,
    seconds: f64,
    successes: usize,
    errors: usize,
    #[serde(rename = "ops/s")]
    rate: f64,
    /// The median duration of a successful call, in ms; `ms-p99`: the 99th percentile. 0 if no call succeeded.
    #[serde(rename = "ms-p50")]
    median: f64,
    #[serde(rename = "ms-p99")]
    p99: f64,
}

impl Outcome {
    /// The outcome of calls within `seconds`; `times` are the durations of the successful ones.
    pub(super) fn new(
        benchmark: &'static str,
        seconds: f64,
        errors: usize,
        mut times: Vec<Duration>,
    ) -> Self {
        times.sort_unstable();
        let quantile = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
            let time = times.get(place).copied().unwrap_or_default();
            thousandths(time.as_secs_f64() * 1000.0)
        };
        #[expect(clippy::cast_precision_loss, reason = "a count of calls is below 2⁵²")]
        let rate = times.len() as f64 / seconds;
        Self {
            benchmark,
            seconds: thousandths(seconds),
            successes: times.len(),
            errors,
            rate: thousandths(rate),
            median: quantile(50),
            p99: quantile(99),
        }
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("it has only text keys and numbers")
    }

    /// Prints one line of JSON on standard output in either format, because scripts for the original worker read it.
    pub(super) fn print(&self, out: Out) {
        out.result(self, self.text());
    }
}

fn thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// A file for the result. Its old content is kept until there is a result.
pub(super) struct Sink {
    file: File,
    path: PathBuf,
}

impl Sink {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let options = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .clone();
        let file = options
            .open(path)
            .with_context(|| format!("failed to open {}; check that you may", path.display()))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    pub(super) fn write(mut self, outcome: &Outcome) -> Result<()> {
        let text = format!("{}\n", outcome.text());
        let cut = self.file.set_len(0);
        cut.and_then(|()| self.file.write_all(text.as_bytes()))
            .with_context(|| format!("failed to write {}; check its disk", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_the_originals_in_its_order_and_then_ours() {
        let times = (1..=4).rev().map(Duration::from_millis).collect();
        let outcome = Outcome::new("py64-seq", 3.0, 1, times);
        let text = r#"{"benchmark":"py64-seq","seconds":3.0,"successes":4,"errors":1,"ops/s":1.333,"ms-p50":2.0,"ms-p99":4.0}"#;
        assert_eq!(outcome.text(), text);
        let none = Outcome::new("play", 1.0, 0, Vec::new());
        assert_eq!((none.successes, none.median), (0, 0.0));
    }

    #[test]
    fn a_result_takes_the_place_of_a_longer_one() {
        let folder = tempfile::tempdir().expect("made");
        let path = folder.path().join("result.json");
        let old = "x".repeat(1000);
        std::fs::write(&path, &old).expect("written");
        let sink = Sink::open(&path).expect("opened");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), old);
        let outcome = Outcome::new("play", 1.0, 0, Vec::new());
        sink.write(&outcome).expect("written");
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(text, format!("{}\n", outcome.text()));
    }
}
