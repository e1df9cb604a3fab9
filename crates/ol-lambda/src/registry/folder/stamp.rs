//! Tells one stored file from the next without reading it.
//!
//! A stamp holds more than an HTTP etag (inode, size, modification time) would: `cp -p` and `rsync` of a
//! reproducible build write a new bundle of the same size and the same modification time into the
//! same inode, and only the change time, which no program can set, reveals that. The price is
//! that a bundle looks new after a `chmod`; it is then prepared once more, to no effect.
//!
//! File systems keep these times in steps (a few milliseconds on kernels before 6.13). If a bundle is
//! overwritten *in place* twice within one step, at the same size, the second change isn't seen. A rename
//! is always seen, as the inode differs.

use crate::registry::{Content, Stamp};
use rustix::fs::Stat;
use std::fs::File;
use std::io;

impl Content for File {
    fn stamp(&self) -> io::Result<Stamp> {
        Ok(of_stat(&rustix::fs::fstat(self)?))
    }
}

#[allow(
    clippy::unnecessary_cast,
    reason = "the width of these fields differs between architectures"
)]
pub(super) fn of_stat(stat: &Stat) -> Stamp {
    let numbers = [
        stat.st_dev as u64,
        stat.st_ino as u64,
        stat.st_size as u64,
        stat.st_mtime as u64,
        stat.st_mtime_nsec as u64,
        stat.st_ctime as u64,
        stat.st_ctime_nsec as u64,
    ];
    Stamp::new(numbers.map(u64::to_le_bytes).concat())
}
