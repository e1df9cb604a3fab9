//! The timed steps of a worker, which `/stats` shows. Every layer can record a step without a lock.
//!
//! Each step is a static, so that recording costs a few atomic additions and no lookup.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How many buckets each doubling of time has: a quantile is exact to a sixteenth.
const FINE: u32 = 16;
/// How many doublings there are, from 1 ns to about a minute and a half; longer times count as that.
const DOUBLINGS: u32 = 37;
const BUCKETS: usize = (FINE * DOUBLINGS) as usize;
/// The doublings that have a bucket of their own in a [`Histogram`].
const COARSE: Range<u32> = 14..36;

/// One kind of step.
#[derive(Debug)]
pub struct Step {
    name: &'static str,
    total_ns: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// A whole invocation as the worker sees it, queue included.
pub static INVOKE: Step = Step::new("invoke");
/// Waiting for an instance.
pub static QUEUE: Step = Step::new("queue");
/// The call itself: from the first frame sent to the first one back.
pub static CALL: Step = Step::new("call");
/// Making a sandbox until its runtime answers.
pub static CREATE: Step = Step::new("create");
/// Binding a function: handler import.
pub static BIND: Step = Step::new("bind");
/// Freezing a sandbox, until it is frozen.
pub static PAUSE: Step = Step::new("pause");
/// Thawing a sandbox.
pub static UNPAUSE: Step = Step::new("unpause");
/// Fetching and unpacking a bundle.
pub static PULL: Step = Step::new("pull-code");

/// Determining, installing and leasing the packages of one version.
pub static PREPARE: Step = Step::new("prepare-packages");
/// The first use of a package in a run: how long the called function's version waited until the package was there.
///
/// For a package that was installed already, that is almost nothing.
pub static PULL_PACKAGE: Step = Step::new("pull-package");

/// All steps, in the order of a request.
pub static ALL: [&Step; 10] = [
    &INVOKE,
    &QUEUE,
    &PULL,
    &PREPARE,
    &PULL_PACKAGE,
    &CREATE,
    &BIND,
    &UNPAUSE,
    &CALL,
    &PAUSE,
];

/// A summary of a step's recorded times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many times were recorded.
    pub count: u64,
    /// The mean time.
    pub mean: Duration,
    /// The time that half of them did not exceed (to a sixteenth).
    pub median: Duration,
    /// The time that all but one in a hundred did not exceed.
    pub p99: Duration,
}

/// A step's recorded times as a histogram, which can be added to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// The time of all recordings together. It never falls.
    pub sum: Duration,
    /// For each bucket, the longest time that belongs in it, and how many times are in it; the last has no bound.
    pub buckets: Vec<(Option<Duration>, u64)>,
}

impl Step {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            total_ns: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    /// The step's name in `/stats`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Records that the step took `time` once.
    pub fn record(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.total_ns.fetch_add(ns, Relaxed);
        if let Some(bucket) = self.buckets.get(bucket_of(ns)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// What was recorded so far, by doublings of time: 16 µs to 69 s.
    pub fn histogram(&self) -> Histogram {
        let counts = |doublings: Range<u32>| {
            let fine = (doublings.start * FINE) as usize..(doublings.end * FINE) as usize;
            let buckets = self.buckets.get(fine).unwrap_or_default();
            buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
        };
        let bound = |doubling: u32| Duration::from_nanos(1 << doubling);
        let first = (Some(bound(COARSE.start)), counts(0..COARSE.start));
        let next =
            COARSE.map(|doubling| (Some(bound(doubling + 1)), counts(doubling..doubling + 1)));
        let last = (None, counts(COARSE.end..DOUBLINGS));
        Histogram {
            sum: Duration::from_nanos(self.total_ns.load(Relaxed)),
            buckets: std::iter::once(first).chain(next).chain([last]).collect(),
        }
    }

    /// What was recorded so far; `None` if nothing was.
    pub fn summary(&self) -> Option<Summary> {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let mean = self.total_ns.load(Relaxed).checked_div(count)?;
        let quantile = |per_cent: u64| {
            let mut left = (count * per_cent).div_ceil(100);
            let bucket = counts.iter().position(|n| {
                left = left.saturating_sub(*n);
                left == 0
            });
            Duration::from_nanos(bucket.map_or(0, upper_bound))
        };
        Some(Summary {
            count,
            mean: Duration::from_nanos(mean),
            median: quantile(50),
            p99: quantile(99),
        })
    }
}

fn bucket_of(ns: u64) -> usize {
    let ns = ns.max(u64::from(FINE));
    let doubling = ns.ilog2();
    // The four bits after the leading one give the bucket within the doubling.
    let fine = (ns >> (doubling - 4)) & 0xf;
    let bucket = u64::from(doubling * FINE) + fine;
    usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The longest time, in ns, that falls into `bucket`.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let (doubling, fine) = (bucket / u64::from(FINE), bucket % u64::from(FINE));
    if doubling < 4 {
        0
    } else {
        ((16 + fine + 1) << (doubling - 4)) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    static EMPTY: Step = Step::new("empty");
    static SOME: Step = Step::new("some");

    #[test]
    fn quantiles_and_mean_of_a_known_series() {
        assert_eq!(EMPTY.summary(), None);
        for us in 1..=100 {
            SOME.record(Duration::from_micros(us));
        }
        let summary = SOME.summary().expect("something was recorded");
        assert_eq!(
            (summary.count, summary.mean),
            (100, Duration::from_nanos(50_500))
        );
        let near = |time: Duration, us: f64| (time.as_secs_f64() * 1e6 / us - 1.0).abs() < 0.07;
        assert!(
            near(summary.median, 50.0) && near(summary.p99, 99.0),
            "{summary:?}"
        );
    }

    #[test]
    fn a_histogram_counts_each_recording_once() {
        static STEP: Step = Step::new("histogram");
        let times = [
            0,
            1,
            16_383,
            16_384,
            20_000,
            1_000_000_000,
            68_000_000_000,
            90_000_000_000,
        ];
        for ns in times {
            STEP.record(Duration::from_nanos(ns));
        }
        let known = STEP.histogram();
        assert_eq!(known.sum, Duration::from_nanos(times.iter().sum()));
        let counted: Vec<_> = known
            .buckets
            .iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        let bound = |doubling: u32| Some(Duration::from_nanos(1 << doubling));
        let expected = [
            (bound(14), 3),
            (bound(15), 2),
            (bound(30), 1),
            (bound(36), 1),
            (None, 1),
        ];
        assert_eq!(counted, expected.iter().collect::<Vec<_>>());
        assert!(
            known
                .buckets
                .is_sorted_by_key(|(bound, _)| bound.unwrap_or(Duration::MAX))
        );
    }

    proptest! {
        #[test]
        fn a_bucket_bounds_what_falls_into_it(ns in 16_u64..100_000_000_000) {
            let bound = upper_bound(bucket_of(ns));
            prop_assert!(bound >= ns && bound - ns <= ns / 16 + 1, "{ns} in a bucket up to {bound}");
        }
    }
}
