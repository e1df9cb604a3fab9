//! Installed packages: `FOLDER/NAME==VERSION/files/…`, each whole or not there, shared by all who lease it.
//!
//! ```text
//!   Partial ── fill (untar, read-only, synced) ─▶ Filled ── commit (rename, synced) ─▶ NAME==VERSION ◀── Lease
//!      │ .partial-…, mode 0700                       │                                     │ remove, collect
//!      ▼ dropped, failed, or found by open           ▼                                     ▼ nobody's: renamed away
//!    removed                                       removed                              .removed-…, then deleted
//! ```
//!
//! - `folder`: [`Store`], the door: what is there
//! - `flight`: one installs, however many ask
//! - `partial`: phases of a package that is not visible yet, each removing what it made unless the next takes over
//! - `seal`: modes and fsync of all that was unpacked
//! - `record`: how large a package is, kept beside its files
//! - `interpreter`: for which Python they were installed
//! - `lease`: who uses what, and when a package was last used
//! - `remove`: removing one, the oldest, and what a crash left
//!
//! Everything that isn't `async` blocks on the disk. The folder is the worker's: nobody else may write there, while
//! sandboxes read it. Two workers must not share one; a second program may, as each holds a lock on its partials.

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
pub use lease::Lease;
pub use partial::{Filled, Partial};
