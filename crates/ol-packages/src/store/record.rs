//! `NAME==VERSION/installed.json`: a package's size and the hashes of the archives that it could come from.
//!
//! Exists so that listing the store needn't visit all files, and so that nobody gets a package from another archive than was locked. A
//! package without a record, as in stores of the original OpenLambda worker, is measured file by file, and its archive is unknown.

use std::fs::{self, DirEntry, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::folder::FILES;
use crate::pin::Sha256;

const RECORD: &str = "installed.json";

/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// What is known of an installed package.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The total length of its files.
    pub bytes: u64,
    pub files: u64,
    pub hashes: Vec<Sha256>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    bytes: u64,
    files: u64,
    sha256: Vec<String>,
}

impl Record {
    /// Writes the record into a package's `directory` and syncs it.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let stored = Stored {
            format: FORMAT,
            bytes: self.bytes,
            files: self.files,
            sha256: self.hashes.iter().map(Sha256::to_string).collect(),
        };
        let mut options = OpenOptions::new();
        let path = directory.join(RECORD);
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(path)?;
        file.write_all(&serde_json::to_vec(&stored)?)?;
        file.sync_all()
    }

    /// Reads the record in `directory`; `None` when there is none that this program wrote. Blocking.
    pub fn read(directory: &Path) -> Option<Self> {
        let stored = fs::read(directory.join(RECORD)).ok()?;
        let stored: Stored = serde_json::from_slice(&stored).ok()?;
        let hashes = stored.sha256.iter().map(|hash| Sha256::parse(hash).ok());
        (stored.format == FORMAT).then_some(())?;
        Some(Self {
            bytes: stored.bytes,
            files: stored.files,
            hashes: hashes.collect::<Option<_>>()?,
        })
    }
}

/// Reads the record in `directory`, or measures the package. Blocking; without a record it visits every file.
pub(super) fn read_or_measure(directory: &Path) -> io::Result<Record> {
    if let Some(record) = Record::read(directory) {
        return Ok(record);
    }
    let mut record = Record::default();
    let mut left = vec![directory.join(FILES)];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory)? {
            let entry: DirEntry = entry?;
            // Links are not followed.
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                left.push(entry.path());
            } else {
                record.files += 1;
                record.bytes += metadata.len();
            }
        }
    }
    Ok(record)
}
