//! What differs between the shell of a leaf and that of a zygote: who is who inside, and which number comes next.

use crate::rootfs::{INNER_KEEPER, INNER_LEAF};
use crate::uids::Pair;

/// A zygote runs under the number 1000 + its depth, a leaf under 2: no process has the number of one that it descends from, as each
/// saw itself. OpenSSL tells a fork by the number; a child with its zygote's number would go on with its random stream,
/// and so would its siblings.
const FIRST_ZYGOTE: i32 = 1000;

/// The deepest zygote: the kernel nests user namespaces 32 deep, and a leaf below it needs one too.
pub(crate) const DEEPEST: u32 = 30;

/// For whom a shell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ShellKind {
    /// A leaf: it knows itself as user 1000, and no uid beside its own and the keeper's exists for it.
    Leaf,
    /// A zygote at this depth (0: forked from none). All uids of the worker's block exist, under the numbers that the host has for them.
    Zygote { depth: u32 },
}

/// A shell's inhabitants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShellIdentity {
    pub kind: ShellKind,
    /// Their uids on the host.
    pub pair: Pair,
    /// The worker's block: its first uid, and how many.
    pub block: (u32, u32),
}

impl ShellIdentity {
    /// The uid of the leaf or zygote as it sees it.
    pub fn tenant(&self) -> u32 {
        match self.kind {
            ShellKind::Leaf => INNER_LEAF,
            ShellKind::Zygote { .. } => self.pair.leaf,
        }
    }

    /// The uid of the keeper as it sees it.
    pub fn keeper(&self) -> u32 {
        match self.kind {
            ShellKind::Leaf => INNER_KEEPER,
            ShellKind::Zygote { .. } => self.pair.keeper,
        }
    }

    /// The content of `uid_map` and `gid_map` (user_namespaces(7)). Uids outside are those of the host at every depth.
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
    /// The process number that the inhabitant must have inside; any will do if `None`.
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
