//! Turns an archive into files, or says which member it won't take.
//!
//! Nothing in an archive is trusted: anybody who can upload a function can upload any bundle, a package's archive comes from the
//! sandbox in which its installer ran, and the worker unpacks both with its own rights. Each member passes four checks, in this order:
//!
//! ```text
//!   gauge      not too much, not too dense       (while the bytes come out)
//!   extension  not too long, not ambiguous       (headers about the next header)
//!   member     a file or a directory, beneath    (what the header says)
//!   tree       a new file, by openat2(2)         (what the kernel lets through)
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};
use tar::{Archive, Header};

use super::extension::{Extension, ExtensionError, Pending};
use super::gauge::{Gauge, Metered, Stop};
use super::limits::ExtractLimits;
use super::member::{MemberKind, MemberPath, shown};
use super::refusal::{ExtractError, Refusal};
use super::tree::{EntryBudget, Tree, TreeError};

/// What was unpacked of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extracted {
    /// Files and directories made.
    pub entries: u64,
    /// Bytes of the files together.
    pub bytes: u64,
}

/// Unpacks `bundle` (a tar.gz) into `into`, an existing empty directory. Blocking.
///
/// Files are 0644, or 0755 when anybody may execute them, directories 0755; owners, attributes and
/// setuid bits are dropped. Modification times of files are kept: Python compares them with those in
/// a bundled `__pycache__` and would compile everything anew at each start.
///
/// # Errors
/// When the bundle is refused or this host can't read or write; what was written so far stays in
/// `into`, for the caller to remove. Nothing is synced: after a crash, unpack again.
pub fn extract(
    bundle: impl Read,
    into: &Path,
    limits: &ExtractLimits,
) -> Result<Extracted, ExtractError> {
    let gauge = Gauge::default();
    unpack(Metered::gzip(bundle, &gauge, limits), &gauge, into, limits)
}

/// [`extract`] for a plain tar, that is, not packed. Reads `archive` to its end.
///
/// # Errors
/// Those of [`extract`].
pub fn extract_tar(
    archive: impl Read,
    into: &Path,
    limits: &ExtractLimits,
) -> Result<Extracted, ExtractError> {
    let gauge = Gauge::default();
    unpack(
        Metered::plain(archive, &gauge, limits),
        &gauge,
        into,
        limits,
    )
}

fn unpack<R: Read>(
    stream: Metered<'_, R>,
    gauge: &Gauge,
    into: &Path,
    limits: &ExtractLimits,
) -> Result<Extracted, ExtractError> {
    let tree = Tree::open(into, EntryBudget::new(limits.entries))
        .map_err(|source| ExtractError::Into { source })?;
    let mut unpacking = Unpacking {
        limits,
        gauge,
        tree,
        members: 0,
        bytes: 0,
        at: None,
        buffer: vec![0; 64 << 10],
    };
    let mut archive = Archive::new(stream);
    unpacking.members(&mut archive)?;
    unpacking.end(archive.into_inner())?;
    Ok(Extracted {
        entries: unpacking.tree.made(),
        bytes: unpacking.bytes,
    })
}

struct Unpacking<'a> {
    limits: &'a ExtractLimits,
    gauge: &'a Gauge,
    tree: Tree,
    members: u64,
    bytes: u64,
    /// The name of the present member, as errors show it.
    at: Option<String>,
    buffer: Vec<u8>,
}

