//! Code on this host as a version: a tar.gz as it is, a directory packed on the way, so that the same rules hold for both.

use super::DirectError;
use crate::function::{Version, VersionError};
use crate::invoke::InvokeError;
use crate::settings::Settings;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io;
use std::path::Path;

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
        at.read_dir().map_err(|error| absent(&error))?;
        let (reader, writer) = io::pipe().map_err(|error| host(&error))?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(|| pack(at, writer));
            let prepared = Version::prepare(settings, reader);
            match packing.join() {
                // The pipe breaks when the version is refused; that says why.
                Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(absent(&error)),
                _ => Ok(prepared),
            }
        })?
    } else {
        let file = File::open(at).map_err(|error| absent(&error))?;
        Version::prepare(settings, file)
    };
    let mut version = prepared.map_err(|error| match error {
        VersionError::Bundle(why) => {
            DirectError::bad(format!("code {path:?} can't be used: {why}"))
        }
        VersionError::Host(why) => host(&why),
    })?;
    // One call at a time is what /run does.
    version.config.concurrency = 1;
    Ok(version)
}

fn pack(directory: &Path, writer: io::PipeWriter) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(writer, Compression::none()));
    // A link is refused by its name, like one in a bundle.
    archive.follow_symlinks(false);
    archive.append_dir_all(".", directory)?;
    archive.into_inner()?.finish().map(drop)
}

fn host(why: &dyn std::fmt::Display) -> DirectError {
    tracing::error!("code can't be unpacked: {why}");
    InvokeError::Internal("code can't be unpacked").into()
}
