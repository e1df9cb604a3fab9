//! What tells one stored file from the next, without reading it.
//!
//! It holds more than an HTTP etag (inode, size, modification time) would: `cp -p` and `rsync` of a
//! reproducible build write a new bundle of the same size and the same modification time into the
//! same inode, and only the change time, which no program can set, gives that away. The price is
//! that a `chmod` looks like a new version; it is then prepared once more, to no effect.
//!
//! File systems keep these times in steps (a few milliseconds on kernels before 6.13). A bundle
//! overwritten *in place* twice within one step, at the same size, looks like one; a rename never
//! does, as the inode differs.

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
