//! What the worker gives up before it reads its first byte from anybody: every capability, the way back to them, and
//! writing outside the directories that its configuration names.

use crate::directory::Directory;
use crate::view;
use anyhow::{Context, Result, bail};
use ol_model::WorkerConfig;
use ol_sys::confine::Level;
use ol_sys::privilege;
use rustix::fs::{Access, access};
use std::path::PathBuf;

/// Confines this process, which has one thread.
///
/// # Errors
/// When the kernel refuses, or a directory can't be written afterwards; the worker must not run then.
pub(crate) fn confine(directory: &Directory, config: &WorkerConfig) -> Result<Level> {
    let writable: Vec<PathBuf> = vec![
        directory.worker(),
        config.registry_path()?,
        config.pkgs_dir.clone(),
    ];
    let mut visible = writable.clone();
    visible.push(directory.root().to_owned());
    view::open_up(&visible).context("reach the worker's directories")?;
    privilege::renounce().context("give up capabilities")?;
    let level = ol_sys::confine::writer(writable.iter().map(PathBuf::as_path))
        .context("confine the worker with Landlock")?;
    for path in &writable {
        if let Err(error) = access(path, Access::WRITE_OK | Access::EXEC_OK) {
            bail!(
                "the worker, which is root without capabilities, can't write {}: {error}; make root its owner with `chown root {}`",
                path.display(),
                path.display()
            );
        }
    }
    Ok(level)
}
