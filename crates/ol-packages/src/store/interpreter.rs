//! For which interpreter a store's packages were installed: `FOLDER/.interpreter`.
//!
//! Exists because `NAME==VERSION` says nothing of it, and a base image or a host's Python may be another after a restart: native modules
//! of the one before can't be imported, and what was compiled for it is compiled again at each start.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::error::StoreError;
use super::folder::Store;
use super::record::Record;
use crate::pin::Pin;

const MARK: &str = ".interpreter";

impl Store {
    /// Says for which interpreter packages are installed from now on, in any words that tell it from others. What was installed for
    /// another is removed, to be installed anew when it is wanted; what people put there stays. Returns what was removed. Call it before
    /// anything is leased. Blocking.
    ///
    /// # Errors
    /// When this host fails.
    pub fn made_for(&self, interpreter: &str) -> Result<Vec<Pin>, StoreError> {
        let failed = |source: io::Error| StoreError::Host {
            what: "note for which Python the packages are".to_owned(),
            source: source.into(),
        };
        let mark = self.0.folder.join(MARK);
        let before = match fs::read_to_string(&mark) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(failed)?),
        };
        if before.as_deref() == Some(interpreter) {
            return Ok(Vec::new());
        }
        let mut removed = Vec::new();
        // Without a mark they are of a time when nothing was written down.
        for package in before.iter().flat_map(|_| self.list()).flatten() {
            let ours = Record::read(&self.0.path(&package.pin)).is_some();
            if ours && self.remove(&package.pin)? {
                removed.push(package.pin);
            }
        }
        // Last: cut before, it is done again.
        write(&self.0.folder, &mark, interpreter).map_err(failed)?;
        Ok(removed)
    }
}

fn write(folder: &Path, mark: &Path, interpreter: &str) -> io::Result<()> {
    let new = folder.join(format!("{MARK}-{}", std::process::id()));
    let mut file = File::create(&new)?;
    file.write_all(interpreter.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, mark)?;
    File::open(folder)?.sync_all()
}
