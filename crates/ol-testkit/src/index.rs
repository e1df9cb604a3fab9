//! A package index for tests, on a port of this machine: honest, broken or hostile, as the test wants.
//!
//! ```text
//!   wheel("m", "1.0").file(…).build() ─┐
//!   sdist("s", "1.0").hostile(…)      ─┼─▶ PackageIndex ◀── /simple/NAME/, /files/NAME ── installers
//!   PyPI, each file fetched once      ─┘        └ counts requests, misbehaves per project
//! ```
//!
//! - [`wheel`]: wheels made in memory, also invalid ones
//! - [`sdist`]: sources whose `setup.py` does harm
//! - [`server`]: serves them as HTML (PEP 503) or JSON (PEP 691)
//! - [`mischief`]: the ways in which an index can misbehave
//! - [`pypi`]: the real index; what was fetched once is kept in a folder
//! - [`uv`]: the installer, fetched from there once per machine

pub mod mischief;
pub mod pypi;
pub mod sdist;
pub mod server;
pub mod uv;
pub mod wheel;

pub use mischief::{Gate, Mischief};
pub use pypi::pypi_wheel;
pub use sdist::{Hostile, Sdist, sdist};
pub use server::PackageIndex;
pub use uv::uv;
pub use wheel::{Wheel, wheel};

/// A file that an index can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dist {
    /// The project, normalised.
    pub project: String,
    /// Like `m-1.0-py3-none-any.whl`.
    pub filename: String,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Dist {
    /// Its SHA-256 in hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> String {
        use sha2::Digest as _;
        hex(&sha2::Sha256::digest(&self.bytes))
    }

    /// The metadata in a wheel.
    #[must_use]
    pub fn metadata(&self) -> Option<Vec<u8>> {
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&self.bytes)).ok()?;
        let name = archive
            .file_names()
            .filter_map(Result::ok)
            .find(|name| name.ends_with(".dist-info/METADATA"))?
            .into_owned();
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut archive.by_name(&name).ok()?, &mut text).ok()?;
        Some(text)
    }
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A project's name as indexes write it.
#[must_use]
pub fn normalised(name: &str) -> String {
    let parts: Vec<&str> = name
        .split(['-', '_', '.'])
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("-").to_ascii_lowercase()
}
