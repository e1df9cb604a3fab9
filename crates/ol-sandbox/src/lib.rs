//! Isolation behind one interface: a [`Pool`] makes sandboxes, and a sandbox can be paused, resumed and destroyed.
//!
//! ```text
//!   Pool::create(spec) ──▶ Running ──pause──▶ Paused
//!                             ▲                  │
//!                             └────unpause───────┘      either, dropped or destroyed ──▶ gone, memory given back
//! ```
//!
//! - [`pool`]: the interface that every kind of sandbox has
//! - [`spec`]: the description of a sandbox that is to be made
//! - [`lifecycle`]: the two states as two types, so that asking a paused sandbox for what it can't do doesn't compile
//! - [`budget`]: the memory that all sandboxes share
//! - [`line`]: one end of a local socket, by which the worker speaks with guests and the warden
//! - [`sock`]: the SOCK kind, made by the warden
//!
//! Failure: a sandbox may die at any moment; its owner learns that from [`lifecycle::Obituary`], keeps the [`Running`] or [`Paused`]
//! value, and drops it when done. If what makes the sandboxes (for SOCK: the warden) dies, every pending creation fails and
//! [`Pool::gone`] resolves.
//!
//! Another kind of sandbox would be a folder beside `sock/`, or a crate of its own: a [`Pool`], a [`Handle`] for each sandbox, and a line
//! of code where the worker is put together. `ol-sandbox-fake` is one, for tests.

pub mod budget;
pub mod lifecycle;
pub mod line;
pub mod pool;
pub mod sock;
pub mod spec;

pub use budget::Hold;
pub use lifecycle::{Allotment, Cause, Death, Handle, Obituary, Paused, Running};
pub use line::Line;
pub use pool::{Abilities, CreateError, Created, Egress, Pending, Pool};
pub use spec::{
    Ancestor, Content, Folder, LONGEST_OPENING, Network, Packages, Parent, Role, SandboxId,
    SandboxSpec,
};
