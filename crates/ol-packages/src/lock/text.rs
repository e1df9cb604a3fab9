//! Locks as requirements files: what resolvers write and installers read.

use std::fmt::Write;

use super::{Lock, LockError, MAX_PINS, Target};
use crate::pin::Pin;
use crate::requirements::lines::{self, Bounds};

/// A release of NumPy has 60 files, so 1,000 packages can't have much more.
const BOUNDS: Bounds = Bounds {
    bytes: 8 << 20,
    lines: 200_000,
    entries: MAX_PINS,
};

impl Lock {
    /// Reads what `uv pip compile --generate-hashes` writes, or `pip-compile`. Extras and markers are dropped: what they
    /// led to is listed, and `target` is what they were judged for.
    ///
    /// # Errors
    /// When a line isn't understood, or isn't pinned or hashed, or names a package again in another version.
    pub fn parse_compiled(text: &[u8], target: Target) -> Result<Self, LockError> {
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

/// One package of a lock, for an installer that installs it alone.
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
