//! The document at `/metrics`: OpenMetrics text, which Prometheus reads.
//!
//! The counters of steps and kinds are in `ol-model`; errors are counted here, when they get their code. All counters are
//! totals, so that a reader can compute rates and quantiles over any stretch of time.

use ol_lambda::Gauges;
use ol_model::kinds::{ServedBy, StartKind};
use ol_model::steps::{self, Step};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::LazyLock;

/// The media type of [`document`].
pub(crate) const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type ByCode = Family<[(&'static str, &'static str); 1], Counter>;

static ERRORS: LazyLock<ByCode> = LazyLock::new(ByCode::default);

/// Counts an error that is answered with this code.
pub(crate) fn count_error(code: &'static str) {
    ERRORS.get_or_create(&[("code", code)]).inc();
}

/// The whole document; `gauges` is what the worker holds now.
pub(crate) fn document(gauges: Gauges) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Now(gauges)));
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = text::encode(&mut text, &registry);
    text
}

/// All metrics at one moment.
#[derive(Debug)]
struct Now(Gauges);

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        steps(&mut encoder, &steps::ALL)?;
        let starts = StartKind::ALL.map(|kind| (kind.word(), kind.counted()));
        let help = "Sandboxes that were started and bound to a function, by how they began.";
        kinds(&mut encoder, "ol_starts", help, &starts)?;
        let calls = ServedBy::ALL.map(|kind| (kind.word(), kind.counted()));
        let help = "Calls that reached a function, by what served them: one started for them, a frozen or a running one.";
        kinds(&mut encoder, "ol_calls", help, &calls)?;
        let help = "Requests that the worker answered with an error of its own, by its code.";
        ERRORS.encode(encoder.encode_descriptor(
            "ol_errors",
            help,
            None,
            MetricType::Counter,
        )?)?;
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        let held = &self.0;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let help = "Memory of the pool that no sandbox holds.";
        let free = held.free_memory.bytes();
        gauge("ol_free_memory", help, Some(&Unit::Bytes), free)?;
        let help = "Sandboxes that serve a function, busy or not.";
        gauge("ol_sandboxes", help, None, count(held.sandboxes))?;
        let help = "Sandboxes that are being started for a function.";
        gauge("ol_starting_sandboxes", help, None, count(held.starting))?;
        let help = "Calls that wait for a sandbox.";
        gauge("ol_waiting_calls", help, None, count(held.waiting))
    }
}

/// Writes a counter for each kind, also for those that are still 0: a rate needs the 0 to start from.
fn kinds(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: &[(&str, u64)],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (kind, count) in counts {
        ConstCounter::new(*count).encode(metric.encode_family(&[("kind", *kind)])?)?;
    }
    Ok(())
}

/// Writes a histogram for each step.
fn steps(encoder: &mut DescriptorEncoder<'_>, all: &[&Step]) -> fmt::Result {
    let help = "Time that each step of an invocation took.";
    let unit = Some(&Unit::Seconds);
    let mut metric = encoder.encode_descriptor("ol_step", help, unit, MetricType::Histogram)?;
    for step in all {
        let known = step.histogram();
        let count = known.buckets.iter().map(|(_, count)| count).sum();
        let bound =
            |bound: Option<std::time::Duration>| bound.map_or(f64::INFINITY, |b| b.as_secs_f64());
        let buckets: Vec<(f64, u64)> = known
            .buckets
            .iter()
            .map(|(upper, count)| (bound(*upper), *count))
            .collect();
        let labels = [("step", step.name())];
        let mut metric = metric.encode_family(&labels)?;
        metric.encode_histogram::<NoLabelSet>(known.sum.as_secs_f64(), count, &buckets, None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ol_model::MiB;
    use std::time::Duration;

    /// The value on the line that begins with `start`.
    fn value(text: &str, start: &str) -> f64 {
        let found = text.lines().find_map(|line| line.strip_prefix(start));
        let found = found.unwrap_or_else(|| panic!("no {start}\n{text}"));
        found.trim().parse().expect("a number")
    }

    fn now() -> String {
        document(Gauges {
            free_memory: MiB(3),
            sandboxes: 5,
            starting: 1,
            waiting: 2,
        })
    }

    #[test]
    fn a_step_is_a_histogram_whose_sum_is_what_was_recorded() {
        let mut sum = 0.0;
        for _ in 0..3 {
            // A mean of whole nanoseconds times a count would lose one of these, and could fall.
            steps::PULL.record(Duration::from_nanos(1_000_001));
            let text = now();
            let next = value(&text, "ol_step_seconds_sum{step=\"pull-code\"}");
            assert!(next > sum, "{next} after {sum}");
            sum = next;
        }
        assert!((sum - 0.003_000_003).abs() < 1e-12, "{sum}");
        let text = now();
        let bucket = |bound: &str| {
            value(
                &text,
                &format!("ol_step_seconds_bucket{{le=\"{bound}\",step=\"pull-code\"}}"),
            )
        };
        assert_eq!(
            (bucket("0.000524288"), bucket("0.001048576"), bucket("+Inf")),
            (0.0, 3.0, 3.0)
        );
        assert_eq!(
            value(&text, "ol_step_seconds_count{step=\"pull-code\"}"),
            3.0
        );
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn errors_are_counted_by_code_and_gauges_are_what_is_held() {
        count_error("a-code");
        count_error("a-code");
        let text = now();
        assert_eq!(value(&text, "ol_errors_total{code=\"a-code\"}"), 2.0);
        assert_eq!(value(&text, "ol_free_memory_bytes"), 3.0 * 1_048_576.0);
        assert_eq!(value(&text, "ol_sandboxes "), 5.0);
        assert_eq!(value(&text, "ol_starting_sandboxes "), 1.0);
        assert_eq!(value(&text, "ol_waiting_calls "), 2.0);
    }
}
