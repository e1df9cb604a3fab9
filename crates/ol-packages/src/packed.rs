//! Packed copies of installed packages, for reinstalling them.
//!
//! A copy lies at `FOLDER/SHA256.TAGS.PROGRAM.tar.lz4`: the hash of the wheel, the interpreter that it was compiled for, and the program
//! that installed it.
//!
//! Exists because installing means fetching, unpacking in a sandbox and compiling, and the result is the same each time. With a copy, a
//! package that was collected or removed by hand comes back without any of these. Only the worker's user can read a copy.
//!
//! LZ4, because the time to unpack is what matters: gzip at its fastest level makes files a sixth smaller and takes ten times as long.
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

/// The folder of packed copies. Clones share it; two processes must not.
#[derive(Debug, Clone)]
pub struct Packed {
    folder: PathBuf,
    /// Size in bytes beyond which the copies unused for longest are removed.
    quota: u64,
}

/// A copy being written; dropping it removes it unless [`Packing::keep`] was called.
#[derive(Debug)]
pub struct Packing {
    partial: PathBuf,
    place: PathBuf,
}

impl Packed {
    /// Opens `folder`, creating it if needed, and removes what a crash left. Blocking.
    ///
    /// # Errors
    /// When the folder can't be created or read.
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

    /// Size in bytes beyond which the copies unused for longest are removed; 0 keeps nothing.
    #[must_use]
    pub fn quota(&self) -> u64 {
        self.quota
    }

    fn place(&self, hash: &Sha256, tags: &Tags) -> PathBuf {
        let by = inside::digest();
        self.folder.join(format!("{hash}.{tags}.{by:.8}{SUFFIX}"))
    }

    /// Finds the tar of what `pin` became for this interpreter, `None` if no copy is kept. Blocking.
    #[must_use]
    pub fn find(&self, pin: &Pin, tags: &Tags) -> Option<impl Read + Send + use<>> {
        let mut places = pin.hashes().iter().map(|hash| self.place(hash, tags));
        let file = places.find_map(|place| File::open(place).ok())?;
        // The modification time records the last use. If writing it fails, the copy is merely removed a little early.
        let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        Some(FrameDecoder::new(file))
    }

    /// Removes the copies of `pin`, as when one was found to be damaged. Blocking.
    pub fn forget(&self, pin: &Pin, tags: &Tags) {
        for hash in pin.hashes() {
            let _ = fs::remove_file(self.place(hash, tags));
        }
    }

    /// Packs `tar`, which the wheel with this hash was installed as, while reading it. Blocking.
    ///
    /// # Errors
    /// When `tar` or the disk fails, or the copy exceeds the quota; nothing is left then.
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
            // A process that is reading the copy keeps its open file.
            fs::remove_file(path)?;
            bytes -= length;
        }
        Ok(())
    }
}

/// A file that accepts a limited number of bytes: a tar may have no end.
struct Bounded {
    file: File,
    left: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let left = self.left.checked_sub(written as u64);
        // Made from an `ErrorKind` alone: lz4_flex 0.11 panics at an `io::Error` that wraps another error.
        self.left = left.ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Packing {
    /// Renames the finished copy to its final name. Blocking.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep(self) -> io::Result<()> {
        fs::rename(&self.partial, &self.place)
    }
}

impl Drop for Packing {
    fn drop(&mut self) {
        // After `keep` the partial file no longer exists.
        let _ = fs::remove_file(&self.partial);
    }
}
