//! Where functions come from: a registry has bundles by name, each with a stamp that tells it from the next.
//!
//! ```text
//!   POST ── put ──►  registry  ◄── people and scripts, directly
//!                       │ look: has it changed?     ◄── announced, by a registry that learns of changes
//!                       │ read: this very bundle, and its stamp
//!                       ▼
//!              ol_archive::extract ──► a fresh directory, or an error that names the member
//! ```
//!
//! - [`door`]: the interface of every registry
//! - [`folder`]: a registry that is a flat folder of `NAME.tar.gz`
//! - `error`: why a registry can't do what it is asked
//!
//! Failures: if a bundle can't be used, the previous version stays in service. If a worker is killed during a put, the old
//! bundle is there, whole.

pub mod door;
pub mod folder;

mod error;

pub use door::{Announce, Bundle, Content, Pending, Registry, Stamp};
pub use error::RegistryError;
pub use folder::FolderRegistry;
