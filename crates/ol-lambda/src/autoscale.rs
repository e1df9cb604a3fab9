//! How many instances a function should have. Pure: numbers in, a number out.
//!
//! Both rules estimate the outstanding work: calls that wait or run × how long a call takes. Each instance should have at most
//! `target` of it. The rules differ in the target and in how fast they act.
//!
//! - [`ScalingRule::Work`]: the target is a few milliseconds. Thus a call that takes longer gets an instance of its own, and many
//!   short calls share a few instances: more would fight for the same cores. Instances are started at once, though only as many at a
//!   time as the cores can bring up, and the first instances of a function have to show whether its calls are long before more are
//!   started. Instances are ended after a long idle time.
//! - [`ScalingRule::Original`]: the Go worker's rule: the target is one second, there is at least one instance, and there is one step
//!   each second, up or down.

use std::time::Duration;
use tokio::time::Instant;

/// How the number of instances follows the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalingRule {
    /// At most this much outstanding work for each instance.
    Work { target: Duration },
    /// The Go worker's rule.
    Original,
}

/// A function's load, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Calls that wait for an instance.
    pub waiting: u32,
    /// Calls being served.
    pub running: u32,
    /// Instances that serve or could serve.
    pub alive: u32,
    /// Instances being started.
    pub starting: u32,
    /// How long a call takes; `None` before one has ended, and while calls wait and none ends.
    pub service: Option<Duration>,
    /// Calls wait and run, and none has ended for a while.
    pub stalled: bool,
    /// Calls that one instance serves at once; at least 1.
    pub lanes: u32,
    /// The fewest and the most instances that the function may have.
    pub bounds: (u32, u32),
    /// Processor cores.
    pub cores: u32,
    /// Time since the rule last started or ended an instance; `None` if it never did.
    pub since_change: Option<Duration>,
}

/// The Go worker's target, and how long it waits between two steps.
const SECOND: Duration = Duration::from_secs(1);

impl ScalingRule {
    /// How many instances the function should have.
    pub(crate) fn wanted(self, load: &Load) -> u32 {
        let calls = load.waiting + load.running;
        // More instances than this would have no call to serve.
        let each_its_own = calls.div_ceil(load.lanes.max(1));
        let by_work = |service: Duration, target: Duration| {
            let work = service.as_secs_f64() * f64::from(calls);
            let instances = work / target.as_secs_f64().max(1e-9) / f64::from(load.lanes.max(1));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float is cast to the nearest number there is"
            )]
            let instances = instances.ceil() as u32;
            instances.min(each_its_own)
        };
        let wanted = match (self, load.service) {
            (Self::Work { .. }, None) => each_its_own,
            // As many instances as there are cores are never too many, nor is one more, whose call is on its way while the others run.
            (Self::Work { target }, Some(service)) => {
                by_work(service, target).max(each_its_own.min(load.cores + 1))
            }
            (Self::Original, None) => 1,
            (Self::Original, Some(service)) => by_work(service, SECOND).max(1),
        };
        let (least, most) = load.bounds;
        wanted.min(most).max(least)
    }

    /// How many instances to start now.
    pub(crate) fn starts(self, load: &Load) -> u32 {
        let have = load.alive + load.starting;
        let missing = self.wanted(load).saturating_sub(have);
        match self {
            Self::Work { .. } => {
                let unproven = load.service.is_none() && !load.stalled;
                let under_way = if unproven { have } else { load.starting };
                let at_once = load.cores + 1;
                // The minimum is wanted however long calls take.
                let fewest = load.bounds.0.saturating_sub(have);
                let fewest = fewest.min(at_once.saturating_sub(load.starting));
                missing.min(at_once.saturating_sub(under_way)).max(fewest)
            }
            Self::Original => {
                // With no instance at all, nothing would ever change.
                let due = have == 0 || load.since_change.is_none_or(|since| since >= SECOND);
                missing.min(u32::from(due))
            }
        }
    }

    /// Should an instance that was idle for `idle` be ended? `keep` is how long an idle instance is kept.
    pub(crate) fn ends(self, load: &Load, idle: Duration, keep: Duration) -> bool {
        if load.alive <= load.bounds.0 {
            return false;
        }
        match self {
            Self::Work { .. } => idle >= keep,
            Self::Original => {
                let due = load.since_change.is_none_or(|since| since >= SECOND);
                due && load.alive > self.wanted(load)
            }
        }
    }
}

/// How long calls took lately: over about the last [`Self::WINDOW`], but over at least [`Self::LEAST`] calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServiceTime(Option<Means>);

