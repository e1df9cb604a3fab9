//! The one task that freezes instances which have been idle for a while.
//!
//! An instance that becomes idle is put into a queue, once; all wait equally long, so the queue is in order of their
//! deadlines and one timer serves. Back-to-back calls so cost nothing but a flag.

use crate::instance::Instance;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

struct Watched {
    instance: Weak<Instance>,
    uses: u64,
    since: Instant,
}

/// Where idle instances are reported.
#[derive(Clone)]
pub(crate) struct Pauser(mpsc::UnboundedSender<Watched>);

impl Pauser {
    /// Starts the task; it ends when the last handle is dropped. Its queue is bounded by the number of instances, each
    /// of which is in it once at most.
    pub(crate) fn start(after: Duration) -> Self {
        let (sender, mut queue) = mpsc::unbounded_channel::<Watched>();
        let again = sender.downgrade();
        tokio::spawn(async move {
            while let Some(Watched {
                instance,
                uses,
                since,
            }) = queue.recv().await
            {
                tokio::time::sleep_until(since + after).await;
                let Some(instance) = instance.upgrade() else {
                    continue;
                };
                // Unwatched before the look, so that a use which ends after it is reported anew.
                instance.watched.store(false, Ordering::Release);
                let now = instance.uses();
                if now == uses {
                    let pausing = Arc::clone(&instance);
                    tokio::spawn(async move { pausing.pause_if_idle(uses).await });
                } else if let Some(again) = again.upgrade()
                    && !instance.watched.swap(true, Ordering::AcqRel)
                {
                    // Used in between: another round. If it is busy, that round finds it used once more.
                    let instance = Arc::downgrade(&instance);
                    let _ = again.send(Watched {
                        instance,
                        uses: now,
                        since: Instant::now(),
                    });
                }
            }
        });
        Self(sender)
    }

    /// `instance` has become idle.
    pub(crate) fn idle(&self, instance: &Arc<Instance>) {
        if !instance.watched.swap(true, Ordering::AcqRel) {
            let watched = Watched {
                instance: Arc::downgrade(instance),
                uses: instance.uses(),
                since: Instant::now(),
            };
            // The task lives as long as we do.
            let _ = self.0.send(watched);
        }
    }
}
