//! Limits how much may be under way at once, for each sandbox and for all together. Sandboxes are told apart by their address, which the
//! router guarantees.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the turns that are taken, of each sandbox and of all.
#[derive(Clone)]
pub(super) struct TurnCounts(Arc<Counts>);

struct Counts {
    each: usize,
    all: usize,
    of: Mutex<HashMap<IpAddr, usize>>,
}

/// The right to have one question or connection under way, until dropped.
pub(super) struct Turn {
    counts: Arc<Counts>,
    whose: IpAddr,
}

impl TurnCounts {
    pub fn new(each: usize, all: usize) -> Self {
        let of = Mutex::default();
        Self(Arc::new(Counts { each, all, of }))
    }

    /// A turn for the sandbox at `whose`; `None` if that sandbox, or all together, have too many already.
    pub fn take(&self, whose: IpAddr) -> Option<Turn> {
        let mut of = self.0.lock();
        let all: usize = of.values().sum();
        let count = of.get(&whose).copied().unwrap_or(0);
        if all >= self.0.all || count >= self.0.each {
            return None;
        }
        of.insert(whose, count + 1);
        drop(of);
        let counts = Arc::clone(&self.0);
        Some(Turn { counts, whose })
    }
}

impl Counts {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut of = self.counts.lock();
        match of.get_mut(&self.whose) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(of.remove(&self.whose)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_asks_much_leaves_room_for_others() {
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let turns = TurnCounts::new(2, 3);
        let held = [turns.take(a), turns.take(a)];
        assert!(held.iter().all(Option::is_some));
        assert!(turns.take(a).is_none(), "it has two");
        let other = turns.take(b);
        assert!(other.is_some(), "another has its own");
        assert!(turns.take(c).is_none(), "all have three");
        drop(held);
        assert!(turns.take(c).is_some());
        drop(other);
        assert!(
            turns.0.lock().is_empty(),
            "nothing is remembered of who left"
        );
    }
}
