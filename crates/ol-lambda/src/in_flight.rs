//! Counts running calls from all sources, so that a worker that stops can wait for their ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// The number of running calls.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    count: AtomicUsize,
    none: Notify,
}

/// One running call; dropping it counts the call as ended.
pub(crate) struct Flight<'a>(&'a InFlight);

impl InFlight {
    /// Counts another call.
    pub(crate) fn begin(&self) -> Flight<'_> {
        self.count.fetch_add(1, Ordering::AcqRel);
        Flight(self)
    }

    /// Waits until no call is running. Calls that begin meanwhile are waited for too.
    pub(crate) async fn ended(&self) {
        loop {
            let mut none = std::pin::pin!(self.none.notified());
            // Before the count is read, so that an end in between still wakes this task.
            none.as_mut().enable();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
