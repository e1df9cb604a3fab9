//! `ol invoke --timing`: where the time of a call went, as the worker tells it and as it is seen from here.
//!
//! The worker's phases follow each other; those that are parts of one before them are shown within it. What is left of the time
//! until the answer began is the worker's own work and the way there and back.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};
use ureq::Body;
use ureq::http::Response;

/// The header that asks, and answers.
pub(super) const HEADER: &str = "x-ol-timing";

/// The phases that are parts of another, each with that.
const WITHIN: [(&str, &str); 3] = [("lease", "create"), ("fork", "create"), ("unpause", "call")];

/// What is left when the phases are subtracted.
const REST: &str = "worker and network";

/// One call's time.
#[derive(Debug, Default)]
pub(super) struct Timing {
    kind: Option<String>,
    /// In the order in which they happened.
    phases: Vec<(String, Duration)>,
    /// Until the head of the answer was here.
    head: Duration,
}

impl Timing {
    /// What the worker says of `answer`, whose head was here after `head`. A worker that says nothing leaves it all unexplained.
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

    /// For programs: whole µs.
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

/// What phase `name` is a part of.
fn whole(name: &str) -> Option<&'static str> {
    let found = WITHIN.iter().find(|(part, _)| *part == name)?;
    Some(found.1)
}

/// For people: one line for each phase, in ms.
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

/// A kind in words.
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
