//! Locks as JSON, as they are kept with a version of a function: read back exactly, or refused.

use serde::{Deserialize, Serialize};

use super::{Lock, LockError, LockTarget};
use crate::pin::{PackageName, Pin, Sha256, Version, shown};

/// The format that is written, and the newest that is read.
const FORMAT: u64 = 1;

const MAX_BYTES: usize = 16 << 20;

/// The part of a lock that is read first, to learn whether the rest can be understood.
#[derive(Deserialize)]
struct Head {
    format: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u64,
    python: String,
    platform: String,
    packages: Vec<Package>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: String,
    version: String,
    sha256: Vec<String>,
}

impl Lock {
    /// The lock as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let packages = self.pins().iter().map(|pin| Package {
            name: pin.name().to_string(),
            version: pin.version().to_string(),
            sha256: pin.hashes().iter().map(Sha256::to_string).collect(),
        });
        let stored = Stored {
            format: FORMAT,
            python: self.target().python().to_owned(),
            platform: self.target().platform().to_owned(),
            packages: packages.collect(),
        };
        serde_json::to_string_pretty(&stored).expect("texts and numbers make JSON")
    }

    /// Reads what [`Lock::to_json`] wrote.
    ///
    /// # Errors
    /// When its format is newer than this program, it is no lock, or names and versions aren't normalised, since `to_json` normalises them.
    pub fn from_json(json: &[u8]) -> Result<Self, LockError> {
        if json.len() > MAX_BYTES {
            return Err(LockError::Bytes(MAX_BYTES));
        }
        let form = |why: String| LockError::Form {
            what: "the lock",
            why: shown(&why),
        };
        let head: Head = serde_json::from_slice(json).map_err(|error| form(error.to_string()))?;
        if head.format > FORMAT {
            return Err(LockError::Format(head.format, FORMAT));
        }
        if head.format < 1 {
            return Err(form(format!("there is no format {}", head.format)));
        }
        let stored: Stored =
            serde_json::from_slice(json).map_err(|error| form(error.to_string()))?;
        let target = LockTarget::new(&stored.python, &stored.platform)?;
        let mut pins = Vec::new();
        for package in &stored.packages {
            let hashes = package.sha256.iter().map(|hash| Sha256::parse(hash));
            let pin = Pin::new(
                PackageName::parse(&package.name)?,
                Version::parse(&package.version)?,
                hashes.collect::<Result<_, _>>()?,
            );
            if pin.name().as_str() != package.name || pin.version().as_str() != package.version {
                return Err(form(format!("{pin} is not written in its normal form")));
            }
            pins.push(pin);
        }
        Self::new(target, pins)
    }
}
