//! Log warnings that are repeated at most once a minute, however often a client causes them.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long a warning isn't repeated.
const QUIET: Duration = Duration::from_secs(60);

/// A warning that is logged at most once a minute.
#[derive(Default)]
pub(crate) struct Seldom(Mutex<Option<Said>>);

struct Said {
    at: Instant,
    kept_back: u64,
}

impl Seldom {
    /// Logs `what`, unless this logged something within the last minute.
    pub(crate) fn warn(&self, what: impl Display) {
        match self.kept_back(Instant::now()) {
            None => {}
            Some(0) => tracing::warn!("{what}"),
            Some(times) => tracing::warn!("{what} ({times} times more since this was said last)"),
        }
    }

    /// If the warning is to be logged now: how many were suppressed since the last one.
    fn kept_back(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *said {
            Some(said) if now.duration_since(said.at) < QUIET => {
                said.kept_back += 1;
                None
            }
            said => {
                let fresh = Said {
                    at: now,
                    kept_back: 0,
                };
                Some(said.replace(fresh).map_or(0, |before| before.kept_back))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_back_is_counted() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.kept_back(start), Some(0));
        assert_eq!(seldom.kept_back(start), None);
        assert_eq!(seldom.kept_back(start + QUIET / 2), None);
        assert_eq!(seldom.kept_back(start + QUIET), Some(2));
        assert_eq!(seldom.kept_back(start + QUIET * 5 / 2), Some(0));
    }
}
