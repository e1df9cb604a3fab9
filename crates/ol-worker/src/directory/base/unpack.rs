//! Unpacks an archive of a root file system into a directory, or says which member is refused.
//!
//! The archive may come from anybody. Nothing is written outside the directory (see `tree`), and nothing in it gives anybody more rights on
//! the host: all files are root's and writable only for root, without set-user-id, capabilities or devices. Everybody may read them, since
//! sandboxes run as users of their own.

use std::io::{self, Read, Write};
use std::path::Path;

use ol_warden::rootfs::OURS;
use rustix::io::Errno;
use tar::{Archive, EntryType, Header};
use thiserror::Error;

use super::headers::Pending;
use super::record::RECORD;
use super::stream::{Gauge, Metered, decompressed};
use super::tree::{Tree, keep_time};

/// The most members; no image has more files.
const MOST_MEMBERS: u64 = 4_000_000;

/// Why an archive can't be unpacked. The message is appended to the archive's name.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The archive is compressed by another program than gzip.
    #[error("is compressed with {0}: decompress it first (`{0} -d FILE`), or use gzip")]
    Compression(&'static str),
    /// These bytes are no archive.
    #[error("is no tar archive, or damaged {0}")]
    NotTar(String),
    /// The archive's end is missing.
    #[error("is cut short {0}: get it again")]
    CutShort(String),
    /// A member is refused; no honest archive has one like it.
    #[error(
        "has a member {member:?} that {problem}: pack the root file system itself, with names relative to its root"
    )]
    Refused {
        /// Its name, escaped.
        member: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The archive is too large.
    #[error("unpacks to more than {0}: it is no base image")]
    TooMuch(&'static str),
    /// The archive's file can't be read.
    #[error("can't be read ({0})")]
    Read(io::Error),
    /// Writing failed.
    #[error(
        "can't be unpacked at {member:?} ({source}): check the space on the worker directory's disk"
    )]
    Write {
        /// The member's name.
        member: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Unpacks `archive` (tar or tar.gz) into `into`, an empty directory of root's, and syncs it. Returns how many devices and pipes were left
/// out.
///
/// Also left out, without being counted: password files, and what sandboxes get from elsewhere (`/dev`, `/proc`, `/tmp` …). `/etc/hostname`
/// and `/etc/resolv.conf`, which describe the machine that the image was made on, are replaced.
pub(super) fn unpack(archive: impl Read, into: &Path) -> Result<u64, UnpackError> {
    let gauge = Gauge::default();
    let metered = Metered::new(decompressed(archive)?, &gauge);
    let tree = Tree::open(into).map_err(|source| UnpackError::Write {
        member: ".".to_owned(),
        source,
    })?;
    let mut unpacking = Unpacking {
        gauge: &gauge,
        tree,
        members: 0,
        left_out: 0,
        at: None,
        buffer: vec![0; 256 << 10],
    };
    let mut archive = Archive::new(metered);
    unpacking.members(&mut archive)?;
    unpacking.end(archive.into_inner())?;
    unpacking.own_files()?;
    Ok(unpacking.left_out)
}

struct Unpacking<'a> {
    gauge: &'a Gauge,
    tree: Tree,
    members: u64,
    left_out: u64,
    /// The current member's name, as errors show it.
    at: Option<String>,
    buffer: Vec<u8>,
}

