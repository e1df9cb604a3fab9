//! The room for heads that come in pieces. A head within the buffer that each connection has anyway is free; what is beyond that
//! comes out of one room for all connections together, of which one address may have half. Otherwise thousands of connections could
//! each hold `max_header_kb` for half a minute.

use crate::crowd::network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a head that cost nothing: those of the buffer which hyper makes for a connection.
const FREE: u64 = 8 << 10;

/// Bytes beyond that of all connections together: five hundred of the longest heads that the default of `max_header_kb` allows.
const ALL: u64 = 32 << 20;

/// The bytes in use.
#[derive(Default)]
pub(crate) struct Heads(Mutex<Used>);

#[derive(Default)]
struct Used {
    all: u64,
    of: HashMap<IpAddr, u64>,
}

/// The head that one connection receives.
pub(crate) struct Head {
    heads: Arc<Heads>,
    /// Whose room it takes; `None`: the operator's, who takes none.
    from: Option<IpAddr>,
    bytes: AtomicU64,
}

impl Head {
    /// None yet, of somebody at this address.
    pub(crate) fn new(heads: Arc<Heads>, from: Option<IpAddr>) -> Self {
        Self {
            heads,
            from: from.map(network),
            bytes: AtomicU64::new(0),
        }
    }

    /// `bytes` more came; false when there is no room for them. Only one task uses it.
    pub(crate) fn grow(&self, bytes: u64) -> bool {
        let before = self.bytes.load(Ordering::Relaxed);
        let after = before + bytes;
        self.bytes.store(after, Ordering::Relaxed);
        let more = beyond(after) - beyond(before);
        let Some(from) = self.from.filter(|_| more > 0) else {
            return true;
        };
        let mut used = self.heads.used();
        used.all += more;
        let of = used.of.entry(from).or_default();
        *of += more;
        *of <= ALL / 2 && used.all <= ALL
    }

    /// It is there whole, or nobody waits for it.
    pub(crate) fn forget(&self) {
        let bytes = beyond(self.bytes.swap(0, Ordering::Relaxed));
        let Some(from) = self.from.filter(|_| bytes > 0) else {
            return;
        };
        let mut used = self.heads.used();
        used.all -= bytes;
        if let Some(of) = used.of.get_mut(&from) {
            *of -= bytes;
            if *of == 0 {
                used.of.remove(&from);
            }
        }
    }

    /// A part of it is there.
    pub(crate) fn has_begun(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Heads {
    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of the `bytes` of a head aren't free.
fn beyond(bytes: u64) -> u64 {
    bytes.saturating_sub(FREE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_share_one_room_and_give_it_back() {
        let heads = Arc::new(Heads::default());
        let of = |last: u8| Head::new(Arc::clone(&heads), Some(IpAddr::from([10, 0, 0, last])));
        let small: Vec<Head> = (0..100).map(|_| of(1)).collect();
        assert!(small.iter().all(|head| head.grow(FREE)));
        let large = of(1);
        assert!(
            large.grow(FREE / 2) && large.grow(FREE / 2 + ALL / 2),
            "half of the room"
        );
        assert!(!small[0].grow(1), "one byte beyond it");
        let other = of(2);
        assert!(other.grow(FREE + ALL / 2 - 1), "the other half");
        assert!(!of(3).grow(FREE + 1), "all of it");
        assert!(
            Head::new(Arc::clone(&heads), None).grow(ALL),
            "the operator's"
        );
        large.forget();
        assert!(of(3).grow(FREE + ALL / 4));
        drop((small, large, other));
        let used = heads.used();
        assert_eq!((used.all, used.of.len()), (0, 0));
    }
}
