//! Bounds how many refused connections a second are told why.
//!
//! Any further connection is just closed. Sending an explanation and waiting until the client has received it costs ten times what
//! closing costs, and whoever floods the worker decides how often that happens.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many explanations a second are given. A client that does something wrong by mistake isn't refused more often than that.
const A_SECOND: u32 = 100;

/// Counts the explanations of the current second.
#[derive(Default)]
pub(crate) struct Sparing(Mutex<Option<(Instant, u32)>>);

impl Sparing {
    /// May one more explanation be given? Counts it.
    pub(crate) fn take(&self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> bool {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = given.get_or_insert((now, 0));
        if now.duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= A_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_and_no_more() {
        let (sparing, start) = (Sparing::default(), Instant::now());
        for second in 0..3 {
            let at = start + Duration::from_secs(second);
            let given = (0..1000).filter(|_| sparing.take_at(at)).count();
            assert_eq!(given, A_SECOND as usize);
        }
    }
}
