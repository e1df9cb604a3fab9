//! Pauses and resumes a sandbox by one write to a file of its cgroup, which the warden opened and handed over.

use rustix::io::{pread, pwrite};
use std::io;
use std::os::fd::OwnedFd;

/// The file or files that freeze one sandbox.
#[derive(Debug)]
pub(crate) enum Freezer {
    /// cgroup v2: `cgroup.freeze` and `cgroup.events`.
    V2 { freeze: OwnedFd, events: OwnedFd },
    /// cgroup v1: `freezer.state`.
    V1 { state: OwnedFd },
}

impl Freezer {
    pub(crate) fn freeze(&self) -> io::Result<()> {
        match self {
            Self::V2 { freeze, .. } => pwrite(freeze, b"1", 0)?,
            Self::V1 { state } => pwrite(state, b"FROZEN", 0)?,
        };
        Ok(())
    }

    pub(crate) fn thaw(&self) -> io::Result<()> {
        match self {
            Self::V2 { freeze, .. } => pwrite(freeze, b"0", 0)?,
            Self::V1 { state } => pwrite(state, b"THAWED", 0)?,
        };
        Ok(())
    }

    pub(crate) fn is_frozen(&self) -> io::Result<bool> {
        let mut text = [0_u8; 128];
        let (file, word): (_, &[u8]) = match self {
            Self::V2 { events, .. } => (events, b"frozen 1"),
            Self::V1 { state } => (state, b"FROZEN"),
        };
        let length = pread(file, &mut text, 0)?;
        let text = text.get(..length).unwrap_or_default();
        Ok(text.windows(word.len()).any(|w| w == word))
    }
}
