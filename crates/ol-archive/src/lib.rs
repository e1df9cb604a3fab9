//! The one way an archive becomes files: functions' bundles (tar.gz) and packages (plain tar) alike.
//!
//! ```text
//!   extract (tar.gz) ─┐
//!                     ├─▶ gauge ─▶ extension ─▶ member ─▶ tree ─▶ a directory
//!   extract_tar ──────┘                                    or an error that names the member
//! ```
//!
//! - `extract`: gunzip, untar and write, within [`ExtractLimits`]
//! - reading: `gauge` (how much may come out), `extension` (long names), `member` (what a header may say)
//! - writing: `tree` (nothing lands outside the directory)
//! - refusing: `refusal`
//! - packing: [`Beneath`] reads the directories to be packed
//!
//! Failure: an [`ExtractError`] says whether the archive ([`ExtractError::is_the_bundles_fault`]) or the host is at fault; either way
//! what was written stays, for the caller to remove. Its sentences are for the person who packed a bundle.

mod beneath;
mod extension;
mod extract;
mod gauge;
mod limits;
mod member;
mod refusal;
mod tree;

#[cfg(test)]
mod tests;

pub use beneath::{Beneath, EntryKind, open_regular};
pub use extract::{Extracted, extract, extract_tar};
pub use limits::ExtractLimits;
pub use refusal::{ExtractError, Refusal};
