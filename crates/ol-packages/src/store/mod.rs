//! Installed packages: `FOLDER/NAME==VERSION/files/…`, each complete or absent, shared by all who lease it.
//!
//! ```text
//!   Partial ── fill (untar, read-only, synced) ─▶ Filled ── commit (rename, synced) ─▶ NAME==VERSION ◀── PackageLease
//!      │ .partial-…, mode 0700                       │                                     │ remove, collect
//!      ▼ dropped, failed, or found by open           ▼                                     ▼ not leased: renamed away
//!    removed                                       removed                              .removed-…, then deleted
//! ```
//!
//! - `folder`: [`Store`], the entry point
//! - `flight`: one caller installs, however many ask
//! - `partial`: the phases of a package that isn't visible yet; each removes what it made unless the next phase takes over
//! - `seal`: sets modes of all unpacked files and syncs them
//! - `record`: how large a package is and its hashes, stored beside its files
//! - `interpreter`: for which Python the packages were installed
//! - `lease`: who uses which package, and when it was last used
//! - `remove`: removes one package, the oldest ones, and what a crash left
//!
//! All functions that aren't `async` block on the disk. Only the worker may write to the folder; sandboxes read it. Two workers must not
//! share a store; a second program may use it, as each holds a lock on its partial packages.

mod error;
mod flight;
mod folder;
mod interpreter;
mod lease;
mod partial;
mod record;
mod remove;
mod seal;
#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use folder::{Installed, Store, StoreLimits};
pub use lease::PackageLease;
pub use partial::{Filled, Partial};
