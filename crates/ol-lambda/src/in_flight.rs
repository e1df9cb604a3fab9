//! How many calls are being made, so that a worker that stops can wait for their ends, whichever source they come from.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Calls that are being made.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    count: AtomicUsize,
    none: Notify,
}

/// One of them; its drop ends it.
pub(crate) struct Flight<'a>(&'a InFlight);

impl InFlight {
    /// Another call begins.
    pub(crate) fn begin(&self) -> Flight<'_> {
        self.count.fetch_add(1, Ordering::AcqRel);
        Flight(self)
    }

    /// Waits until there is none. Calls that begin meanwhile are waited for too.
    pub(crate) async fn ended(&self) {
        loop {
            let mut none = std::pin::pin!(self.none.notified());
            // Before the look, so that an end between both is heard.
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
