//! The task that freezes instances which have been idle for a while, and one that lowers the memory of those that stay frozen.
//!
//! An instance that becomes idle is put into a queue, once. All instances wait equally long, thus the queue is in order of their
//! deadlines and one timer is enough. Back-to-back calls thus cost only a flag. An instance that was frozen is put into a second such
//! queue, because only a pause that lasts is worth the two requests to the pool.

use crate::instance::Instance;
use ol_sandbox::Pool;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long an instance stays frozen before its memory is lowered.
const LASTING: Duration = Duration::from_secs(1);

struct Watched {
    instance: Weak<Instance>,
    uses: u64,
    since: Instant,
}

/// A queue of instances; each is handled once it has been unused for the same time.
#[derive(Clone)]
struct Watch {
    queue: mpsc::UnboundedSender<Watched>,
    /// The flag of an instance that says that it is in the queue.
    flag: fn(&Instance) -> &AtomicBool,
}

impl Watch {
    /// Starts the task; it ends when the last handle is dropped.
    ///
    /// Its queue is bounded by the number of instances, since each instance is in it at most once.
    fn start(
        after: Duration,
        flag: fn(&Instance) -> &AtomicBool,
        then: impl Fn(Arc<Instance>, u64) + Send + 'static,
    ) -> Self {
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
                // The flag is lowered before the check, so that a use which ends after the check queues the instance again.
                flag(&instance).store(false, Ordering::Release);
                if instance.uses() == uses {
                    then(instance, uses);
                } else if let Some(queue) = again.upgrade() {
                    // Used in between: another round. If the instance is busy now, that round finds it used once more.
                    Self { queue, flag }.put(&instance);
                }
            }
        });
        Self {
            queue: sender,
            flag,
        }
    }

    fn put(&self, instance: &Arc<Instance>) {
        if !(self.flag)(instance).swap(true, Ordering::AcqRel) {
            let watched = Watched {
                instance: Arc::downgrade(instance),
                uses: instance.uses(),
                since: Instant::now(),
            };
            // The task lives as long as this handle.
            let _ = self.queue.send(watched);
        }
    }
}

/// Where idle instances are reported.
#[derive(Clone)]
pub(crate) struct Pauser(Watch);

impl Pauser {
    /// Freezes instances idle for `after`; with the pool `downsizing`, lowers the memory of those that stay frozen.
    pub(crate) fn start(after: Duration, downsizing: Option<Arc<dyn Pool>>) -> Self {
        let lasting = downsizing.map(|pool| {
            Watch::start(
                LASTING,
                |i| &i.watched_longer,
                move |instance, uses| {
                    let pool = Arc::clone(&pool);
                    tokio::spawn(async move { instance.downsize_if_paused(uses, &*pool).await });
                },
            )
        });
        Self(Watch::start(
            after,
            |i| &i.watched,
            move |instance, uses| {
                let lasting = lasting.clone();
                tokio::spawn(async move {
                    instance.pause_if_idle(uses).await;
                    if let Some(lasting) = lasting {
                        lasting.put(&instance);
                    }
                });
            },
        ))
    }

    /// `instance` has become idle.
    pub(crate) fn idle(&self, instance: &Arc<Instance>) {
        self.0.put(instance);
    }
}