impl Unpacking<'_> {
    fn members<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<(), ExtractError> {
        let entries = archive.entries().map_err(|_| self.broken())?;
        let mut pending = Pending::default();
        for entry in entries.raw(true) {
            let mut entry = entry.map_err(|_| self.broken())?;
            let header = entry.header().clone();
            let own_name = header.path_bytes();
            let size = entry.size();
            if let Some(extension) = Extension::of(header.entry_type()) {
                self.at = Some(shown(&own_name));
                if extension == Extension::PaxGlobal {
                    self.count()?;
                }
                pending
                    .take(extension, size, &mut entry)
                    .map_err(|error| match error {
                        ExtensionError::Refused(why) => self.refused(why),
                        ExtensionError::Broken => self.broken(),
                    })?;
                continue;
            }
            let extensions = std::mem::take(&mut pending);
            let name = extensions.name(&own_name);
            self.at = Some(shown(name.as_deref().unwrap_or(&own_name)));
            self.count()?;
            let name = name.map_err(|why| self.refused(why))?;
            extensions.check(size).map_err(|why| self.refused(why))?;
            self.member(&header, &name, size, &mut entry)?;
        }
        if !pending.is_empty() {
            return Err(ExtractError::CutShort {
                place: self.place(),
            });
        }
        Ok(())
    }

    /// Unpacks one member, whose name is known and whose extensions were checked.
    fn member(
        &mut self,
        header: &Header,
        name: &[u8],
        size: u64,
        contents: &mut impl Read,
    ) -> Result<(), ExtractError> {
        let kind = MemberKind::of(header.entry_type(), name).map_err(|why| self.refused(why))?;
        let path = MemberPath::parse(name, self.limits.depth).map_err(|why| self.refused(why))?;
        match kind {
            MemberKind::Directory if size != 0 => Err(self.refused(Refusal::DirectoryWithContents)),
            MemberKind::Directory => {
                let made = self.tree.directory(&path);
                made.map_err(|error| self.unplaced(error))
            }
            MemberKind::File => {
                // Checked against the size in the header, so that nothing is written of a file that can't fit.
                if size > self.limits.bytes.saturating_sub(self.bytes) {
                    return Err(self.refused(Refusal::Bytes(self.limits.bytes)));
                }
                self.bytes += size;
                // A member without a readable mode is not refused: the mode only decides whether the file is executable.
                let executable = header.mode().unwrap_or(0) & 0o111 != 0;
                let file = self.tree.file(&path, executable);
                let mut file = file.map_err(|error| self.unplaced(error))?;
                self.copy(contents, &mut file, size)?;
                if let Ok(mtime) = header.mtime() {
                    keep_time(&file, mtime).map_err(|source| self.unwritten(source))?;
                }
                Ok(())
            }
        }
    }

    /// Copies a member's contents to `file`. `io::copy` won't do: its error doesn't say whether the bundle or the disk failed.
    fn copy(
        &mut self,
        contents: &mut impl Read,
        file: &mut File,
        size: u64,
    ) -> Result<(), ExtractError> {
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX);
            let want = want.min(self.buffer.len());
            let read = match contents.read(&mut self.buffer[..want]) {
                Ok(0) | Err(_) => return Err(self.broken()),
                Ok(read) => read,
            };
            left -= read as u64;
            let written = file.write_all(&self.buffer[..read]);
            written.map_err(|source| self.unwritten(source))?;
        }
        Ok(())
    }

    /// Checks what follows the last member: there must be an end marker, and only padding behind it.
    fn end(&mut self, mut rest: impl Read) -> Result<(), ExtractError> {
        // The tar reader stops at the end marker, or at the end of the stream. In the latter case there was no marker: the
        // bundle may have been cut between two members.
        if self.gauge.ended() {
            return Err(ExtractError::CutShort {
                place: self.place(),
            });
        }
        loop {
            // Reads to the very end, since only there the gzip checksums are compared.
            let read = match rest.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(_) => return Err(self.broken()),
            };
            if self.buffer[..read].iter().any(|&byte| byte != 0) {
                return Err(ExtractError::TrailingData {
                    place: self.place(),
                });
            }
        }
    }

    /// Counts members separately, since the same directory may occur any number of times without anything being made.
    fn count(&mut self) -> Result<(), ExtractError> {
        self.members += 1;
        if self.members > self.limits.entries {
            return Err(self.refused(Refusal::Entries(self.limits.entries)));
        }
        Ok(())
    }

    /// The error for an archive that can't be read further: what the gauge noted, else the archive itself is damaged.
    fn broken(&self) -> ExtractError {
        let place = self.place();
        match self.gauge.take_stop() {
            Some(Stop::Source(source)) => ExtractError::Read { source },
            Some(Stop::CutShort) => ExtractError::CutShort { place },
            Some(Stop::NotGzip) => ExtractError::NotGzip { place },
            Some(Stop::Bytes) => self.refused(Refusal::Bytes(self.limits.bytes)),
            Some(Stop::Ratio) => self.refused(Refusal::Ratio(self.limits.ratio)),
            None if self.gauge.ended() => ExtractError::CutShort { place },
            None => ExtractError::NotTar { place },
        }
    }

    fn refused(&self, why: Refusal) -> ExtractError {
        ExtractError::Refused {
            member: self.at.clone().unwrap_or_default(),
            why,
        }
    }

    fn unplaced(&self, error: TreeError) -> ExtractError {
        match error {
            TreeError::FileThere => self.refused(Refusal::Twice),
            TreeError::FileAndDirectory => self.refused(Refusal::FileAndDirectory),
            TreeError::NoneLeft => self.refused(Refusal::Entries(self.limits.entries)),
            TreeError::Io(source) => self.unwritten(source),
        }
    }

    fn unwritten(&self, source: io::Error) -> ExtractError {
        ExtractError::Write {
            member: self.at.clone().unwrap_or_default(),
            source,
        }
    }

    fn place(&self) -> String {
        match &self.at {
            Some(member) => format!("at or after member \"{member}\""),
            None => "at its start".to_owned(),
        }
    }
}

/// Sets the modification time; ignores one that is out of range.
fn keep_time(file: &File, mtime: u64) -> io::Result<()> {
    let Ok(tv_sec) = i64::try_from(mtime) else {
        return Ok(());
    };
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec { tv_sec, tv_nsec: 0 },
    };
    Ok(rustix::fs::futimens(file, &times)?)
}
