//! Checks that a base image's Python can run functions.

use std::fmt;
use std::process::{Command, Stdio};

use ol_warden::rootfs::{Base, PYTHONS};

use super::super::error::DirectoryError;

/// The oldest Python that the guest program runs on.
const LEAST: PythonVersion = PythonVersion { major: 3, minor: 9 };
/// A Python's major and minor version.
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

/// Runs the base image's Python and returns its version. The mere existence of the file would prove nothing.
///
/// The program is the one that the warden starts, not the first in `$PATH`, which may be the operator's own. In an image (not the host's
/// base) it runs as nobody, since whoever made the image must not become root here. Errors call the base `named`.
///
/// # Errors
/// When there is no Python that works.
pub fn python(base: &Base, named: &str) -> Result<PythonVersion, DirectoryError> {
    let refuse = |problem: String| DirectoryError::Python {
        base: named.to_owned(),
        problem,
    };
    let found = PYTHONS
        .iter()
        .find(|place| base.root().join(place).symlink_metadata().is_ok())
        .ok_or_else(|| refuse(format!("has neither /{} nor /{}", PYTHONS[0], PYTHONS[1])))?;
    let program = format!("/{found}");
    let mut command = match base {
        Base::Host => Command::new(&program),
        // Only root may chroot. Without root no worker can be started either, thus the check is left to `up`.
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
