//! What may be asked of a [`Pool`](crate::Pool): the words for a sandbox that is to be made, the same for every kind.

use crate::budget::Hold;
use ol_model::{Limits, OomScope};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A sandbox's number, never used twice in a run of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SandboxId(pub u64);

/// A directory on this host that a sandbox sees and can't change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Its number, which is its name beneath the directory of code: for kinds that know that directory and are told no paths.
    pub number: u64,
    /// Where it is: for kinds that are told.
    pub path: Arc<Path>,
}

/// What of the package store lies at `/packages`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Packages {
    /// Nothing.
    #[default]
    None,
    /// The entries of the store that have the names of the empty directories in this one: of `NAME` its `files`, and of one that
    /// begins with a dot all.
    Named(Folder),
    /// All of it.
    All,
}

/// How a sandbox reaches a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Not at all: loopback only.
    #[default]
    None,
    /// A network of its own with a way out, and to nothing private.
    Egress,
    /// That of this host. Only for [`Parent::Root`].
    Host,
    /// As [`Self::None`], and the worker gets a socket that listens inside, at 127.0.0.1:3128.
    Gate,
}

/// Which process a sandbox descends from.
#[derive(Clone, Debug, Default)]
pub enum Parent {
    /// None: its program is started anew in an empty shell.
    #[default]
    Root,
    /// A zygote, from which it is forked.
    Zygote(Ancestor),
}

/// A zygote as its children see it. While a child lives, its zygote's memory counts as used: they share it.
#[derive(Clone, Debug)]
pub struct Ancestor {
    /// Its number.
    pub id: SandboxId,
    /// Its memory.
    pub hold: Hold,
}

/// What a sandbox is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It serves calls.
    #[default]
    Leaf,
    /// It forks other sandboxes.
    Zygote {
        /// How many shells are kept ready for its leaves, at most.
        shells: u16,
    },
}

/// What to make.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// Whom it is forked from.
    pub parent: Parent,
    /// What it is for.
    pub role: Role,
    /// What is in it.
    pub content: Content,
    /// What its guest socket holds for it from the first instant; empty or at most [`LONGEST_OPENING`] bytes.
    pub opening: Vec<u8>,
}

/// So much fits a socket that nobody reads yet, in bytes.
pub const LONGEST_OPENING: usize = 64 << 10;

/// What of a sandbox can be settled when it is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What it may use; its memory is reserved from the budget for as long as it exists.
    pub limits: Limits,
    /// What dies when it runs out of memory.
    pub oom: OomScope,
    /// The code at `/handler`; nothing if `None`.
    pub code: Option<Folder>,
    /// What of the package store lies at `/packages`.
    pub packages: Packages,
    /// How it reaches a network. [`Network::Host`] and [`Network::Gate`] can't be assigned later, and zygotes have [`Network::None`].
    pub network: Network,
    /// How long to wait for memory before giving up.
    pub patience: Duration,
}