/// Weighted means.
#[derive(Clone, Copy, Debug)]
struct Means {
    /// The duration of all calls, in seconds.
    all: f64,
    /// The duration of the long calls, in seconds, counting short ones as zero.
    long: f64,
    /// The share of short calls.
    short: f64,
    /// The logarithms of the durations of short calls.
    ln: f64,
    /// The time between the ends of two calls, in seconds.
    between: f64,
    at: Instant,
}

impl ServiceTime {
    const WINDOW: Duration = Duration::from_millis(250);
    const LEAST: f64 = 8.0;
    /// A call at least this long really took that long; a shorter one may have lost its core meanwhile.
    const LONG: Duration = Duration::from_millis(5);

    /// Records a call that took `took` and ended at `now`.
    pub(crate) fn record(&mut self, took: Duration, now: Instant) {
        let (seconds, long) = (took.as_secs_f64(), took >= Self::LONG);
        let ln = seconds.max(1e-6).ln();
        let first = Means {
            all: seconds,
            long: if long { seconds } else { 0.0 },
            short: if long { 0.0 } else { 1.0 },
            ln,
            between: 0.0,
            at: now,
        };
        let before = self.0.unwrap_or(first);
        // Weighted by time, not by calls: at thousands of calls a second, sixteen in a row may all have lost their core for a while.
        // All calls of a window weigh the same: weighing each by the time before it would favour the long ones.
        let since = now.saturating_duration_since(before.at).as_secs_f64();
        let between = before.between + (since - before.between) / Self::LEAST;
        let weight = (between / Self::WINDOW.as_secs_f64()).min(1.0 / Self::LEAST);
        let toward = |before: f64, to: f64| before + (to - before) * weight;
        self.0 = Some(Means {
            all: toward(before.all, first.all),
            long: toward(before.long, first.long),
            short: toward(before.short, first.short),
            ln: match (long, before.short > 0.0) {
                (true, _) => before.ln,
                (false, false) => ln,
                (false, true) => toward(before.ln, ln),
            },
            between,
            at: now,
        });
    }

