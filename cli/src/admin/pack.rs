//! Packs a directory as a bundle: decides which files belong to it, and writes the tar.gz.
//!
//! The same files make the same bytes, on any machine and any day: names are sorted, owners and times are left out. Thus a worker that gets
//! the same bundle again sees nothing new.
//!
//! What the worker would refuse is refused here, with its name in the directory: links (they could lead out of it) and anything that is
//! neither file nor directory. This program may run as root on somebody else's directory, thus a file that is replaced by a link after it
//! was listed isn't followed either.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use ol_archive::{Beneath, EntryKind, open_regular};
use tar::{Builder, EntryType, Header};

use super::check::Files;

/// Names that are left out at any depth: they are for developing the function, and Python's caches contain other times than those in the
/// bundle.
const SKIPPED: [&str; 3] = [".git", ".venv", "__pycache__"];

/// The time of every member: 1 January 1980, the earliest that a zip made from the files can hold.
const TIME: u64 = 315_532_800;

/// The most bytes of a text that are read for checking.
pub(super) const TEXT_BYTES: u64 = 1 << 20;

/// The members of a bundle and where their contents are.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The directory that the bundle is made from, if any.
    source: Option<Beneath>,
    /// By their path in the bundle, without a trailing slash.
    members: BTreeMap<PathBuf, Member>,
}

#[derive(Debug, PartialEq, Eq)]
enum Member {
    Directory,
    /// A file of the directory, at the same path.
    File,
    /// Another file, named by the operator.
    Named(PathBuf),
    Text(String),
}

impl Bundle {
    /// Lists the files of the directory `source`.
    pub(super) fn collect(source: &Path) -> Result<Self> {
        let metadata = fs::metadata(source);
        let metadata = metadata.with_context(|| {
            format!(
                "failed to find the directory {}; check its name",
                source.display()
            )
        })?;
        if !metadata.is_dir() {
            bail!(
                "{} is no directory; give the one that holds the function",
                source.display()
            );
        }
        let unread = || format!("failed to read {}; check that you may", source.display());
        let opened = Beneath::open(source).with_context(unread)?;
        let mut members = BTreeMap::new();
        walk(&opened, Path::new(""), &mut members)?;
        Ok(Self {
            source: Some(opened),
            members,
        })
    }

    /// A bundle of files given as name and text.
    pub(crate) fn of_texts(files: &[(&str, &str)]) -> Self {
        let member =
            |(name, text): &(&str, &str)| (PathBuf::from(name), Member::Text((*text).to_owned()));
        Self {
            source: None,
            members: files.iter().map(member).collect(),
        }
    }

    /// Uses the content of `file` for the member `name`, which may be new.
    pub(super) fn replace(&mut self, name: &str, file: &Path) -> Result<()> {
        if !file.is_file() {
            bail!("{} is no file; check its name", file.display());
        }
        // A link is fine here, because the operator named the file.
        let file = file.canonicalize();
        let file = file.with_context(|| format!("failed to find what should be {name}"))?;
        self.members
            .insert(PathBuf::from(name), Member::Named(file));
        Ok(())
    }

    /// How many files it has.
    pub(super) fn files(&self) -> usize {
        let is_file = |member: &&Member| !matches!(member, Member::Directory);
        self.members.values().filter(is_file).count()
    }

    /// The tar.gz.
    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        // The fast level makes source code nearly as small as the default, in a third of the time.
        let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, member) in &self.members {
            self.append(&mut archive, path, member).with_context(|| {
                format!(
                    "failed to pack {}; check that you may read it",
                    path.display()
                )
            })?;
        }
        archive
            .into_inner()
            .and_then(GzEncoder::finish)
            .context("failed to finish the bundle")
    }

    /// The content of a member that is a file.
    fn open(&self, path: &Path, member: &Member) -> io::Result<File> {
        match (member, &self.source) {
            (Member::Named(file), _) => open_regular(file),
            (_, Some(source)) => source.file(path),
            (_, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn append(
        &self,
        archive: &mut Builder<impl io::Write>,
        path: &Path,
        member: &Member,
    ) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mtime(TIME);
        header.set_uid(0);
        header.set_gid(0);
        match member {
            Member::Directory => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                archive.append_data(&mut header, path, io::empty())
            }
            Member::Text(text) => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(0o644);
                header.set_size(text.len() as u64);
                archive.append_data(&mut header, path, text.as_bytes())
            }
            Member::File | Member::Named(_) => {
                let file = self.open(path, member)?;
                let metadata = file.metadata()?;
                let executable = metadata.permissions().mode() & 0o111 != 0;
                header.set_entry_type(EntryType::Regular);
                header.set_mode(if executable { 0o755 } else { 0o644 });
                header.set_size(metadata.len());
                let content = Exactly {
                    file,
                    left: metadata.len(),
                };
                archive.append_data(&mut header, path, content)
            }
        }
    }
}

/// Lists everything in and below `folder`, a path beneath `source`.
fn walk(source: &Beneath, folder: &Path, members: &mut BTreeMap<PathBuf, Member>) -> Result<()> {
    let unread = || {
        format!(
            "failed to read {}; check that you may",
            Path::new(".").join(folder).display()
        )
    };
    for (path, kind) in source.list(folder).with_context(unread)? {
        if SKIPPED.iter().any(|skipped| path.ends_with(skipped)) {
            continue;
        }
        match kind {
            EntryKind::Directory => {
                members.insert(path.clone(), Member::Directory);
                walk(source, &path, members)?;
            }
            EntryKind::File => {
                members.insert(path, Member::File);
            }
            EntryKind::Link => bail!(
                "{} is a symbolic link, which a bundle can't hold; replace it by what it points to",
                path.display()
            ),
            EntryKind::Other => bail!(
                "{} is neither a file nor a directory; move it out of the function's directory",
                path.display()
            ),
        }
    }
    Ok(())
}

impl Files for Bundle {
    fn has_file(&self, name: &str) -> bool {
        let member = self.members.get(Path::new(name));
        matches!(
            member,
            Some(Member::File | Member::Named(_) | Member::Text(_))
        )
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        let member = match self.members.get(Path::new(name)) {
            Some(member @ (Member::File | Member::Named(_))) => member,
            Some(Member::Text(text)) => return Ok(Some(text.clone())),
            Some(Member::Directory) | None => return Ok(None),
        };
        let mut text = String::new();
        let read = self
            .open(Path::new(name), member)
            .and_then(|file| file.take(TEXT_BYTES).read_to_string(&mut text));
        read.with_context(|| format!("failed to read {name} as text"))?;
        Ok(Some(text))
    }
}

/// Reads exactly as many bytes as the header promises, or fails. Otherwise the archive would be broken from there on, which only the worker
/// would notice.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX);
        let want = want.min(buffer.len());
        let read = self.file.read(&mut buffer[..want])?;
        if read == 0 && want > 0 {
            return Err(io::Error::other("it shrank while it was read; try again"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
