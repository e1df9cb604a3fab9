//! For which Python interpreter a store's packages were installed: `FOLDER/.interpreter`, called the mark.
//!
//! Exists because `NAME==VERSION` doesn't say it, and after a restart the base image or the host's Python may be another. Native modules
//! for the previous interpreter could not be imported, and Python would compile all files again at each start.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::error::StoreError;
use super::folder::Store;
use super::record::Record;
use crate::pin::Pin;

const MARK: &str = ".interpreter";

/// The longest mark, in bytes.
const LONGEST: u64 = 4096;

impl Store {
    /// Sets the interpreter for which packages are installed from now on; returns the packages that were removed. Blocking.
    ///
    /// `interpreter` is any text that identifies it. Packages that were installed for another interpreter, or with a damaged mark, are
    /// removed and will be installed anew when wanted; those put there by hand stay. Call this before anything is leased.
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
        // Packages in a store without a mark are kept: they are from a release that wrote none.
        for package in before.iter().flat_map(|_| self.list()).flatten() {
            let ours = Record::read(&self.0.path(&package.pin)).is_some();
            if ours && self.remove(&package.pin)? {
                removed.push(package.pin);
            }
        }
        // Written last: if this is interrupted earlier, the next start removes again.
        write(&self.0.folder, &mark, interpreter).map_err(failed)?;
        Ok(removed)
    }
}

/// Reads a mark, or slightly more than the longest. Never blocks, even if the file is a named pipe.
fn read(mark: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(mark, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether `bytes` could be a mark: a path and perhaps a word.
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
