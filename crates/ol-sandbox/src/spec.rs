//! What may be asked of a [`Pool`](crate::Pool): the description of a sandbox that is to be made, the same for every kind.

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
    /// The folder's name in the worker's directory of code; for kinds of sandbox that know that directory and are given no paths.
    pub number: u64,
    /// The folder's path; for kinds of sandbox that are given paths.
    pub path: Arc<Path>,
}

/// What of the package store lies at `/packages`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Packages {
    /// Nothing.
    #[default]
    None,
    /// The store's entries that are named by the empty directories in this folder: of an entry `NAME` only its `files`, of an entry whose
    /// name begins with a dot everything.
    Named(Folder),
    /// The whole store.
    All,
}

/// How a sandbox reaches a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// No network but loopback.
    #[default]
    None,
    /// A network of its own, from which it reaches public addresses but no private ones.
    Egress,
    /// The network of this host. Only for sandboxes with [`Parent::Root`].
    Host,
    /// As [`Self::None`], but the worker gets a socket that listens inside the sandbox, at 127.0.0.1:3128.
    Gate,
}

/// Which process a sandbox descends from.
#[derive(Clone, Debug, Default)]
pub enum Parent {
    /// No sandbox: its program is started anew in an empty shell.
    #[default]
    Root,
    /// A zygote, from which it is forked.
    Zygote(Ancestor),
}

/// A zygote as its children see it. While a child lives, its zygote's memory stays reserved, because they share pages.
#[derive(Clone, Debug)]
pub struct Ancestor {
    /// The zygote's number.
    pub id: SandboxId,
    /// The zygote's memory.
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

/// Describes a sandbox to make.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// What the sandbox is forked from.
    pub parent: Parent,
    /// What the sandbox is for.
    pub role: Role,
    /// What the sandbox contains and may use.
    pub content: Content,
    /// Bytes that the guest finds in its socket when it starts; at most [`LONGEST_OPENING`].
    pub opening: Vec<u8>,
}

/// How many bytes fit into a socket that nobody reads yet.
pub const LONGEST_OPENING: usize = 64 << 10;

/// What can also be set when the sandbox exists already, by [`Pool::assign`](crate::Pool::assign).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What the sandbox may use; its memory is reserved from the budget for as long as the sandbox exists.
    pub limits: Limits,
    /// What is killed when the sandbox runs out of memory.
    pub oom: OomScope,
    /// The code at `/handler`; no code if `None`.
    pub code: Option<Folder>,
    /// What of the package store lies at `/packages`.
    pub packages: Packages,
    /// The sandbox's network. [`Network::Host`] and [`Network::Gate`] can't be assigned later, and zygotes have [`Network::None`].
    pub network: Network,
    /// How long to wait for the budget to have the memory.
    pub patience: Duration,
}
