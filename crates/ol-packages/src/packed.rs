//! Packed copies of what was installed, for when it is wanted again: `FOLDER/SHA256.TAGS.tar.lz4`, by the hash of the wheel that it came
//! of and the interpreter that it was compiled for.
//!
//! Exists because to install means to fetch, to unpack in a sandbox and to compile; what a wheel becomes is the same each time, so
//! a package that was collected, or removed by hand, comes back without any of it. Nobody but the worker sees the folder.
//!
//! LZ4, for what counts is how soon it is unpacked: gzip at its quickest makes a quarter less of it and takes ten times as long.
//!
//! ```text
//!   Packing (a tar, packed as it comes) ─ keep: synced, renamed ─▶ SHA256.TAGS.tar.lz4 ─▶ find ─▶ a file to unpack
//!      ▼ dropped: removed                                              ▼ collect: the longest unused go
//! ```

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use lz4_flex::frame::{FrameDecoder, FrameEncoder, FrameInfo};

use crate::pin::{Pin, Sha256};
use crate::wheels::Tags;

const PARTIAL: &str = ".partial-";
const SUFFIX: &str = ".tar.lz4";

static NEXT: AtomicU64 = AtomicU64::new(1);

/// The folder of copies. Clones share it; two processes must not.
#[derive(Debug, Clone)]
pub struct Packed {
    folder: PathBuf,
    /// Bytes beyond which the longest unused are removed.
    quota: u64,
}

/// A copy in the making; it goes unless it is kept.
#[derive(Debug)]
pub struct Packing {
    partial: PathBuf,
    place: PathBuf,
}

impl Packed {
    /// Opens `folder`, making it if it isn't there, and removes what a crash left. Blocking.
    ///
    /// # Errors
    /// When it can't be made or read.
    pub fn open(folder: &Path, quota: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            quota,
        })
    }

    /// Bytes beyond which the longest unused are removed; 0 keeps nothing.
    #[must_use]
    pub fn quota(&self) -> u64 {
        self.quota
    }

    fn place(&self, hash: &Sha256, tags: &Tags) -> PathBuf {
        self.folder.join(format!("{hash}.{tags}{SUFFIX}"))
    }

    /// What `pin` became for this interpreter: a tar. `None` if no copy is kept. Blocking.
    #[must_use]
    pub fn find(&self, pin: &Pin, tags: &Tags) -> Option<impl Read + Send + use<>> {
        let mut places = pin.hashes().iter().map(|hash| self.place(hash, tags));
        let file = places.find_map(|place| File::open(place).ok())?;
        // When it was last used. If that can't be written it is removed a little early.
        let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        Some(FrameDecoder::new(file))
    }

    /// Forgets what `pin` became: a copy was found to be damaged. Blocking.
    pub fn forget(&self, pin: &Pin, tags: &Tags) {
        for hash in pin.hashes() {
            let _ = fs::remove_file(self.place(hash, tags));
        }
    }

    /// Packs `tar` as it comes, what the wheel of this hash became. Blocking.
    ///
    /// # Errors
    /// When `tar` or the disk fails; nothing is left then.
    pub fn pack(&self, hash: &Sha256, tags: &Tags, mut tar: impl Read) -> io::Result<Packing> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let packing = Packing {
            partial: self.folder.join(format!("{PARTIAL}{number}")),
            place: self.place(hash, tags),
        };
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&packing.partial)?;
        let mut encoder =
            FrameEncoder::with_frame_info(FrameInfo::new().content_checksum(true), file);
        io::copy(&mut tar, &mut encoder)?;
        let file = encoder.finish().map_err(io::Error::other)?;
        file.sync_data()?;
        Ok(packing)
    }

    /// Removes copies until at most `quota` bytes are kept, the longest unused first. Blocking.
    ///
    /// # Errors
    /// When the folder can't be read or changed.
    pub fn collect(&self, quota: u64) -> io::Result<()> {
        let (mut kept, mut bytes) = (Vec::new(), 0);
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().ends_with(SUFFIX) {
                continue;
            }
            let known = entry.metadata()?;
            bytes += known.len();
            kept.push((known.modified()?, entry.path(), known.len()));
        }
        kept.sort_unstable();
        for (_, path, length) in kept {
            if bytes <= quota {
                break;
            }
            // Who reads it now goes on reading it.
            fs::remove_file(path)?;
            bytes -= length;
        }
        Ok(())
    }
}

impl Packing {
    /// Gives it its name. Blocking.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep(self) -> io::Result<()> {
        fs::rename(&self.partial, &self.place)
    }
}

impl Drop for Packing {
    fn drop(&mut self) {
        // Gone if it was kept.
        let _ = fs::remove_file(&self.partial);
    }
}
