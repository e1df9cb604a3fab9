//! The base image: which one a directory uses, and whether its Python serves.
//!
//! `lambda/base.json` says it in one line, because the usual base (the host itself) is nothing that
//! lies in `lambda/`. Without that file `lambda/` is the image, as the original made it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use ol_warden::rootfs::{Base, PYTHONS};
use serde::{Deserialize, Serialize};

use super::error::DirectoryError;

/// The oldest Python that the guest program runs on.
const LEAST: PythonVersion = PythonVersion { major: 3, minor: 9 };

/// What may follow `-i`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseChoice {
    /// The host's own `/usr`.
    Host,
    /// A directory that holds a root file system; absolute.
    Dir(PathBuf),
    /// An image of the original's (`ol-min`, `ol-wasm`), which scripts name. `host` stands in for it.
    Image(String),
}

impl FromStr for BaseChoice {
    type Err = DirectoryError;

    fn from_str(text: &str) -> Result<Self, DirectoryError> {
        let refuse = |problem| DirectoryError::BaseUnknown {
            given: text.to_owned(),
            problem,
        };
        match text.split_once(':').unwrap_or((text, "")) {
            ("host", "") => Ok(Self::Host),
            ("ol-min" | "ol-wasm", "") => Ok(Self::Image(text.to_owned())),
            ("dir", "") => Err(refuse("names no directory")),
            ("dir", path) => std::path::absolute(path)
                .map(Self::Dir)
                .map_err(|_| refuse("can't be made an absolute path")),
            ("debian" | "tar" | "oci" | "docker", _) => Err(refuse("comes later")),
            _ => Err(refuse("is not understood")),
        }
    }
}

impl fmt::Display for BaseChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::Image(name) => f.write_str(name),
        }
    }
}

impl BaseChoice {
    /// What sandboxes are made of.
    pub(super) fn resolve(&self) -> Record {
        match self {
            Self::Host | Self::Image(_) => Record::Host,
            Self::Dir(path) => Record::Dir { path: path.clone() },
        }
    }
}

/// `base.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Record {
    /// `{"kind": "host"}`
    Host,
    /// `{"kind": "dir", "path": "/…"}`
    Dir {
        /// Absolute.
        path: PathBuf,
    },
}

impl From<Record> for Base {
    fn from(record: Record) -> Self {
        match record {
            Record::Host => Self::Host,
            Record::Dir { path } => Self::Directory(path),
        }
    }
}

/// The name of the record inside the directory `sock_base_path`.
pub(super) const RECORD: &str = "base.json";

/// What is recorded in `image`; `None` when there is no record.
pub(super) fn recorded(image: &Path) -> io::Result<Option<Record>> {
    match fs::read(image.join(RECORD)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The base that lies, or is recorded, at `image`; `root` is the worker directory, for the remedy.
pub(super) fn of(image: &Path, root: &Path) -> Result<Base, DirectoryError> {
    let record = recorded(image).map_err(|error| DirectoryError::BaseRecord {
        path: image.join(RECORD),
        problem: format!("can't be understood ({error})"),
        root: root.to_owned(),
    })?;
    let missing = |path: &Path| DirectoryError::BaseMissing {
        path: path.to_owned(),
        root: root.to_owned(),
    };
    match record {
        Some(Record::Dir { path }) if !path.is_dir() => Err(missing(&path)),
        Some(record) => Ok(record.into()),
        None if is_root_file_system(image) => Ok(Base::Directory(image.to_owned())),
        None => Err(missing(image)),
    }
}

fn is_root_file_system(image: &Path) -> bool {
    // Not followed: in an image, `bin` is often a link that means something only inside it.
    ["usr", "bin"]
        .iter()
        .any(|name| image.join(name).symlink_metadata().is_ok())
}

/// As `-i` would name it.
pub(super) fn describe(base: &Base) -> String {
    match base {
        Base::Host => "host".to_owned(),
        Base::Directory(path) => format!("dir:{}", path.display()),
    }
}

/// A Python's version, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PythonVersion {
    /// The 3 of 3.11.
    pub major: u32,
    /// The 11 of 3.11.
    pub minor: u32,
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Runs the base's Python and asks for its version: a file of that name proves nothing.
///
/// The place is the warden's, not that of `$PATH`, where the operator's own may stand. In a
/// directory it runs as nobody: whoever made the image is not root here.
///
/// # Errors
/// When there is none that serves.
pub fn python(base: &Base) -> Result<PythonVersion, DirectoryError> {
    let refuse = |problem: String| DirectoryError::Python {
        base: describe(base),
        problem,
    };
    let found = PYTHONS
        .iter()
        .find(|place| base.root().join(place).symlink_metadata().is_ok())
        .ok_or_else(|| refuse(format!("has neither /{} nor /{}", PYTHONS[0], PYTHONS[1])))?;
    let program = format!("/{found}");
    let mut command = match base {
        Base::Host => Command::new(&program),
        // Only root may change its root. Whoever isn't can't start a worker either: `up` will see.
        Base::Directory(_) if !rustix::process::geteuid().is_root() => return Ok(LEAST),
        Base::Directory(path) => {
            let mut chroot = Command::new("chroot");
            chroot.arg("--userspec=65534:65534").arg(path).arg(&program);
            chroot
        }
    };
    let output = command
        .args(["-I", "-S", "-c"])
        .arg("import sys; print('%d.%d' % sys.version_info[:2])")
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .output()
        .map_err(|error| refuse(format!("has a {program} that can't be run ({error})")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = output.status.success().then(|| parse(&said)).flatten();
    match version {
        Some(version) if version >= LEAST => Ok(version),
        Some(version) => Err(refuse(format!("has only Python {version}"))),
        None => {
            let why = String::from_utf8_lossy(&output.stderr);
            let why = why
                .lines()
                .last()
                .unwrap_or("it says no version")
                .to_owned();
            Err(refuse(format!("has a {program} that fails ({why})")))
        }
    }
}

fn parse(said: &str) -> Option<PythonVersion> {
    let (major, minor) = said.trim().split_once('.')?;
    Some(PythonVersion {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}
