//! Where functions come from: a flat folder of `NAME.tar.gz`, and the one way a bundle becomes files.
//!
//! ```text
//!   POST ── put ──►  registry/NAME.tar.gz  ◄── people and scripts, directly
//!                          │ look: has it changed?      (one stat, no lock)
//!                          │ fetch: this very version   (an opened file and its stamp)
//!                          ▼
//!                       extract ──► a fresh directory, or an error that names the member
//! ```
//!
//! - `store`: the folder. Puts and deletes are atomic and durable; nobody else has to play along.
//! - `stamp`: what tells one stored bundle from the next.
//! - `extract`: gunzip, untar and write, within [`ExtractLimits`].
//!   Reading: `gauge` (how much may come out), `extension` (long names), `member` (what a header
//!   may say). Writing: `tree` (nothing lands outside the directory). Saying no: `refusal`.
//!
//! Failure paths: a bundle that can't be used is an [`ExtractError`] that blames the bundle
//! ([`ExtractError::is_the_bundles_fault`]) or the host; either way the caller removes the directory and keeps
//! the version before it. A worker killed during a put leaves the old bundle and a staging file,
//! which no other call sees and the next [`Registry::open`] removes.

mod extension;
mod extract;
mod gauge;
mod member;
mod refusal;
mod stamp;
mod store;
mod tree;

#[cfg(test)]
mod tests;

pub use extract::{ExtractLimits, Extracted, extract};
pub use refusal::{ExtractError, Refusal};
pub use stamp::Stamp;
pub use store::{Registry, RegistryError};
