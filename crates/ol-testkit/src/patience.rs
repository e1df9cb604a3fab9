//! How long to wait. Every wait is for an observable condition, and has a deadline; none is for time to pass.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The time between two looks at something that can't notify.
const LOOK: Duration = Duration::from_millis(2);

/// How many times slower this machine is than those that deadlines are written for.
#[must_use]
pub fn slowness() -> u32 {
    match std::env::var("OL_TEST_SLOW").as_deref() {
        Err(_) | Ok("" | "0") => 1,
        Ok(text) => text.parse().ok().filter(|factor| *factor > 1).unwrap_or(10),
    }
}

/// `seconds`, multiplied by the slowness of this machine.
#[must_use]
pub fn patience(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds * f64::from(slowness()))
}

/// Calls `look` until it finds something, and returns that.
///
/// # Panics
/// When nothing was found within [`patience`]`(seconds)`; `what` says what was waited for.
pub fn eventually<T>(what: &str, seconds: f64, look: impl FnMut() -> Option<T>) -> T {
    within(seconds, look)
        .unwrap_or_else(|| panic!("waited {:?} in vain: {what}", patience(seconds)))
}

/// Like [`eventually`], but returns `None` instead of panicking.
pub fn within<T>(seconds: f64, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience(seconds);
    loop {
        // The time is read first, so that a look after the deadline is always the last.
        let late = Instant::now() >= deadline;
        let found = look();
        if late || found.is_some() {
            return found;
        }
        thread::sleep(LOOK);
    }
}

/// Prints a measurement, for people who want to see numbers (`cargo nextest run --success-output immediate`).
pub fn measured(text: &str) {
    // Not `eprintln!`, which the lint `print_stderr` reports.
    let _ = writeln!(std::io::stderr(), "measured: {text}");
}

/// Tells threads to end. With [`Over::when_dropped`] it does so even if the test panics, which would otherwise wait for them for ever.
#[derive(Debug, Default)]
pub struct Over(AtomicBool);

/// Sets an [`Over`] when dropped.
#[must_use]
pub struct Until<'a>(&'a Over);

impl Over {
    /// Whether threads should end.
    #[must_use]
    pub fn is(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Returns a value that makes [`Self::is`] true when it is dropped.
    pub fn when_dropped(&self) -> Until<'_> {
        Until(self)
    }
}

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::SeqCst);
    }
}
