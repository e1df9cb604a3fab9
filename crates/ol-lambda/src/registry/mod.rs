//! Where functions come from: a flat folder of `NAME.tar.gz`.
//!
//! ```text
//!   POST ── put ──►  registry/NAME.tar.gz  ◄── people and scripts, directly
//!                          │ look: has it changed?      (one stat, no lock)
//!                          │ fetch: this very version   (an opened file and its stamp)
//!                          ▼
//!                 ol_archive::extract ──► a fresh directory, or an error that names the member
//! ```
//!
//! - `store`: the folder. Puts and deletes are atomic and durable; nobody else has to play along.
//! - `before`: what served before a bundle that has not shown yet that it works
//! - `stamp`: what tells one stored bundle from the next.
//!
//! Failure paths: a bundle that can't be used leaves the version before it in service. A worker killed during a put leaves the old bundle and a staging file,
//! which no other call sees and the next [`Registry::open`] removes.

mod before;
mod stamp;
mod store;

#[cfg(test)]
mod tests;

pub use stamp::Stamp;
pub use store::{Registry, RegistryError};
