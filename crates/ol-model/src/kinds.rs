//! Counters for `/metrics`: how sandboxes were started, and what served calls. Every layer can count without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a sandbox was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartKind {
    /// A new interpreter was started.
    Fresh,
    /// Forked from a zygote.
    Fork,
    /// A blank, forked ahead, was given the function.
    Blank,
}

/// What served a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedBy {
    /// An instance that was started while the call waited, and had served no call before.
    Start(StartKind),
    /// A frozen instance, which was thawed.
    Resume,
    /// A running instance.
    Warm,
}

static STARTS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static SERVED: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

impl StartKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fresh, Self::Fork, Self::Blank];

    /// Its word in `/metrics` and `X-OL-Timing`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Fork => "fork",
            Self::Blank => "blank",
        }
    }

    /// Counts one sandbox that was started in this way.
    pub fn count(self) {
        STARTS[self as usize].fetch_add(1, Relaxed);
    }

    /// How many sandboxes were started in this way.
    #[must_use]
    pub fn counted(self) -> u64 {
        STARTS[self as usize].load(Relaxed)
    }
}

impl ServedBy {
    /// All of them, each at its [`Self::place`].
    pub const ALL: [Self; 5] = [
        Self::Start(StartKind::Fresh),
        Self::Start(StartKind::Fork),
        Self::Start(StartKind::Blank),
        Self::Resume,
        Self::Warm,
    ];

    /// Its word in `/metrics` and `X-OL-Timing`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Start(kind) => kind.word(),
            Self::Resume => "resume",
            Self::Warm => "warm",
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Start(kind) => kind as usize,
            Self::Resume => 3,
            Self::Warm => 4,
        }
    }

    /// Counts one call that was served in this way.
    pub fn count(self) {
        SERVED[self.place()].fetch_add(1, Relaxed);
    }

    /// How many calls were served in this way.
    #[must_use]
    pub fn counted(self) -> u64 {
        SERVED[self.place()].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_in_its_own_place() {
        for (place, kind) in ServedBy::ALL.into_iter().enumerate() {
            assert_eq!(kind.place(), place, "{kind:?}");
        }
        for (place, kind) in StartKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind:?}");
        }
    }
}
