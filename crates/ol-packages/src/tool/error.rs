//! Why uv can't be found or fetched.

use std::path::PathBuf;

use crate::index::ClientError;

/// Why uv can't be had. No message contains a password.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The index can't be reached or doesn't answer like a package index.
    #[error("uv, which installs packages, can't be fetched: {0}; or install uv {series} on this host", series = super::release::SERIES)]
    Index(#[from] ClientError),
    /// The index has no such project.
    #[error("the package index {index} has no project uv, which installs packages: add it there, or install uv {series} on this host", series = super::release::SERIES)]
    NoProject {
        /// The index, without credentials.
        index: String,
    },
    /// The index has no uv for this machine, or only versions outside the supported series.
    #[error("the package index {index} has no wheel of uv {series} for {platform}{has}: add one there, or install uv {series} on this host", series = super::release::SERIES)]
    NoWheel {
        /// The index, without credentials.
        index: String,
        /// Processor and C library.
        platform: String,
        /// What it has instead, if anything.
        has: String,
    },
    /// The index publishes no hash for the wheel.
    #[error("the package index lists no sha256 for {file}: what can't be checked isn't run; install uv {series} on this host", series = super::release::SERIES)]
    NoHash {
        /// The wheel.
        file: String,
    },
    /// The wheel's hash differs from the one in the index.
    #[error(
        "{file} has the wrong hash: the package index promises sha256 {promised}, and {found} came"
    )]
    WrongHash {
        /// The wheel.
        file: String,
        /// The hash that the index lists.
        promised: String,
        /// The hash of what was downloaded.
        found: String,
    },
    /// The hash is right, but the file is no wheel of uv.
    #[error("{file} is no wheel of uv: {why}")]
    NotUv {
        /// The wheel.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The unpacked file is no program.
    #[error("uv was fetched to {path}, and {why}; name another index in pip_mirror, or install uv on this host", path = path.display())]
    NotAProgram {
        /// The program.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The disk failed.
    #[error("{path}: {source}", path = path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("{file} broke off after {bytes} bytes: {why}")]
    BrokeOff {
        /// The wheel.
        file: String,
        /// How many bytes came.
        bytes: u64,
        /// What the system says.
        why: String,
    },
}
