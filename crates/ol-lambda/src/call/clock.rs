//! A call's time limit: `runtime_sec` counts the time of the function, not delays caused by its caller.
//!
//! ```text
//!   begin ──running──┬── the caller sends, nothing is answered yet ──▶ excused (Stopwatch)
//!                    └── the caller takes a part of the answer ──────▶ excused (hold, go on)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Adds up how long was waited; may be read during a wait.
#[derive(Debug)]
pub(super) struct Stopwatch {
    origin: Instant,
    total_us: AtomicU64,
    /// When the wait began, in µs after `origin`, plus one; 0 outside a wait.
    since_us: AtomicU64,
}

impl Stopwatch {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            total_us: AtomicU64::new(0),
            since_us: AtomicU64::new(0),
        })
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn start(&self) {
        self.since_us.store(self.now_us() + 1, Ordering::Release);
    }

    pub(super) fn stop(&self) {
        self.total_us.store(
            u64::try_from(self.total().as_micros()).unwrap_or(u64::MAX),
            Ordering::Release,
        );
        self.since_us.store(0, Ordering::Release);
    }

    /// The time waited until now.
    pub(super) fn total(&self) -> Duration {
        let total = self.total_us.load(Ordering::Acquire);
        let running = match self.since_us.load(Ordering::Acquire) {
            0 => 0,
            since => (self.now_us() + 1).saturating_sub(since),
        };
        Duration::from_micros(total + running)
    }
}

/// When the time of a call is over.
#[derive(Debug)]
pub(super) struct Clock {
    end: Instant,
    caller: Option<Arc<Stopwatch>>,
    held: Option<Instant>,
}

impl Clock {
    /// Starts the clock. The time that `caller` counts is excused until [`Self::answered`].
    pub(super) fn start(limit: Duration, caller: Option<Arc<Stopwatch>>) -> Self {
        Self {
            end: Instant::now() + limit,
            caller,
            held: None,
        }
    }

    /// When the time is over, as things are now.
    pub(super) fn end(&self) -> Instant {
        let excused = self.caller.as_ref().map_or(Duration::ZERO, |c| c.total());
        self.end + excused
    }

    /// The answer has begun: from now on the function decides how long the answer takes.
    pub(super) fn answered(&mut self) {
        self.end = self.end();
        self.caller = None;
    }

    /// The caller begins to take a part of the answer.
    pub(super) fn hold(&mut self) {
        self.held = Some(Instant::now());
    }

    /// The caller wants the next part.
    pub(super) fn go_on(&mut self) {
        if let Some(held) = self.held.take() {
            self.end += held.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_the_functions_time_counts() {
        let caller = Stopwatch::new();
        let mut clock = Clock::start(10 * SECOND, Some(Arc::clone(&caller)));
        let begun = Instant::now();
        caller.start();
        advance(3 * SECOND).await;
        assert_eq!(clock.end() - begun, 13 * SECOND);
        caller.stop();
        advance(SECOND).await;
        assert_eq!(clock.end() - begun, 13 * SECOND);
        caller.start();
        clock.answered();
        advance(5 * SECOND).await;
        assert_eq!(clock.end() - begun, 13 * SECOND, "the answer has begun");
        clock.hold();
        advance(2 * SECOND).await;
        clock.go_on();
        clock.go_on();
        assert_eq!(clock.end() - begun, 15 * SECOND);
    }
}
