//! Stores a bundle: writes a file beside it, which takes the bundle's name when all of it is on the disk.

use super::{blocking, sync};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Held while a file takes its name. Thus an abandoned upload can't take the name after a later one that somebody waited for.
static NAMING: Mutex<()> = Mutex::new(());

/// Numbers the staging files of this process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Copies `from` to `file` in `folder`.
///
/// When this returns, the copy survives a power cut. If the process is killed at any point, the old file or the new one is there, whole.
/// If the future is dropped before it returns, nothing changes, unless the new file is just taking its name.
pub(super) async fn replace_file(folder: PathBuf, file: String, from: PathBuf) -> io::Result<()> {
    let wanted = Wanted(Arc::new(AtomicBool::new(true)));
    let still = Arc::clone(&wanted.0);
    blocking(move || replace(&folder, &file, &from, &still)).await
}

/// Tells the thread, by being dropped, that nobody waits for the upload any more.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn replace(folder: &Path, file: &str, from: &Path, wanted: &AtomicBool) -> io::Result<()> {
    let mut from = File::open(from)?;
    let (staging, mut to) = stage(folder, file)?;
    let stored = io::copy(&mut from, &mut to)
        .and_then(|_| to.sync_all())
        .and_then(|()| {
            let _alone = NAMING.lock().unwrap_or_else(PoisonError::into_inner);
            if wanted.load(Ordering::Acquire) {
                fs::rename(&staging, folder.join(file))
            } else {
                Err(io::Error::other("nobody waits for it any more"))
            }
        });
    if stored.is_err() {
        // The first error is the one to report; if the file can't be removed, the next start removes it.
        let _ = fs::remove_file(&staging);
    }
    stored.and_then(|()| sync(folder))
}

/// Creates a staging file for what will be called `file`.
fn stage(folder: &Path, file: &str) -> io::Result<(PathBuf, File)> {
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{file}#{number}"));
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|opened| (path, opened)),
        }
    }
}
