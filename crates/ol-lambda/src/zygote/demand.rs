//! How many blanks to keep; pure.
//!
//! A blank costs memory that is otherwise unused, and saves one start the fork. Thus there are as many blanks as starts are likely to come
//! before new ones can be made, and none when there was no start for a while.

use std::time::Duration;
use tokio::time::Instant;

/// The period over which the rate of starts is measured.
const MEMORY: Duration = Duration::from_secs(4);
/// Blanks are kept for the starts of this period: making one takes a few milliseconds, but starts come in bunches.
const AHEAD: Duration = Duration::from_millis(250);
/// After this long without a start, no blanks are kept.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The recent demand for starts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    /// The number of starts, each weighing less the older it is.
    weight: f64,
    last: Option<Instant>,
}

impl Demand {
    /// Counts the start of an instance.
    pub(crate) fn arrived(&mut self, now: Instant) {
        self.weight = self.weight_at(now) + 1.0;
        self.last = Some(now);
    }

    fn weight_at(&self, now: Instant) -> f64 {
        let age = self.last.map_or(0.0, |last| {
            now.saturating_duration_since(last).as_secs_f64()
        });
        self.weight * (-age / MEMORY.as_secs_f64()).exp()
    }

    /// How many blanks to keep, if `most` are allowed and the free memory has room for `room` of them.
    pub(crate) fn wanted(&self, now: Instant, most: usize, room: usize) -> usize {
        let Some(last) = self.last else { return 0 };
        if now.saturating_duration_since(last) > FORGOTTEN {
            return 0;
        }
        let per_second = self.weight_at(now) / MEMORY.as_secs_f64();
        let ahead = (per_second * AHEAD.as_secs_f64()).ceil().max(1.0);
        // At most a quarter of the free memory: memory is for functions that are called.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float turns into the nearest whole number there is"
        )]
        let ahead = ahead as usize;
        most.min(room / 4).min(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(starts: u32, every: Duration) -> (Demand, Instant) {
        let (mut demand, mut now) = (Demand::default(), Instant::now());
        for _ in 0..starts {
            now += every;
            demand.arrived(now);
        }
        (demand, now)
    }

    #[test]
    fn nobody_asked_nobody_waits() {
        assert_eq!(Demand::default().wanted(Instant::now(), 8, 100), 0);
        let (demand, now) = after(1, Duration::ZERO);
        assert_eq!(demand.wanted(now, 8, 100), 1);
        assert_eq!(demand.wanted(now + FORGOTTEN * 2, 8, 100), 0);
    }

    #[test]
    fn the_number_follows_the_rate() {
        let (slow, now) = after(50, Duration::from_secs(1));
        assert_eq!(slow.wanted(now, 8, 100), 1);
        let (quick, now) = after(500, Duration::from_millis(50));
        assert_eq!(
            quick.wanted(now, 8, 100),
            6,
            "20 a second: 5, and a little over"
        );
        assert_eq!(quick.wanted(now + Duration::from_secs(20), 8, 100), 1);
    }

    proptest! {
        #[test]
        fn never_more_than_allowed(starts in 0_u32..2000, ms in 0_u64..500, most in 0_usize..64, room in 0_usize..1000) {
            let (demand, now) = after(starts, Duration::from_millis(ms));
            let wanted = demand.wanted(now, most, room);
            prop_assert!(wanted <= most && wanted <= room / 4);
            prop_assert!(demand.wanted(now + Duration::from_secs(5), most, room) <= wanted, "it falls with time");
        }
    }
}