impl Unpacking<'_> {
    fn members<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<(), UnpackError> {
        let mut pending = Pending::default();
        for entry in archive.entries().map_err(|_| self.broken())?.raw(true) {
            let mut entry = entry.map_err(|_| self.broken())?;
            self.members += 1;
            if self.members > MOST_MEMBERS {
                return Err(UnpackError::TooMuch("4 million files"));
            }
            let (header, size) = (entry.header().clone(), entry.size());
            let taken = pending.take(header.entry_type(), size, &mut entry);
            let about_the_next = taken.map_err(|problem| match problem {
                Some(problem) => self.refused(problem),
                None => self.broken(),
            })?;
            if about_the_next {
                continue;
            }
            let own_name = header.path_bytes().escape_ascii().to_string();
            self.at = Some(own_name);
            let named = std::mem::take(&mut pending).resolve(&header, size);
            let (name, target) = named.map_err(|problem| self.refused(problem))?;
            self.at = Some(name.escape_ascii().to_string());
            self.member(&header, &name, &target, size, &mut entry)?;
        }
        if !pending.is_empty() {
            return Err(UnpackError::CutShort(self.place()));
        }
        Ok(())
    }

    fn member(
        &mut self,
        header: &Header,
        name: &[u8],
        target: &[u8],
        size: u64,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let path = inside(name).map_err(|problem| self.refused(problem))?;
        if is_left_out(&path) {
            return Ok(());
        }
        let done = match header.entry_type() {
            EntryType::Directory => self.tree.directory(&path),
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => {
                self.tree.directory(&path)
            }
            _ if path.is_empty() => return Err(self.refused("is the root but no directory")),
            EntryType::Regular | EntryType::Continuous => {
                return self.file(header, &path, size, content);
            }
            EntryType::Symlink => self.tree.link(&path, target),
            EntryType::Link => {
                let other = inside(target).map_err(|problem| self.refused(problem))?;
                if is_left_out(&other) {
                    return Ok(());
                }
                match self.tree.hard_link(&path, &other) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(self.refused("is a second name of a file that isn't there"));
                    }
                    done => done,
                }
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.left_out += 1;
                Ok(())
            }
            _ => return Err(self.refused("is of no kind that a root file system has")),
        };
        done.map_err(|error| self.unwritten(error))
    }

    fn file(
        &mut self,
        header: &Header,
        path: &[u8],
        size: u64,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let mode = readable(header.mode().unwrap_or(0o644));
        let file = self.tree.file(path, mode);
        let mut file = file.map_err(|error| self.unwritten(error))?;
        let mut left = size;
        // Not `io::copy`: its error doesn't say whether the archive or the disk failed.
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX);
            let want = want.min(self.buffer.len());
            let read = match content.read(&mut self.buffer[..want]) {
                Ok(0) | Err(_) => return Err(self.broken()),
                Ok(read) => read,
            };
            left -= read as u64;
            let written = file.write_all(&self.buffer[..read]);
            written.map_err(|error| self.unwritten(error))?;
        }
        let time = header.mtime().unwrap_or(0);
        keep_time(&file, time).map_err(|error| self.unwritten(error))
    }

    /// Checks that the archive has an end mark, and reads the stream to its end.
    ///
    /// Only at its end does gzip compare the checksum, and a program that writes into a pipe must not lose its reader.
    fn end(&mut self, mut rest: impl Read) -> Result<(), UnpackError> {
        if self.gauge.ended() {
            // An empty stream is no archive; otherwise the archive broke off.
            return Err(match self.gauge.bytes() {
                0 => UnpackError::NotTar(self.place()),
                _ => UnpackError::CutShort(self.place()),
            });
        }
        io::copy(&mut rest, &mut io::sink()).map_err(|_| self.broken())?;
        Ok(())
    }

    fn own_files(&mut self) -> Result<(), UnpackError> {
        for (path, content) in [("etc/hostname", "sandbox\n"), ("etc/resolv.conf", "")] {
            self.at = Some(path.to_owned());
            let written = self.tree.file(path.as_bytes(), 0o644);
            let written = written.and_then(|mut file| file.write_all(content.as_bytes()));
            written.map_err(|error| self.unwritten(error))?;
        }
        self.tree.sync().map_err(|error| self.unwritten(error))
    }

    /// Why the archive can't be read any further.
    fn broken(&self) -> UnpackError {
        let place = self.place();
        if self.gauge.is_too_much() {
            return UnpackError::TooMuch("32 GiB");
        }
        match self.gauge.take_error() {
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                UnpackError::CutShort(place)
            }
            // An error of the system, such as EIO; errors of the decompressor have no number.
            Some(error) if error.raw_os_error().is_some() => UnpackError::Read(error),
            None if self.gauge.ended() && self.at.is_some() => UnpackError::CutShort(place),
            _ => UnpackError::NotTar(place),
        }
    }

    fn refused(&self, problem: &'static str) -> UnpackError {
        UnpackError::Refused {
            member: self.at.clone().unwrap_or_default(),
            problem,
        }
    }

    fn unwritten(&self, source: io::Error) -> UnpackError {
        if Errno::from_io_error(&source) == Some(Errno::LOOP) {
            return self.refused("lies behind links that lead nowhere");
        }
        match source.kind() {
            io::ErrorKind::NotADirectory => self.refused("lies in what is no directory"),
            io::ErrorKind::IsADirectory => self.refused("is a file and a directory"),
            io::ErrorKind::AlreadyExists => self.refused("lies behind a link that leads nowhere"),
            _ => UnpackError::Write {
                member: self.at.clone().unwrap_or_default(),
                source,
            },
        }
    }

    fn place(&self) -> String {
        match &self.at {
            Some(member) => format!("at or after {member:?}"),
            None => "at its start".to_owned(),
        }
    }
}

/// Normalises a name: parts other than `.`, joined by single slashes; empty for the root itself.
fn inside(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.starts_with(b"/") {
        return Err("begins with /");
    }
    let mut path: Vec<u8> = Vec::with_capacity(name.len());
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err("climbs by .."),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    Ok(path)
}

fn is_left_out(path: &[u8]) -> bool {
    const SECRETS: [&[u8]; 4] = [
        b"etc/shadow",
        b"etc/gshadow",
        b"etc/shadow-",
        b"etc/gshadow-",
    ];
    let top = path.split(|&byte| byte == b'/').next().unwrap_or_default();
    OURS.iter().any(|ours| ours.as_bytes() == top)
        || top == RECORD.as_bytes()
        || SECRETS.contains(&path)
}

/// The mode to write: readable for all, executable for all if it was for anybody, writable at most for root.
fn readable(mode: u32) -> u32 {
    let execute = if mode & 0o111 == 0 { 0 } else { 0o111 };
    mode & 0o200 | 0o444 | execute
}

#[cfg(test)]
mod tests;
