//! Where functions come from: bundles by name, each with a stamp that tells it from the next.
//!
//! ```text
//!   POST ── put ──►  registry  ◄── people and scripts, directly
//!                       │ look: has it changed?     ◄── announced, by a registry that hears of it
//!                       │ read: this very bundle, and its stamp
//!                       ▼
//!              ol_archive::extract ──► a fresh directory, or an error that names the member
//! ```
//!
//! - [`door`]: what every registry offers
//! - [`folder`]: the one that is a flat folder of `NAME.tar.gz`
//! - `error`: why one can't do what it is asked
//!
//! Failure paths: a bundle that can't be used leaves the version before it in service. A worker killed during a put leaves the old
//! bundle, whole.

pub mod door;
pub mod folder;

mod error;

pub use door::{Announce, Bundle, Content, Pending, Registry, Stamp};
pub use error::RegistryError;
pub use folder::FolderRegistry;
