//! For which interpreter a store's packages were installed: `FOLDER/.interpreter`.
//!
//! Exists because `NAME==VERSION` says nothing of it, and a base image or a host's Python may be another after a restart: native modules
//! of the one before can't be imported, and what was compiled for it is compiled again at each start.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::error::StoreError;
use super::folder::Store;
use super::record::Record;
use crate::pin::Pin;

const MARK: &str = ".interpreter";

/// Of a mark, in bytes.
const LONGEST: u64 = 4096;

impl Store {
    /// Says for which interpreter packages are installed from now on, in any words that tell it from others. What was installed for
    /// another, or for nobody knows which, is removed, to be installed anew when it is wanted; what people put there stays. Returns
    /// what was removed. Call it before anything is leased. Blocking.
    ///
    /// # Errors
    /// When this host fails; [`StoreError::Mark`] names the file.
    pub fn made_for(&self, interpreter: &str) -> Result<Vec<Pin>, StoreError> {
        let mark = self.0.folder.join(MARK);
        let failed = |source: io::Error| StoreError::Mark {
            file: mark.clone(),
            source: source.into(),
        };
        let before = match read(&mark) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(failed)?),
        };
        if before.as_deref() == Some(interpreter.as_bytes()) {
            return Ok(Vec::new());
        }
        if let Some(before) = &before
            && !is_a_mark(before)
        {
            tracing::warn!(
                "{} is damaged, so nobody knows for which Python the packages are: it is written anew",
                mark.display()
            );
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

/// At most a little more than a mark is long, and never waiting, as a named pipe would.
fn read(mark: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(mark, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Could we have written this? Marks are a path and perhaps a word.
fn is_a_mark(bytes: &[u8]) -> bool {
    let text = |text: &str| text.contains("python") && !text.contains(char::is_control);
    bytes.len() as u64 <= LONGEST && std::str::from_utf8(bytes).is_ok_and(text)
}

fn write(folder: &Path, mark: &Path, interpreter: &str) -> io::Result<()> {
    let new = folder.join(format!("{MARK}-{}", std::process::id()));
    let mut file = File::create(&new)?;
    file.write_all(interpreter.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, mark)?;
    File::open(folder)?.sync_all()
}
