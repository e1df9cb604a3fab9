//! Locks from `pip install --dry-run --ignore-installed --report - -r …` (pip's installation report, version 1).

use serde::Deserialize;
use std::collections::BTreeMap;

use super::{Lock, LockError, LockTarget};
use crate::pin::{PackageName, Pin, Sha256, Version, shown};

/// Large, because the report contains each package's metadata, descriptions included.
const MAX_BYTES: usize = 64 << 20;

#[derive(Deserialize)]
struct InstallReport {
    version: String,
    install: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    download_info: Download,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct Download {
    archive_info: Option<Archive>,
}

#[derive(Deserialize)]
struct Archive {
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

impl Lock {
    /// Reads pip's report. It contains one hash per package: that of the archive that pip chose for `target`.
    ///
    /// # Errors
    /// When it isn't such a report, or a package in it isn't an archive with a SHA-256.
    pub fn parse_report(json: &[u8], target: LockTarget) -> Result<Self, LockError> {
        if json.len() > MAX_BYTES {
            return Err(LockError::Bytes(MAX_BYTES));
        }
        let form = |why: String| LockError::Form {
            what: "pip's report",
            why,
        };
        let report: InstallReport =
            serde_json::from_slice(json).map_err(|error| form(shown(&error.to_string())))?;
        if report.version != "1" {
            return Err(form(format!(
                "its version is {}, not 1",
                shown(&report.version)
            )));
        }
        let pins = report.install.into_iter().map(|item| {
            let name = PackageName::parse(&item.metadata.name)?;
            let version = Version::parse(&item.metadata.version)?;
            let hashes = item
                .download_info
                .archive_info
                .map(|archive| archive.hashes);
            let Some(hash) = hashes.as_ref().and_then(|hashes| hashes.get("sha256")) else {
                return Err(LockError::Elsewhere(format!("{name}=={version}")));
            };
            Ok(Pin::new(name, version, vec![Sha256::parse(hash)?]))
        });
        Self::new(target, pins.collect::<Result<Vec<_>, _>>()?)
    }
}
