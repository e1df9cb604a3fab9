//! How sandboxes began and by what calls were served: what `/metrics` counts by kind, without a lock from any layer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a sandbox began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartKind {
    /// A new interpreter was run.
    Fresh,
    /// Forked from a zygote.
    Fork,
    /// It stood ready already, knowing nothing of any function.
    Blank,
}

/// What served a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedBy {
    /// An instance that was started meanwhile, and had served nobody.
    Start(StartKind),
    /// A frozen one, thawed.
    Resume,
    /// A running one.
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

    /// Notes that a sandbox began so.
    pub fn count(self) {
        STARTS[self as usize].fetch_add(1, Relaxed);
    }

    /// How many began so.
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

    /// Notes that a call was served so.
    pub fn count(self) {
        SERVED[self.place()].fetch_add(1, Relaxed);
    }

    /// How many were.
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
