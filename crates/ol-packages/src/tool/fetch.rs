//! Downloads uv's wheel and takes the program out of it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use zip::ZipArchive;

use super::release::{Release, newest};
use super::{Progress, ToolError};
use crate::index::{Client, FileLink, Index};

/// The largest wheel and the largest program that are accepted, in bytes; uv is 40 MB, its wheel half of that.
const LARGEST: u64 = 200 << 20;
/// Time to download the whole wheel.
const PATIENCE: Duration = Duration::from_secs(300);
const STEP: usize = 256 << 10;

/// Fetches the newest release of the supported series into `dir/uv-VERSION/uv`. The caller holds the lock on `dir`.
pub(super) fn fetch(
    dir: &Path,
    index: &Index,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Release, PathBuf), ToolError> {
    progress(Progress::Asking);
    let client = Client::new(index);
    let page = client.page("uv")?;
    let name = index.default.to_string();
    let page = page.ok_or_else(|| ToolError::NoProject {
        index: name.clone(),
    })?;
    let processor = std::env::consts::ARCH;
    let (release, file) = newest(&page, processor).map_err(|has| ToolError::NoWheel {
        index: name,
        platform: format!("Linux on {processor}"),
        has,
    })?;
    let part = Part::new(dir.join(format!("uv-{release}.part")))?;
    let wheel = part.0.join("wheel");
    download(&client, file, &wheel, progress)?;
    unpack(&wheel, release, &file.filename, &part.0.join("uv"))?;
    let _ = fs::remove_file(&wheel);
    let path = part.keep(&dir.join(format!("uv-{release}")))?;
    Ok((release, path))
}

/// A folder being filled; dropping it removes it unless [`Part::keep`] was called.
struct Part(PathBuf);

impl Part {
    fn new(path: PathBuf) -> Result<Self, ToolError> {
        // Left by a crash: nobody else makes one while we hold the lock.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).map_err(disk(&path))?;
        Ok(Self(path))
    }

    /// Renames it to its final name in one step.
    fn keep(self, to: &Path) -> Result<PathBuf, ToolError> {
        // If `to` exists, its program isn't usable; otherwise it would have been found.
        let _ = fs::remove_dir_all(to);
        let synced = File::open(&self.0).and_then(|folder| folder.sync_all());
        synced
            .and_then(|()| fs::rename(&self.0, to))
            .map_err(disk(to))?;
        if let Some(parent) = to.parent() {
            File::open(parent)
                .and_then(|folder| folder.sync_all())
                .map_err(disk(parent))?;
        }
        Ok(to.join("uv"))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After `keep` the folder no longer exists here.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn download(
    client: &Client,
    file: &FileLink,
    to: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ToolError> {
    let name = &file.filename;
    let promised = file
        .sha256
        .clone()
        .ok_or_else(|| ToolError::NoHash { file: name.clone() })?;
    let (mut body, of) = client.file(file, PATIENCE)?;
    let mut out = File::create(to).map_err(disk(to))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; STEP]);
    loop {
        let broke_off = |why: String| ToolError::BrokeOff {
            file: name.clone(),
            bytes,
            why,
        };
        let read = body
            .read(&mut buffer)
            .map_err(|error| broke_off(error.to_string()))?;
        if read == 0 {
            break;
        }
        if bytes + read as u64 > LARGEST {
            return Err(ToolError::NotUv {
                file: name.clone(),
                why: format!("it is longer than {} MiB", LARGEST >> 20),
            });
        }
        hash.update(&buffer[..read]);
        out.write_all(&buffer[..read]).map_err(disk(to))?;
        bytes += read as u64;
        progress(Progress::Downloading {
            file: name.clone(),
            bytes,
            of,
        });
    }
    let found: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if found != promised {
        return Err(ToolError::WrongHash {
            file: name.clone(),
            promised,
            found,
        });
    }
    Ok(())
}

fn unpack(wheel: &Path, release: Release, name: &str, to: &Path) -> Result<(), ToolError> {
    let not_uv = |why: String| ToolError::NotUv {
        file: name.to_owned(),
        why,
    };
    let file = File::open(wheel).map_err(disk(wheel))?;
    let mut archive = ZipArchive::new(file).map_err(|error| not_uv(error.to_string()))?;
    let inside = format!("uv-{release}.data/scripts/uv");
    let member = archive
        .by_name(&inside)
        .map_err(|_| not_uv(format!("it holds no {inside}")))?;
    // This path is chosen here, not by the archive, and only this one member is unpacked.
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(to)
        .map_err(disk(to))?;
    // Sandboxes execute the file, thus its mode must not depend on the umask.
    out.set_permissions(Permissions::from_mode(0o755))
        .map_err(disk(to))?;
    let copied = io::copy(&mut member.take(LARGEST + 1), &mut out);
    let copied = copied.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => disk(to)(error),
        _ => not_uv(error.to_string()),
    })?;
    if copied > LARGEST {
        return Err(not_uv(format!(
            "its program is longer than {} MiB",
            LARGEST >> 20
        )));
    }
    out.sync_all().map_err(disk(to))
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> ToolError + use<> {
    let path = path.to_owned();
    move |source| ToolError::Disk { path, source }
}
