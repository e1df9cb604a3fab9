//! `ol invoke --timing`: where the time of a call went, measured by the worker and by this program.
//!
//! The worker's phases follow each other; some are parts of an earlier phase and shown within it. The rest of the time until the answer
//! began is the worker's own work and the network.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};
use ureq::Body;
use ureq::http::Response;

/// The header that asks for the times, and that carries them in the answer.
pub(super) const HEADER: &str = "x-ol-timing";

/// The phases that are parts of another phase, and that phase.
const WITHIN: [(&str, &str); 3] = [("lease", "create"), ("fork", "create"), ("unpause", "call")];

/// The name of what is left when the phases are subtracted.
const REST: &str = "worker and network";

/// The times of one call.
#[derive(Debug, Default)]
pub(super) struct Timing {
    kind: Option<String>,
    /// The phases in the order in which they happened.
    phases: Vec<(String, Duration)>,
    /// Until the answer's head arrived here.
    head: Duration,
}

impl Timing {
    /// Reads the worker's times from `answer`, whose head arrived after `head`. Without any, all of the time is counted as the rest.
    pub(super) fn read(answer: &Response<Body>, head: Duration) -> Self {
        let told = answer.headers().get(HEADER).and_then(|v| v.to_str().ok());
        Self::parse(told.unwrap_or_default(), head)
    }

    fn parse(text: &str, head: Duration) -> Self {
        let mut timing = Self {
            head,
            ..Self::default()
        };
        for (name, value) in text.split(';').filter_map(|part| part.split_once('=')) {
            if let Ok(us) = value.parse() {
                let phase = (name.to_owned(), Duration::from_micros(us));
                timing.phases.push(phase);
            } else if name == "kind" {
                timing.kind = Some(value.to_owned());
            }
        }
        timing
    }

    fn rest(&self) -> Duration {
        let apart = self.phases.iter().filter(|(name, _)| whole(name).is_none());
        self.head.saturating_sub(apart.map(|(_, time)| *time).sum())
    }

    /// The times for programs, in whole µs.
    pub(super) fn value(&self) -> Value {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut value = Map::new();
        if let Some(kind) = &self.kind {
            value.insert("kind".to_owned(), json!(kind));
        }
        for (name, time) in &self.phases {
            value.insert(format!("{name}_us"), json!(us(*time)));
        }
        let rest = format!("{}_us", REST.replace(' ', "_"));
        value.insert(rest, json!(us(self.rest())));
        Value::Object(value)
    }
}

/// The phase that phase `name` is a part of.
fn whole(name: &str) -> Option<&'static str> {
    let found = WITHIN.iter().find(|(part, _)| *part == name)?;
    Some(found.1)
}

/// The times for people: one line for each phase, in ms.
impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = &self.kind {
            writeln!(f, "served by: {}", explained(kind))?;
        }
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        for (name, time) in &self.phases {
            match whole(name) {
                None => writeln!(f, "{name:<20}{:>9.3} ms", ms(*time))?,
                Some(_) => writeln!(f, "  of it {name:<12}{:>9.3} ms", ms(*time))?,
            }
        }
        write!(f, "{REST:<20}{:>9.3} ms", ms(self.rest()))
    }
}

/// Explains how the call got its sandbox.
fn explained(kind: &str) -> &str {
    match kind {
        "fresh" => "a fresh sandbox with an interpreter of its own",
        "fork" => "a sandbox forked from a zygote",
        "blank" => "a sandbox that stood ready",
        "resume" => "a sandbox that was frozen",
        "warm" => "a sandbox that ran",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_micros(1500);

    #[test]
    fn parts_are_not_counted_twice() {
        let text = "queue=10;kind=fork;create=700;lease=300;fork=350;bind=150;call=90";
        let timing = Timing::parse(text, HEAD);
        assert_eq!(timing.rest(), Duration::from_micros(550));
        let value = timing.value();
        assert_eq!(value["kind"], "fork");
        assert_eq!(
            (&value["fork_us"], &value["bind_us"]),
            (&json!(350), &json!(150))
        );
        assert_eq!(value["worker_and_network_us"], 550);
        let shown = timing.to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "served by: a sandbox forked from a zygote");
        assert_eq!(lines[2], "create                  0.700 ms");
        assert_eq!(lines[3], "  of it lease           0.300 ms");
        assert_eq!(lines.last(), Some(&"worker and network      0.550 ms"));
    }

    #[test]
    fn a_worker_that_says_nothing_explains_nothing() {
        let timing = Timing::parse("", HEAD);
        assert_eq!(timing.rest(), HEAD);
        assert_eq!(timing.value(), json!({"worker_and_network_us": 1500}));
    }
}
