//! Looks for uv on this host, and fetches it if there is none.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use super::release::Release;
use super::{ToolError, fetch};
use crate::index::Index;

/// How far [`Uv::find_or_fetch`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// uv was found; nothing is fetched.
    Found(PathBuf),
    /// The index is being asked.
    Asking,
    /// A wheel is being downloaded.
    Downloading {
        /// The wheel.
        file: String,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all, if the server says so.
        of: Option<u64>,
    },
}

/// The installer: one self-contained program, which runs in a sandbox as on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uv {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub release: Release,
}

impl Uv {
    /// Takes uv from `PATH` or `dir`, or else fetches it into `dir`. Blocking.
    ///
    /// If several callers need to fetch at once, even in different processes, one fetches and the others wait.
    ///
    /// # Errors
    /// When the index can't be reached, has no uv for this machine, lists no hash or a wrong one, the disk is full, …
    pub fn find_or_fetch(
        dir: &Path,
        index: &Index,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, ToolError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path);
        Self::find_in(folders, dir, index, progress)
    }

    /// Does the same with another `PATH`.
    ///
    /// # Errors
    /// As [`Uv::find_or_fetch`].
    pub fn find_in(
        path: impl Iterator<Item = PathBuf>,
        dir: &Path,
        index: &Index,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, ToolError> {
        let mut there = path
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join("uv"));
        if let Some(found) = there.find_map(|path| Self::at(&path).ok()) {
            progress(Progress::Found(found.path.clone()));
            return Ok(found);
        }
        let disk = |path: &Path| {
            let path = path.to_owned();
            move |source| ToolError::Disk { path, source }
        };
        fs::create_dir_all(dir).map_err(disk(dir))?;
        if let Some(found) = Self::kept_in(dir) {
            progress(Progress::Found(found.path.clone()));
            return Ok(found);
        }
        let lock_path = dir.join("uv.lock");
        let lock = File::create(&lock_path).map_err(disk(&lock_path))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| disk(&lock_path)(error.into()))?;
        // Another process may have fetched it while we waited for the lock.
        if let Some(found) = Self::kept_in(dir) {
            progress(Progress::Found(found.path.clone()));
            return Ok(found);
        }
        let (release, path) = fetch::fetch(dir, index, progress)?;
        Self::fetched(&path, release).map_err(|why| ToolError::NotAProgram { path, why })
    }

    /// The newest release that was fetched before.
    fn kept_in(dir: &Path) -> Option<Self> {
        let entries = fs::read_dir(dir).ok()?.filter_map(Result::ok);
        let mut releases: Vec<Release> = entries
            .filter_map(|entry| Release::parse(entry.file_name().to_str()?.strip_prefix("uv-")?))
            .filter(|release| release.is_known())
            .collect();
        releases.sort_unstable();
        releases
            .into_iter()
            .rev()
            .find_map(|release| Self::fetched(&dir.join(format!("uv-{release}/uv")), release).ok())
    }

    /// The program at `path`, which was fetched as `release`.
    ///
    /// It isn't run to ask its version: the index is trusted with what runs in sandboxes, not with what runs as the worker.
    fn fetched(path: &Path, release: Release) -> Result<Self, String> {
        let path = native(path)?;
        Ok(Self { path, release })
    }

    /// The program at `path`, if it is native, runs, and belongs to the supported series.
    fn at(path: &Path) -> Result<Self, String> {
        let path = native(path)?;
        let said = Command::new(&path)
            .arg("--version")
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&said.stdout);
        let release = text
            .strip_prefix("uv ")
            .and_then(|rest| Release::parse(rest.split_whitespace().next()?));
        match release {
            Some(release) if release.is_known() => Ok(Self { path, release }),
            Some(other) => Err(format!("it is version {other}")),
            None => Err(format!("it says {:?} of its version", text.trim())),
        }
    }
}

/// The real path of a native program. Scripts are refused: one would only look for another program.
fn native(path: &Path) -> Result<PathBuf, String> {
    let path = fs::canonicalize(path).map_err(|error| error.to_string())?;
    let mut magic = [0; 4];
    let read = File::open(&path).and_then(|mut file| file.read_exact(&mut magic));
    if read.is_err() || magic != *b"\x7fELF" {
        return Err("it is not a native program".to_owned());
    }
    Ok(path)
}
