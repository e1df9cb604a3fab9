//! What tells one stored bundle from the next, without reading it.

use std::fs::File;
use std::io;

use rustix::fs::Stat;

/// Identity of one stored bundle: equal as long as nobody replaced or touched the file.
///
/// It holds more than an HTTP etag (inode, size, modification time) would: `cp -p` and `rsync` of a
/// reproducible build write a new bundle of the same size and the same modification time into the
/// same inode, and only the change time, which no program can set, gives that away. The price is
/// that a `chmod` looks like a new version; it is then prepared once more, to no effect.
///
/// File systems keep these times in steps (a few milliseconds on kernels before 6.13). A bundle
/// overwritten *in place* twice within one step, at the same size, looks like one; a rename never
/// does, as the inode differs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Stamp {
    /// The stamp of an opened bundle as it is now.
    ///
    /// Compare it with the one [`fetch`](super::Registry::fetch) gave once the file has been read:
    /// when they differ, a script was still writing the file and what was read is a mixture.
    ///
    /// # Errors
    /// When the file can't be examined (fstat(2)).
    pub fn of(file: &File) -> io::Result<Stamp> {
        Ok(Stamp::from_stat(&rustix::fs::fstat(file)?))
    }

    #[allow(
        clippy::unnecessary_cast,
        reason = "the width of these fields differs between architectures"
    )]
    pub(super) fn from_stat(stat: &Stat) -> Stamp {
        Stamp {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }
}
