//! The memory that all sandboxes share. A reservation is a value: the memory is reserved while it lives, and given back by its drop.
//!
//! Waiting is fair (first come, first served): a large request is not starved by small ones, because memory that is given back goes
//! to the request that has waited longest.

use ol_model::MiB;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All memory that sandboxes may use.
#[derive(Clone, Debug)]
pub struct Budget {
    free: Arc<Semaphore>,
    total: MiB,
}

/// A part of the budget that is reserved.
#[derive(Debug)]
pub struct Reservation(OwnedSemaphorePermit);

/// A reservation with several owners; it is given back when the last of them drops it.
pub type Hold = Arc<Mutex<Reservation>>;

impl Reservation {
    /// How much is reserved.
    #[must_use]
    pub fn size(&self) -> MiB {
        MiB(u32::try_from(self.0.num_permits()).unwrap_or(u32::MAX))
    }

    /// Gives back what exceeds `size`.
    pub fn shrink_to(&mut self, size: MiB) {
        let more = self.size().0.saturating_sub(size.0);
        drop(self.0.split(more as usize));
    }

    /// Adds `other`, a reservation from the same budget.
    pub fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

impl Budget {
    /// A budget of `total`.
    #[must_use]
    pub fn new(total: MiB) -> Self {
        Self {
            free: Arc::new(Semaphore::new(total.0 as usize)),
            total,
        }
    }

    /// The memory of the whole budget.
    #[must_use]
    pub fn total(&self) -> MiB {
        self.total
    }

    /// The memory that isn't reserved.
    #[must_use]
    pub fn free(&self) -> MiB {
        MiB(u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX))
    }

    /// Reserves `amount`, waiting at most `patience` for it; `None` after that, or at once if the whole budget is smaller.
    pub async fn reserve(&self, amount: MiB, patience: Duration) -> Option<Reservation> {
        if amount.0 > self.total.0 {
            return None;
        }
        let acquire = Arc::clone(&self.free).acquire_many_owned(amount.0);
        tokio::time::timeout(patience, acquire)
            .await
            .ok()?
            .ok()
            .map(Reservation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_is_free_again_and_patience_ends() {
        let budget = Budget::new(MiB(100));
        let first = budget.reserve(MiB(80), Duration::ZERO).await.expect("room");
        assert!(
            budget
                .reserve(MiB(30), Duration::from_secs(1))
                .await
                .is_none()
        );
        assert_eq!(budget.free(), MiB(20));
        drop(first);
        assert!(budget.reserve(MiB(100), Duration::ZERO).await.is_some());
        assert_eq!(budget.free(), MiB(100));
        assert!(
            budget
                .reserve(MiB(101), Duration::from_secs(9))
                .await
                .is_none()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_split_off_is_free_and_what_is_merged_is_held() {
        let budget = Budget::new(MiB(100));
        let mut hold = budget.reserve(MiB(60), Duration::ZERO).await.expect("room");
        hold.shrink_to(MiB(20));
        assert_eq!((hold.size(), budget.free()), (MiB(20), MiB(80)));
        hold.shrink_to(MiB(50));
        assert_eq!(hold.size(), MiB(20), "shrinking never grows");
        hold.merge(budget.reserve(MiB(30), Duration::ZERO).await.expect("room"));
        assert_eq!((hold.size(), budget.free()), (MiB(50), MiB(50)));
        drop(hold);
        assert_eq!(budget.free(), MiB(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_request_is_not_starved_by_small_ones() {
        let budget = Budget::new(MiB(100));
        let held = budget.reserve(MiB(60), Duration::ZERO).await.expect("room");
        let large = tokio::spawn({
            let budget = budget.clone();
            async move {
                budget
                    .reserve(MiB(90), Duration::from_secs(5))
                    .await
                    .is_some()
            }
        });
        tokio::task::yield_now().await;
        assert!(
            budget.reserve(MiB(10), Duration::ZERO).await.is_none(),
            "the large one came first"
        );
        drop(held);
        assert!(large.await.expect("no panic"));
    }
}
