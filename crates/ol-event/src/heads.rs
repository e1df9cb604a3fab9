//! Bounds the memory for heads that arrive in pieces.
//!
//! A head that fits into the buffer that each connection has anyway isn't counted. What is longer is counted against one limit for
//! all connections together, of which one address may use half. Otherwise thousands of connections could each hold `max_header_kb`
//! for half a minute.

use crate::crowd::network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a head that aren't counted: they fit into the buffer that hyper makes for each connection.
const FREE: u64 = 8 << 10;

/// The limit on bytes beyond [`FREE`] for all connections together: 500 of the longest heads that the default `max_header_kb` allows.
const ALL: u64 = 32 << 20;

/// The counted bytes of all heads that are arriving.
#[derive(Default)]
pub(crate) struct Heads(Mutex<Used>);

#[derive(Default)]
struct Used {
    all: u64,
    of: HashMap<IpAddr, u64>,
}

/// The head that one connection is receiving.
pub(crate) struct Head {
    heads: Arc<Heads>,
    /// The address that the bytes are counted for; `None` for the operator's socket, whose heads aren't counted.
    from: Option<IpAddr>,
    bytes: AtomicU64,
}

impl Head {
    /// A head of which nothing has arrived, from a client at this address.
    pub(crate) fn new(heads: Arc<Heads>, from: Option<IpAddr>) -> Self {
        Self {
            heads,
            from: from.map(network),
            bytes: AtomicU64::new(0),
        }
    }

    /// Counts `bytes` more of the head; false when a limit is exceeded. Only the connection's own task calls this.
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

    /// Stops counting this head: it has arrived whole, or isn't waited for any more.
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

    /// Has a part of the head arrived?
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

/// How many of the `bytes` of a head are counted.
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
