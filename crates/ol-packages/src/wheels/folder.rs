//! [`Wheels`]: the folder of wheels while sandboxes install them.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::index::Client;
use crate::pin::{Pin, Sha256};

use super::error::WheelError;
use super::fetch::{Bounds, download, find};
use super::tags::Tags;

/// Pauses between attempts when an index can't be reached: connections break now and then.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1600),
];

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A folder of wheels that are being installed. Several workers may share it: each locks what it fetched.
#[derive(Debug, Clone)]
pub struct Wheels {
    folder: PathBuf,
}

/// The limits of one fetch.
#[derive(Debug, Clone)]
pub struct WheelLimits {
    /// Time for the pages and the file together.
    pub within: Duration,
    /// The longest file, in bytes.
    pub bytes: u64,
    /// Setting it to true ends the fetch soon, with an error.
    pub stop: Arc<AtomicBool>,
}

/// A wheel whose hash was checked, alone in a folder; dropping it removes both.
#[derive(Debug)]
pub struct Wheel {
    folder: Folder,
    hash: Sha256,
}

impl Wheel {
    /// The name of its folder.
    #[must_use]
    pub fn folder(&self) -> &str {
        &self.folder.name
    }

    /// Its SHA-256.
    #[must_use]
    pub fn hash(&self) -> Sha256 {
        self.hash
    }
}

impl Wheels {
    /// Opens `folder`, creating it if needed, and removes what a crash left. Blocking.
    ///
    /// # Errors
    /// When it can't be created, read or emptied.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        readable(folder)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            // If it is locked or vanishes, the worker that fetched it still uses it or is removing it.
            match lock(&path) {
                Ok(_locked) => fs::remove_dir_all(&path)?,
                Err(error) if is_others(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Fetches the wheel of `pin` that suits `tags` best. Blocking.
    ///
    /// # Errors
    /// When the index can't be reached, has no suitable wheel or none with a wanted hash, the disk is full, …
    pub fn fetch(
        &self,
        pin: &Pin,
        tags: &Tags,
        client: &Client,
        limits: &WheelLimits,
    ) -> Result<Wheel, WheelError> {
        let bounds = Bounds::of(limits);
        let mut pauses = PAUSES.iter();
        loop {
            match self.attempt(pin, tags, client, &bounds) {
                Err(error) if error.may_pass() => match pauses.next() {
                    Some(pause) => std::thread::sleep(*pause),
                    None => return Err(error),
                },
                done => return done,
            }
        }
    }

    fn attempt(
        &self,
        pin: &Pin,
        tags: &Tags,
        client: &Client,
        bounds: &Bounds<'_>,
    ) -> Result<Wheel, WheelError> {
        let file = find(client, pin, tags, bounds)?;
        let folder = Folder::new(&self.folder)?;
        let path = folder.path.join(&file.filename);
        let hash = download(client, &file, pin, &path, bounds)?;
        Ok(Wheel { folder, hash })
    }
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    name: String,
    lock: Option<File>,
}

impl Folder {
    fn new(within: &Path) -> Result<Self, WheelError> {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}", std::process::id());
            let path = within.join(&name);
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made
                    .and_then(|()| readable(&path))
                    .map_err(WheelError::disk(&path))?,
            }
            // Before the folder is locked, another starting worker may remove it; then the next name is tried.
            match lock(&path) {
                Ok(lock) if path.is_dir() => {
                    let lock = Some(lock);
                    return Ok(Self { path, name, lock });
                }
                Ok(_) => {}
                Err(error) if is_others(&error) => {}
                Err(error) => return Err(WheelError::disk(&path)(error)),
            }
        }
    }
}

/// Makes a folder readable for sandboxes, whatever the umask.
fn readable(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}

fn lock(path: &Path) -> io::Result<File> {
    let opened = File::open(path)?;
    flock(&opened, FlockOperation::NonBlockingLockExclusive)?;
    Ok(opened)
}

fn is_others(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::WouldBlock
    )
}

/// Never blocks a task: within a runtime, a thread for blocking work removes the folder. If the runtime ends first, the next
/// [`Wheels::open`] removes it.
impl Drop for Folder {
    fn drop(&mut self) {
        let (path, lock) = (std::mem::take(&mut self.path), self.lock.take());
        let remove = move || {
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(%error, ?path, "can't remove a wheel; the next start tries again");
            }
            drop(lock);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
