//! Packed copies of what was installed, for when it is wanted again: `FOLDER/SHA256.TAGS.PROGRAM.tar.lz4`, by the hash of the wheel that it came
//! of the interpreter that it was compiled for, and the program that did so.
//!
//! Exists because to install means to fetch, to unpack in a sandbox and to compile; what a wheel becomes is the same each time, so
//! a package that was collected, or removed by hand, comes back without any of it. Nobody else can read a copy.
//!
//! LZ4, for what counts is how soon it is unpacked: gzip at its quickest leaves a sixth less and takes ten times as long.
//!
//! ```text
//!   Packing (a tar, packed as it comes) ─ keep: synced, renamed ─▶ SHA256.TAGS.PROGRAM.tar.lz4 ─▶ find ─▶ a file to unpack
//!      ▼ dropped: removed                                              ▼ collect: the longest unused go
//! ```

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use lz4_flex::frame::{FrameDecoder, FrameEncoder, FrameInfo};

use crate::inside;
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
        let by = inside::digest();
        self.folder.join(format!("{hash}.{tags}.{by:.8}{SUFFIX}"))
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
        let file = Bounded {
            file,
            left: self.quota,
        };
        let mut encoder =
            FrameEncoder::with_frame_info(FrameInfo::new().content_checksum(true), file);
        let packed = io::copy(&mut tar, &mut encoder)
            .and_then(|_| encoder.finish().map_err(io::Error::from))
            .map_err(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => {
                    io::Error::other("the copy alone is larger than packages.packed_mb")
                }
                _ => error,
            })?;
        packed.file.sync_data()?;
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

/// A file that takes so many bytes and no more: a tar may have no end.
struct Bounded {
    file: File,
    left: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let left = self.left.checked_sub(written as u64);
        // Of a kind and no more: lz4_flex 0.11 panics at an error that holds another.
        self.left = left.ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
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
