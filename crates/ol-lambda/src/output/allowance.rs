//! Limits a rate: a token bucket that never refuses, but answers how long to wait.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How much may be spent per second, and as a burst.
#[derive(Debug)]
pub(crate) struct Allowance {
    rate: f64,
    purse: Mutex<Purse>,
}

#[derive(Debug)]
struct Purse {
    /// Negative when more was spent than there was.
    left: f64,
    since: Instant,
}

impl Allowance {
    /// Allows `rate` per second, and as much as a burst.
    pub(crate) fn new(rate: u32) -> Self {
        let rate = f64::from(rate);
        Self {
            rate,
            purse: Mutex::new(Purse {
                left: rate,
                since: Instant::now(),
            }),
        }
    }

    /// The purse, with what was earned until `now`.
    fn purse(&self, now: Instant) -> MutexGuard<'_, Purse> {
        let mut purse = self.purse.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.saturating_duration_since(purse.since).as_secs_f64() * self.rate;
        purse.left = (purse.left + earned).min(self.rate);
        purse.since = now;
        purse
    }

    /// Spends `cost`; returns how long to wait before the next call.
    pub(crate) fn spend(&self, cost: usize) -> Duration {
        let mut purse = self.purse(Instant::now());
        #[expect(clippy::cast_precision_loss, reason = "one turn costs some KiB")]
        let cost = cost as f64;
        purse.left -= cost;
        Duration::from_secs_f64((-purse.left / self.rate).max(0.0))
    }

    /// Resets the purse, as if nothing had been spent.
    #[cfg(test)]
    pub(super) fn forgive(&self) {
        self.purse(Instant::now()).left = self.rate;
    }

    /// Is so much overspent that it takes a second or more to earn it?
    pub(crate) fn is_exhausted(&self) -> bool {
        self.purse(Instant::now()).left <= -self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_what_follows_is_waited_for() {
        let allowance = Allowance::new(1000);
        assert_eq!(allowance.spend(900), Duration::ZERO);
        let wait = allowance.spend(600);
        assert!(
            wait > Duration::from_millis(400) && wait <= Duration::from_millis(500),
            "{wait:?}"
        );
        assert!(!allowance.is_exhausted());
        allowance.spend(1000);
        assert!(allowance.is_exhausted());
    }
}
