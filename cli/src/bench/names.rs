//! Chooses the function that is called next.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The functions that a benchmark calls.
pub(super) enum Names {
    /// Random ones: `prefix` with a number from 0 to `functions` - 1.
    Random {
        prefix: &'static str,
        functions: u32,
    },
    /// One after the other, starting over at the end.
    InTurn(Vec<String>, AtomicUsize),
}

impl Names {
    pub(super) fn next(&self, random: &mut Random) -> Cow<'_, str> {
        match self {
            Self::Random { prefix, functions } => {
                Cow::Owned(format!("{prefix}{}", random.below(*functions)))
            }
            Self::InTurn(names, turn) => {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                Cow::Borrowed(&names[turn % names.len()])
            }
        }
    }
}

/// SplitMix64: random enough for this choice, and the same in each run.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = (mixed ^ (mixed >> 31)) >> 32;
        u32::try_from((high * u64::from(bound)) >> 32).expect("below 2³², as `high` is")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_is_called_about_as_often() {
        let mut counts = [0_u32; 64];
        let mut random = Random(7);
        for _ in 0..64_000 {
            counts[random.below(64) as usize] += 1;
        }
        assert!(counts.iter().all(|n| (800..1200).contains(n)), "{counts:?}");
    }

    #[test]
    fn a_trace_begins_again_at_its_end() {
        let names = Names::InTurn(vec!["a".to_owned(), "b".to_owned()], AtomicUsize::new(0));
        let mut random = Random(0);
        let called: Vec<_> = (0..5).map(|_| names.next(&mut random)).collect();
        assert_eq!(called, ["a", "b", "a", "b", "a"]);
    }
}
