//! Isolation behind one door: a [`Pool`] makes sandboxes, a sandbox is paused, resumed and destroyed.
//!
//! ```text
//!   Pool::create(spec) ──▶ Running ──pause──▶ Paused
//!                             ▲                  │
//!                             └────unpause───────┘      either, dropped or destroyed ──▶ gone, memory given back
//! ```
//!
//! - [`pool`]: the door that every kind of sandbox has
//! - [`spec`]: what is asked for
//! - [`lifecycle`]: the two states as two types, so that what a paused sandbox can't do doesn't compile
//! - [`budget`]: the memory that all sandboxes share
//! - [`line`]: one end of a local socket, as guests and the warden speak by
//! - [`sock`]: the SOCK kind, made by the warden
//!
//! Failure: a sandbox may die at any moment; its owner learns it from [`lifecycle::Obituary`], keeps the value, and drops
//! it when done. If what makes sandboxes dies, every pending creation fails and [`Pool::gone`] resolves.
//!
//! Another kind is a folder beside `sock/`, or a crate of its own: a [`Pool`], a [`Handle`] for each sandbox, and a line where the worker
//! is put together. `ol-sandbox-fake` is one, for tests.

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
