//! What a function asks for: `requirements.txt`, `requirements.in`, or the dependencies in `pyproject.toml`.
//!
//! ```text
//!   bytes ─▶ lines (comments, continuations) ─▶ entry (name, extras, versions; hashes) ─┐
//!                                                └ marker                               ├▶ Requirements ─▶ render, digest
//!   bytes ─▶ pyproject ────────────────────────▶ entry ─────────────────────────────────┘
//! ```
//!
//! Only what can be answered by the index is accepted. Everything else (options, URLs, paths, environment variables) is a [`Fault`]; the
//! error names the construct, its line and a remedy.
//!
//! The PEP 508 grammar is implemented here; versions are parsed by `pep440_rs`. `pep508_rs` was tried: a marker of 630 bytes takes it
//! seconds, twice as long for each 35 bytes more; 4,000 parentheses end the process; and it keeps every marker that it ever saw. These
//! files are written by strangers.

mod entry;
mod fault;
pub(crate) mod lines;
mod marker;
mod pyproject;
#[cfg(test)]
mod tests;

pub use entry::Requirement;
pub use fault::{Fault, RequirementsError};

use std::fmt::Write;

use crate::pin::Sha256;
use lines::Bounds;

/// The limits of a function's file.
const BOUNDS: Bounds = Bounds {
    bytes: 1 << 20,
    lines: 50_000,
    entries: 1_000,
};

/// A function's requirements, sorted and without repeats. Contradictions between them are left to the resolver to report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements(Vec<Requirement>);

impl Requirements {
    /// Reads a `requirements.txt` or `requirements.in` of at most 1 MiB, 50,000 lines and 1,000 requirements.
    ///
    /// # Errors
    /// At the first line that isn't understood.
    pub fn parse(file: &[u8]) -> Result<Self, RequirementsError> {
        Ok(Self::new(lines::entries(file, &BOUNDS)?))
    }

    /// Reads `[project] dependencies` of a `pyproject.toml`, within the same limits; without that table the result is empty.
    ///
    /// # Errors
    /// When it isn't valid TOML, or at the first dependency that isn't understood.
    pub fn parse_pyproject(file: &[u8]) -> Result<Self, RequirementsError> {
        Ok(Self::new(pyproject::entries(file, &BOUNDS)?))
    }

    fn new(mut entries: Vec<Requirement>) -> Self {
        entries.sort_unstable();
        entries.dedup();
        Self(entries)
    }

    /// The requirements, sorted by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Requirement> {
        self.0.iter()
    }

    /// Whether there are no requirements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every requirement names one exact version with `==`. They may still depend on packages that aren't listed.
    #[must_use]
    pub fn all_pinned(&self) -> bool {
        self.0.iter().all(|entry| entry.exact().is_some())
    }

    /// One requirement per line, each followed by its hashes, for `uv pip compile` and other readers of requirements.txt.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for entry in &self.0 {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{entry}");
        }
        text
    }

    /// A hash of the requirements that doesn't depend on their order, spelling or comments.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.render().as_bytes())
    }
}

impl<'a> IntoIterator for &'a Requirements {
    type Item = &'a Requirement;
    type IntoIter = std::slice::Iter<'a, Requirement>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
