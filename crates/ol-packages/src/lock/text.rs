//! Locks as requirements files: what resolvers write and installers read.

use std::fmt::Write;

use super::{Lock, LockError, LockTarget, MAX_PINS};
use crate::pin::Pin;
use crate::requirements::lines::{self, Bounds};

/// Bounds of a compiled file. A release of NumPy has 60 files; 1,000 packages won't have more hashes than fit into these lines.
const BOUNDS: Bounds = Bounds {
    bytes: 8 << 20,
    lines: 200_000,
    entries: MAX_PINS,
};

impl Lock {
    /// Reads the output of `uv pip compile --generate-hashes` or `pip-compile`.
    ///
    /// Extras and markers are dropped: the packages that extras need are listed, and markers were already evaluated for `target`.
    ///
    /// # Errors
    /// When a line isn't understood, pinned or hashed, or names a package again in another version.
    pub fn parse_compiled(text: &[u8], target: LockTarget) -> Result<Self, LockError> {
        let mut pins = Vec::new();
        for entry in lines::entries(text, &BOUNDS)? {
            let Some(version) = entry.exact() else {
                return Err(LockError::Unpinned(entry.name().to_string()));
            };
            let hashes = entry.hashes().copied().collect();
            pins.push(Pin::new(entry.name().clone(), version.clone(), hashes));
        }
        Self::new(target, pins)
    }

    /// What `uv pip install --require-hashes -r` takes.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for pin in self.pins() {
            text.push_str(&requirement(pin));
        }
        text
    }
}

/// One package as a requirements file, for an installer that installs only this one.
#[must_use]
pub fn requirement(pin: &Pin) -> String {
    let mut text = pin.to_string();
    for hash in pin.hashes() {
        // Writing to a string can't fail.
        let _ = write!(text, " \\\n    --hash=sha256:{hash}");
    }
    text.push('\n');
    text
}
