//! Isolation behind one door: a [`Pool`] makes sandboxes, a sandbox is paused, resumed and destroyed.
//!
//! ```text
//!   Pool::create(spec) ──▶ Running ──pause──▶ Paused
//!                             ▲                  │
//!                             └────unpause───────┘      either, dropped or destroyed ──▶ gone, memory given back
//! ```
//!
//! - [`pool`]: the door, and what to ask for
//! - [`lifecycle`]: the two states as two types, so that what a paused sandbox can't do doesn't compile
//! - [`budget`]: the memory that all sandboxes share
//! - [`line`]: one end of a local socket, as guests and the warden speak by
//! - [`sock`]: the SOCK kind, made by the warden
//!
//! Failure: a sandbox may die at any moment; its owner learns it from [`lifecycle::Obituary`], keeps the value, and drops
//! it when done. If the warden dies, every pending creation fails and [`sock::SockPool::warden_gone`] resolves.

pub mod budget;
pub mod lifecycle;
pub mod line;
pub mod pool;
pub mod sock;

pub use lifecycle::{Allotment, Death, Obituary, Paused, Running};
pub use line::Line;
pub use ol_warden::protocol::{CodeId, Network, Packages, SandboxId};
pub use pool::{
    Ancestor, Content, CreateError, Created, LONGEST_OPENING, Parent, Pool, Role, SandboxSpec,
};
