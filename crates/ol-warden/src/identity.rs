//! What differs between the shell of a leaf and that of a zygote: the uids inside, and the first process's number.

use crate::rootfs::{INNER_KEEPER, INNER_LEAF};
use crate::uids::Pair;

/// The process number of a zygote at depth 0; a zygote at depth N has this plus N, and a leaf has 2.
///
/// Thus no process has, in its own pid namespace, the number that one of its ancestors had in theirs. OpenSSL notices a fork by
/// the changed process number; a child with its zygote's number would continue the zygote's random stream, and so would its
/// siblings.
const FIRST_ZYGOTE: i32 = 1000;

/// The deepest zygote: the kernel nests user namespaces 32 deep, and a leaf below it needs one too.
pub(crate) const DEEPEST: u32 = 30;

/// Whether a shell is for a leaf or for a zygote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ShellKind {
    /// A leaf. Inside, it has uid 1000, and only its own uid and the keeper's exist.
    Leaf,
    /// A zygote at this depth (0 if it was not forked). Inside, all uids of the worker's block exist, with the same numbers as on the
    /// host.
    Zygote { depth: u32 },
}

/// The uids of a shell's keeper and occupant (its leaf or zygote).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShellIdentity {
    pub kind: ShellKind,
    /// Their uids on the host.
    pub pair: Pair,
    /// The worker's block: its first uid, and how many.
    pub block: (u32, u32),
}

impl ShellIdentity {
    /// The uid of the leaf or zygote, as seen inside.
    pub fn tenant(&self) -> u32 {
        match self.kind {
            ShellKind::Leaf => INNER_LEAF,
            ShellKind::Zygote { .. } => self.pair.leaf,
        }
    }

    /// The uid of the keeper, as seen inside.
    pub fn keeper(&self) -> u32 {
        match self.kind {
            ShellKind::Leaf => INNER_KEEPER,
            ShellKind::Zygote { .. } => self.pair.keeper,
        }
    }

    /// The content of `uid_map` and `gid_map` (user_namespaces(7)). At every depth, the outer uids are the same as on the host.
    pub fn map(&self) -> String {
        let Pair { leaf, keeper } = self.pair;
        let (first, count) = self.block;
        match self.kind {
            ShellKind::Leaf => format!("{INNER_LEAF} {leaf} 1\n{INNER_KEEPER} {keeper} 1\n"),
            ShellKind::Zygote { .. } => format!("{first} {first} {count}\n"),
        }
    }
}

impl ShellKind {
    /// The process number that the occupant must have inside; `None` if any number will do.
    pub fn number(self) -> Option<i32> {
        match self {
            Self::Leaf => None,
            Self::Zygote { depth } => {
                Some(FIRST_ZYGOTE.saturating_add(i32::try_from(depth).unwrap_or(i32::MAX)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_comes_twice_from_the_root_to_a_leaf() {
        let mut numbers: Vec<i32> = (0..=DEEPEST)
            .filter_map(|depth| ShellKind::Zygote { depth }.number())
            .collect();
        numbers.push(2);
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }
}