    /// The call duration that `rule` uses; `None` before the first call has ended.
    ///
    /// The Go worker uses the mean. `ScalingRule::Work` uses the geometric mean of the short calls, so that a few calls that lost their
    /// core aren't taken for long ones: more instances would only make calls lose their core more often, until there are as many instances
    /// as callers.
    pub(crate) fn lately(self, rule: ScalingRule) -> Option<Duration> {
        let means = self.0?;
        Some(Duration::from_secs_f64(match rule {
            ScalingRule::Work { .. } => means.long + means.short * means.ln.exp(),
            ScalingRule::Original => means.all,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: ScalingRule = ScalingRule::Work {
        target: Duration::from_millis(5),
    };

    fn load() -> Load {
        Load {
            waiting: 0,
            running: 0,
            alive: 0,
            starting: 0,
            service: None,
            stalled: false,
            lanes: 1,
            bounds: (0, 64),
            cores: 2,
            since_change: None,
        }
    }

    #[test]
    fn a_first_burst_starts_as_many_as_the_cores_bring_up_and_goes_on() {
        let burst = Load {
            waiting: 16,
            ..load()
        };
        assert_eq!((OURS.wanted(&burst), OURS.starts(&burst)), (16, 3));
        let mut later = Load {
            waiting: 13,
            running: 3,
            alive: 3,
            ..burst
        };
        assert_eq!(OURS.starts(&later), 0, "their calls may be short");
        later.stalled = true;
        assert_eq!(OURS.starts(&later), 3);
    }

    #[test]
    fn the_fewest_are_there_before_any_call_has_ended() {
        let idle = Load {
            alive: 3,
            bounds: (5, 64),
            ..load()
        };
        assert_eq!(OURS.starts(&idle), 2);
    }

    #[test]
    fn short_calls_share_a_few_and_long_ones_do_not() {
        let busy = |ms: f64| Load {
            waiting: 28,
            running: 4,
            alive: 4,
            service: Some(Duration::from_secs_f64(ms / 1e3)),
            ..load()
        };
        assert_eq!(OURS.wanted(&busy(0.2)), 3);
        assert_eq!(OURS.wanted(&busy(2.0)), 13);
        assert_eq!(OURS.wanted(&busy(5.0)), 32);
        assert_eq!(ScalingRule::Original.wanted(&busy(100.0)), 4);
    }

    #[test]
    fn the_original_takes_one_step_a_second() {
        let mut busy = Load {
            waiting: 20,
            alive: 1,
            service: Some(SECOND),
            since_change: Some(SECOND / 2),
            ..load()
        };
        assert_eq!(ScalingRule::Original.starts(&busy), 0);
        busy.since_change = Some(SECOND);
        assert_eq!(ScalingRule::Original.starts(&busy), 1);
        busy.waiting = 0;
        assert!(
            !ScalingRule::Original.ends(&busy, SECOND, SECOND),
            "the last one stays"
        );
        busy.alive = 2;
        assert!(ScalingRule::Original.ends(&busy, SECOND, 100 * SECOND));
    }

    #[test]
    fn the_means_follow() {
        let mut time = ServiceTime::default();
        let mut now = Instant::now();
        assert_eq!(time.lately(OURS), None);
        let mut record = |calls: &[u64], times: u32| {
            for us in (0..times).flat_map(|_| calls) {
                now += Duration::from_micros(*us);
                time.record(Duration::from_micros(*us), now);
            }
            [OURS, ScalingRule::Original]
                .map(|rule| time.lately(rule).expect("recorded").as_secs_f64())
        };
        let near = |have: f64, want: f64| (have / want - 1.0).abs() < 0.02;
        let [ours, original] = record(&[1_000_000], 1);
        assert!(near(ours, 1.0) && near(original, 1.0));
        // A few long calls are enough; of short ones, as many as fit into a second.
        let [ours, original] = record(&[250_000], 60);
        assert!(near(ours, 0.25) && near(original, 0.25));
        let [ours, original] = record(&[1_000], 3_000);
        assert!(
            near(ours, 1e-3) && near(original, 1e-3),
            "{ours} {original}"
        );
        // Calls that lost their core for a while hardly change `ScalingRule::Work`'s estimate.
        let lost: Vec<u64> = (0..10).map(|n| if n == 0 { 3_000 } else { 20 }).collect();
        let [ours, original] = record(&lost, 300);
        assert!(ours < 60e-6 && original > 200e-6, "{ours} {original}");
    }

    #[test]
    fn few_long_calls_among_many_short_ones_count_in_full() {
        let mut time = ServiceTime::default();
        let mut now = Instant::now();
        for n in 0..4_000 {
            let took = if n % 20 == 0 { 40_000 } else { 100 };
            // The calls run on four instances.
            now += Duration::from_micros(took / 4);
            time.record(Duration::from_micros(took), now);
        }
        let ours = time.lately(OURS).expect("recorded").as_secs_f64();
        assert!(ours > 1e-3, "{ours}");
    }

    fn any_load() -> impl Strategy<Value = Load> {
        let counts = (0..2000_u32, 0..100_u32, 0..100_u32, 0..100_u32);
        let time = proptest::option::of(0..100_000_000_u64);
        (
            counts,
            time,
            1..64_u32,
            (0..8_u32, 1..100_u32),
            1..64_u32,
            proptest::option::of(0..5_000_u64),
        )
            .prop_map(
                |((waiting, running, alive, starting), us, lanes, (least, more), cores, since)| {
                    Load {
                        waiting,
                        running,
                        alive,
                        starting,
                        service: us.map(Duration::from_micros),
                        stalled: us.is_none(),
                        lanes,
                        bounds: (least, least + more),
                        cores,
                        since_change: since.map(Duration::from_millis),
                    }
                },
            )
    }

    fn any_rule() -> impl Strategy<Value = ScalingRule> {
        prop_oneof![
            Just(ScalingRule::Original),
            (1..1000_u64).prop_map(|ms| ScalingRule::Work {
                target: Duration::from_millis(ms)
            }),
        ]
    }

    proptest! {
        #[test]
        fn bounds_hold(rule in any_rule(), load in any_load()) {
            let wanted = rule.wanted(&load);
            prop_assert!((load.bounds.0..=load.bounds.1).contains(&wanted));
            let have = load.alive + load.starting;
            let starts = rule.starts(&load);
            prop_assert!(starts == 0 || have + starts <= wanted);
        }

        #[test]
        fn a_call_that_waits_alone_gets_an_instance(rule in any_rule(), mut load in any_load()) {
            (load.waiting, load.running, load.alive, load.starting) = (1, 0, 0, 0);
            prop_assert!(rule.starts(&load) >= 1);
        }

        #[test]
        fn more_work_never_wants_fewer(rule in any_rule(), load in any_load(), more in 0..100_u32) {
            let busier = Load { waiting: load.waiting + more, ..load };
            prop_assert!(rule.wanted(&busier) >= rule.wanted(&load));
            let slower = Load { service: load.service.map(|s| s * 2), ..load };
            prop_assert!(rule.wanted(&slower) >= rule.wanted(&load));
        }

        #[test]
        fn none_is_ended_and_started_again(rule in any_rule(), load in any_load()) {
            let keep = Duration::from_secs(600);
            let idle = Duration::from_secs(1);
            if rule.ends(&load, idle, keep) {
                let fewer = Load { alive: load.alive - 1, since_change: Some(Duration::ZERO), ..load };
                prop_assert!(load.alive == 1 || rule.starts(&fewer) == 0 || load.starting == 0 && fewer.alive == 0);
            }
        }
    }
}
