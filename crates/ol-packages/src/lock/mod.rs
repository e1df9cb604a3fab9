//! Resolved requirements: exact versions and hashes, for one Python and one platform.
//!
//! ```text
//!   uv pip compile --generate-hashes ─▶ text ──▶ Lock ──▶ text    for `uv pip install --require-hashes -r`
//!   pip install --report -           ─▶ report ─▶ │  ◀──▶ stored   JSON, kept with a version of a function
//! ```
//!
//! A lock holds each package once, with its hashes, thus the same files are installed wherever and whenever it is used.

mod error;
mod report;
mod stored;
#[cfg(test)]
mod tests;
mod text;

pub use error::LockError;
pub use text::requirement;

use std::collections::BTreeMap;
use std::fmt;

use crate::pin::Pin;

/// The most packages in one lock.
const MAX_PINS: usize = 1_000;

/// The Python and platform that a lock was made for. Others may need other packages and other archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockTarget {
    python: String,
    platform: String,
}

impl LockTarget {
    /// `python` is like `3.11`; `platform` is spelled as in wheel names, like `linux_x86_64`.
    ///
    /// # Errors
    /// When `python` isn't `MAJOR.MINOR`, or `platform` holds anything but 1 to 64 letters, digits, `_`, `-` and `.`.
    pub fn new(python: &str, platform: &str) -> Result<Self, LockError> {
        let wrong = || LockError::Target(format!("{python:.20} on {platform:.80}"));
        let number = |part: &str| {
            (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        let (major, minor) = python.split_once('.').ok_or_else(wrong)?;
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let named = (1..=64).contains(&platform.len()) && platform.bytes().all(sound);
        if !(number(major) && number(minor) && named) {
            return Err(wrong());
        }
        Ok(Self {
            python: python.to_owned(),
            platform: platform.to_owned(),
        })
    }

    /// `MAJOR.MINOR` of the Python.
    #[must_use]
    pub fn python(&self) -> &str {
        &self.python
    }

    /// The platform.
    #[must_use]
    pub fn platform(&self) -> &str {
        &self.platform
    }
}

/// `Python 3.11 on linux_x86_64`
impl fmt::Display for LockTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Python {} on {}", self.python, self.platform)
    }
}

/// A function's packages, each once, sorted by name, each with at least one hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    target: LockTarget,
    pins: Vec<Pin>,
}

impl Lock {
    /// A lock of `pins`, in any order.
    ///
    /// # Errors
    /// When a package occurs in two versions or without a hash, or there are over 1,000.
    pub fn new(target: LockTarget, pins: impl IntoIterator<Item = Pin>) -> Result<Self, LockError> {
        let mut names = BTreeMap::<_, Pin>::new();
        for pin in pins {
            if pin.hashes().is_empty() {
                return Err(LockError::Unhashed(pin.to_string()));
            }
            match names.get(pin.name()) {
                Some(other) if *other != pin => {
                    return Err(LockError::Twice(other.to_string(), pin.to_string()));
                }
                _ => names.insert(pin.name().clone(), pin),
            };
            if names.len() > MAX_PINS {
                return Err(LockError::Many(MAX_PINS));
            }
        }
        Ok(Self {
            target,
            pins: names.into_values().collect(),
        })
    }

    /// The Python and platform that it was made for.
    #[must_use]
    pub fn target(&self) -> &LockTarget {
        &self.target
    }

    /// The packages.
    #[must_use]
    pub fn pins(&self) -> &[Pin] {
        &self.pins
    }
}
