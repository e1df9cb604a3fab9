//! [`Wheels`]: the wheels that are kept, and how new ones get there.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::index::Client;
use crate::pin::{Pin, Sha256};

use super::choose::is_of;
use super::error::WheelError;
use super::fetch::{Deadline, download, find};
use super::tags::{Fit, Tags, WheelName};

const PARTIAL: &str = ".partial-";

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A folder of checked wheels. Clones share it; two processes must not.
#[derive(Debug, Clone)]
pub struct Wheels(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Bytes beyond which the longest unused are removed.
    quota: u64,
    /// How many hold each; renames and removals happen under its lock.
    held: Mutex<HashMap<Sha256, usize>>,
}

/// A kept wheel; it stays as long as this lives.
#[derive(Debug)]
pub struct Wheel {
    shared: Arc<Shared>,
    hash: Sha256,
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, HashMap<Sha256, usize>> {
        // No step under the lock leaves it half changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, hash: &Sha256) -> PathBuf {
        self.folder.join(hash.to_string())
    }
}

impl Wheel {
    fn take(shared: &Arc<Shared>, held: &mut HashMap<Sha256, usize>, hash: Sha256) -> Self {
        *held.entry(hash).or_default() += 1;
        Self {
            shared: Arc::clone(shared),
            hash,
        }
    }

    /// The name of its folder, which holds nothing but the wheel.
    #[must_use]
    pub fn folder(&self) -> String {
        self.hash.to_string()
    }
}

impl Drop for Wheel {
    fn drop(&mut self) {
        let mut held = self.shared.held();
        if let Some(count) = held.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.hash);
            }
        }
    }
}

impl Wheels {
    /// Opens `folder`, making it if it isn't there, and removes what a crash left. At most about `quota` bytes are kept. Blocking.
    ///
    /// # Errors
    /// When it can't be made or read.
    pub fn open(folder: &Path, quota: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self(Arc::new(Shared {
            folder: folder.to_owned(),
            quota,
            held: Mutex::default(),
        })))
    }

    /// The wheel of `pin` that suits `tags`: one that is kept, or else the best that the index has, which is then kept. Blocking, for at
    /// most about `within`.
    ///
    /// # Errors
    /// By name: the index can't be reached, has none that suits or none with a wanted hash, the disk is full, …
    pub fn get(
        &self,
        pin: &Pin,
        tags: &Tags,
        client: &Client,
        within: Duration,
    ) -> Result<Wheel, WheelError> {
        if let Some(wheel) = self.kept(pin, tags) {
            return Ok(wheel);
        }
        let deadline = Deadline::within(within);
        let file = find(client, pin, tags, deadline)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PARTIAL}{}-{number}", std::process::id());
        let partial = Partial(self.0.folder.join(name));
        let made = fs::create_dir(&partial.0);
        made.map_err(WheelError::disk(&partial.0))?;
        let path = partial.0.join(&file.filename);
        let hash = download(client, &file, pin, &path, deadline)?;
        let place = self.0.place(&hash);
        let mut held = self.0.held();
        match fs::rename(&partial.0, &place) {
            // Somebody who asked for the same hash by another pin was faster.
            Err(error) if !place.is_dir() => Err(WheelError::disk(&place)(error)),
            _ => Ok(Wheel::take(&self.0, &mut held, hash)),
        }
    }

    fn kept(&self, pin: &Pin, tags: &Tags) -> Option<Wheel> {
        let mut held = self.0.held();
        let fitting = pin.hashes().iter().filter_map(|hash| {
            let (name, _) = only_file(&self.0.place(hash))?;
            let name = WheelName::parse(&name).filter(|name| is_of(name, pin))?;
            Some((tags.fit(&name)?, *hash))
        });
        let (_, hash): (Fit, Sha256) = fitting.max_by_key(|(fit, _)| *fit)?;
        // When it was last used. If that can't be written it is removed a little early.
        let now = FileTimes::new().set_modified(SystemTime::now());
        let _ = File::open(self.0.place(&hash)).and_then(|folder| folder.set_times(now));
        Some(Wheel::take(&self.0, &mut held, hash))
    }

    /// Removes what nobody holds until at most `quota` bytes are kept, the longest unused first. Blocking.
    ///
    /// # Errors
    /// When the folder can't be read or changed.
    pub fn collect(&self, quota: u64) -> io::Result<()> {
        let mut kept = Vec::new();
        let mut bytes = 0;
        for entry in fs::read_dir(&self.0.folder)? {
            let entry = entry?;
            let Some(hash) = hash_of(&entry.file_name()) else {
                continue;
            };
            let length = only_file(&entry.path()).map_or(0, |(_, length)| length);
            bytes += length;
            kept.push((entry.metadata()?.modified()?, hash, length));
        }
        kept.sort_unstable_by_key(|(used, ..)| *used);
        for (_, hash, length) in kept {
            if bytes <= quota {
                break;
            }
            let held = self.0.held();
            if !held.contains_key(&hash) {
                fs::remove_dir_all(self.0.place(&hash))?;
                bytes -= length;
            }
        }
        Ok(())
    }

    /// Bytes beyond which the longest unused are removed.
    #[must_use]
    pub fn quota(&self) -> u64 {
        self.0.quota
    }
}

fn hash_of(name: &std::ffi::OsStr) -> Option<Sha256> {
    Sha256::parse(name.to_str()?).ok()
}

/// Name and length of the file in `folder`.
fn only_file(folder: &Path) -> Option<(String, u64)> {
    let entry = fs::read_dir(folder).ok()?.next()?.ok()?;
    let name = entry.file_name().into_string().ok()?;
    Some((name, entry.metadata().ok()?.len()))
}

/// A folder that is removed unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
