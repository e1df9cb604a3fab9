//! How long to wait. Every wait is for a condition that can be seen, and has a deadline; none is for time to pass.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at something that gives no notice.
const LOOK: Duration = Duration::from_millis(2);

/// By how much this machine is slower than those that deadlines are written for.
#[must_use]
pub fn slowness() -> u32 {
    match std::env::var("OL_TEST_SLOW").as_deref() {
        Err(_) | Ok("" | "0") => 1,
        Ok(text) => text.parse().ok().filter(|factor| *factor > 1).unwrap_or(10),
    }
}

/// `seconds`, or as many more as this machine needs.
#[must_use]
pub fn patience(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds * f64::from(slowness()))
}

/// Looks again and again until `look` finds something, and returns that.
///
/// # Panics
/// When nothing was found within [`patience`]`(seconds)`; `what` says what was waited for.
pub fn eventually<T>(what: &str, seconds: f64, look: impl FnMut() -> Option<T>) -> T {
    within(seconds, look)
        .unwrap_or_else(|| panic!("waited {:?} in vain: {what}", patience(seconds)))
}

/// The same, for what may also never be.
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

/// Prints what was measured, for those who run tests to see numbers (`cargo nextest run --success-output immediate`).
pub fn measured(text: &str) {
    // Not `eprintln!`, which is for programs that fail.
    let _ = writeln!(std::io::stderr(), "measured: {text}");
}

/// Says to threads that they are to end. It is said too when the test that would say so fails, which would otherwise wait for
/// them for ever.
#[derive(Debug, Default)]
pub struct Over(AtomicBool);

/// Its drop says that it is over.
#[must_use]
pub struct Until<'a>(&'a Over);

impl Over {
    /// Is it?
    #[must_use]
    pub fn is(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// It will be when what is returned is dropped.
    pub fn when_dropped(&self) -> Until<'_> {
        Until(self)
    }
}

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::SeqCst);
    }
}
