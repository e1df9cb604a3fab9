//! `GET /metrics`: what `/stats` shows and how many there were of each kind, in the text format that Prometheus reads (0.0.4),
//! in its base units: seconds.

use http::header::CONTENT_TYPE;
use ol_model::kinds::{ServedBy, StartKind};
use ol_model::steps::{self, Step};
use std::fmt::Write as _;

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer.
pub(crate) async fn metrics() -> ([(http::HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, KIND)], text(&steps::ALL) + &kinds())
}

/// A counter for each kind, whether there was one of it or not: a rate needs its zero.
fn kinds() -> String {
    let mut text = String::new();
    let mut counter = |name: &str, help: &str, counts: &[(&str, u64)]| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for (kind, count) in counts {
            let _ = writeln!(text, "{name}{{kind=\"{kind}\"}} {count}");
        }
    };
    counter(
        "ol_starts_total",
        "Sandboxes that were started and bound to a function, by how they began.",
        &StartKind::ALL.map(|kind| (kind.word(), kind.counted())),
    );
    counter(
        "ol_calls_total",
        "Calls that reached a function, by what served them: one started for them, a frozen or a running one.",
        &ServedBy::ALL.map(|kind| (kind.word(), kind.counted())),
    );
    text
}

/// A summary for each step that was taken. A step's quantiles are right within a sixteenth.
fn text(all: &[&Step]) -> String {
    let mut text = String::from(
        "# HELP ol_step_seconds Time taken by each step of an invocation.\n# TYPE ol_step_seconds summary\n",
    );
    for step in all {
        let Some(summary) = step.summary() else {
            continue;
        };
        let name = step.name();
        let mut line = |what: &str, value: f64| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "ol_step_seconds{what} {value}");
        };
        let quantile = |q: &str| format!("{{step=\"{name}\",quantile=\"{q}\"}}");
        line(&quantile("0.5"), summary.median.as_secs_f64());
        line(&quantile("0.99"), summary.p99.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a count of calls is below 2⁵²")]
        let count = summary.count as f64;
        line(
            &format!("_sum{{step=\"{name}\"}}"),
            summary.mean.as_secs_f64() * count,
        );
        line(&format!("_count{{step=\"{name}\"}}"), count);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_step_is_a_summary_in_seconds() {
        steps::PULL.record(Duration::from_millis(2));
        let text = text(&[&steps::PULL]);
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("ol_step_seconds{step=\"pull-code\",quantile=\"0.5\"} 0.002"));
        assert_eq!(lines[2], "ol_step_seconds_sum{step=\"pull-code\"} 0.002");
        assert_eq!(lines[3], "ol_step_seconds_count{step=\"pull-code\"} 1");
    }
}
