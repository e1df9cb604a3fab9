//! What the worker gives up before it reads its first byte from anybody: every capability, the way back to them, and
//! writing outside the directories that its configuration names.

use crate::directory::Directory;
use anyhow::Context;
use ol_model::WorkerConfig;
use ol_sys::confine::Level;
use ol_sys::privilege;
use std::path::PathBuf;

/// Confines this process, which has one thread.
///
/// # Errors
/// When the kernel refuses; the worker must not run then.
pub(crate) fn confine(directory: &Directory, config: &WorkerConfig) -> anyhow::Result<Level> {
    let writable: Vec<PathBuf> = vec![
        directory.worker(),
        config.registry_path()?,
        config.pkgs_dir.clone(),
    ];
    privilege::renounce().context("give up capabilities")?;
    ol_sys::confine::writer(writable.iter().map(PathBuf::as_path))
        .context("confine the worker with Landlock")
}
