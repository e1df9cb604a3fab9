//! Makes a version of code on this host: a tar.gz as it is, a directory packed on the fly, so that the same rules hold for both.
//!
//! The directory may belong to a user who may read less than the worker: links that this user puts into it during packing aren't followed.

use super::DirectError;
use crate::invoke::InvokeError;
use crate::settings::Settings;
use crate::version::{Version, VersionError};
use flate2::Compression;
use flate2::write::GzEncoder;
use ol_archive::{Beneath, EntryKind, open_regular};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Makes a version of what is at `path`. Blocking.
pub(super) fn prepare(settings: &Settings, path: &str) -> Result<Version, DirectError> {
    let at = Path::new(path);
    let absent = |why: &dyn std::fmt::Display| {
        DirectError::bad(format!(
            "code {path:?} can't be read: {why}; name a directory or a tar.gz that root without privileges can read"
        ))
    };
    if !at.is_absolute() {
        return Err(absent(&"it doesn't begin with /"));
    }
    let is_directory = at.metadata().map_err(|error| absent(&error))?.is_dir();
    let prepared = if is_directory {
        let directory = Beneath::open(at).map_err(|error| absent(&error))?;
        let (reader, writer) = io::pipe().map_err(|error| host(&error))?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(|| pack(&directory, writer));
            let prepared = Version::prepare(settings, reader);
            match packing.join() {
                // The pipe breaks when the version is refused; the refusal says why.
                Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(absent(&error)),
                _ => Ok(prepared),
            }
        })?
    } else {
        let file = open_regular(at).map_err(|error| absent(&error))?;
        Version::prepare(settings, file)
    };
    let mut version = prepared.map_err(|error| match error {
        VersionError::Bundle(why) => {
            DirectError::bad(format!("code {path:?} can't be used: {why}"))
        }
        VersionError::Host(why) => host(&why),
    })?;
    // In sock mode, `/run` makes one call at a time.
    version.config.concurrency = 1;
    Ok(version)
}

fn pack(directory: &Beneath, writer: io::PipeWriter) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(writer, Compression::none()));
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let listed = directory.list(&folder);
        for (path, kind) in listed.map_err(|error| told(&folder, &error))? {
            append(&mut archive, directory, &path, kind).map_err(|error| told(&path, &error))?;
            if kind == EntryKind::Directory {
                folders.push(path);
            }
        }
    }
    archive.into_inner()?.finish().map(drop)
}

fn append(
    archive: &mut tar::Builder<impl io::Write>,
    directory: &Beneath,
    path: &Path,
    kind: EntryKind,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o755);
    match kind {
        EntryKind::File => {
            let file = directory.file(path)?;
            let metadata = file.metadata()?;
            header.set_metadata(&metadata);
            // Exactly as many bytes as the header says, or the archive is broken from there on: a file that grew is cut, one that
            // shrank is refused.
            let content = file.take(metadata.len()).chain(Shrunk);
            archive.append_data(&mut header, path, content.take(metadata.len()))
        }
        EntryKind::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, path, io::empty())
        }
        // Refused with its name, like a link in a bundle.
        EntryKind::Link => {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, path, ".")
        }
        EntryKind::Other => {
            header.set_entry_type(tar::EntryType::Fifo);
            archive.append_data(&mut header, path, io::empty())
        }
    }
}

/// Read after the end of a file that has become shorter than its header says; gives an error.
struct Shrunk;

impl Read for Shrunk {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("it shrank while it was read; try again"))
    }
}

fn told(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn host(why: &dyn std::fmt::Display) -> DirectError {
    tracing::error!("code can't be unpacked: {why}");
    InvokeError::Internal("code can't be unpacked").into()
}
