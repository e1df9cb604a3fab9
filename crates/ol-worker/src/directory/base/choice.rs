//! The choice of a base image, as given after `-i`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::super::error::DirectoryError;
use super::debian;

/// Where a base image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseChoice {
    /// The host's own `/usr`.
    Host,
    /// A directory that holds a root file system; absolute.
    Dir(PathBuf),
    /// An archive of a root file system; absolute.
    Tar(PathBuf),
    /// A release of Debian, by its code name.
    Debian(String),
    /// An image of the local Docker engine.
    Docker(String),
    /// An image of the original worker (`ol-min`, `ol-wasm`), which scripts name. If the local Docker engine doesn't have it, `host` is
    /// used.
    Image(String),
}

impl FromStr for BaseChoice {
    type Err = DirectoryError;

    fn from_str(text: &str) -> Result<Self, DirectoryError> {
        let refuse = |problem| DirectoryError::BaseUnknown {
            given: text.to_owned(),
            problem,
        };
        let absolute = |path: &str, absent: &'static str| match path {
            "" => Err(refuse(absent)),
            path => std::path::absolute(path).map_err(|_| refuse("can't be made an absolute path")),
        };
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        match (kind, rest) {
            ("host", None) => Ok(Self::Host),
            ("ol-min" | "ol-wasm", None) => Ok(Self::Image(text.to_owned())),
            ("debian", None) => Ok(Self::Debian(debian::DEFAULT_SUITE.to_owned())),
            // These become arguments of other programs, thus must not look like options.
            ("debian", Some(suite)) if is_word(suite, b"-") => Ok(Self::Debian(suite.to_owned())),
            ("debian", _) => Err(refuse("names no release of Debian, such as `bookworm`")),
            ("docker", Some(image)) if is_word(image, b"-_./:@") => {
                Ok(Self::Docker(image.to_owned()))
            }
            ("docker", _) => Err(refuse("names no Docker image")),
            ("dir", rest) => absolute(rest.unwrap_or(""), "names no directory").map(Self::Dir),
            ("tar", rest) => absolute(rest.unwrap_or(""), "names no file").map(Self::Tar),
            ("oci", _) => Err(refuse("is not supported yet")),
            _ => Err(refuse("is not understood")),
        }
    }
}

/// Whether `text` consists of letters, digits and `others`, and begins with a letter or digit.
fn is_word(text: &str, others: &[u8]) -> bool {
    text.as_bytes()
        .first()
        .is_some_and(u8::is_ascii_alphanumeric)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
}

impl fmt::Display for BaseChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::Tar(path) => write!(f, "tar:{}", path.display()),
            Self::Debian(suite) => write!(f, "debian:{suite}"),
            Self::Docker(image) => write!(f, "docker:{image}"),
            Self::Image(name) => f.write_str(name),
        }
    }
}

impl BaseChoice {
    /// Whether a base image that is recorded as `source` satisfies this choice.
    #[must_use]
    pub fn is(&self, source: &str) -> bool {
        source == self.to_string() || matches!(self, Self::Image(_)) && source == "host"
    }

    /// Checks what can be known before a running worker is stopped and anything is written.
    ///
    /// # Errors
    /// When something that the choice needs isn't there.
    pub fn check(&self) -> Result<(), DirectoryError> {
        let refuse = |problem| {
            Err(DirectoryError::BaseUnknown {
                given: self.to_string(),
                problem,
            })
        };
        match self {
            Self::Dir(path) if !path.is_dir() => refuse("is no directory"),
            // `dir:/` would give sandboxes the whole host; `host` gives only its programs.
            Self::Dir(path) if path.canonicalize().is_ok_and(|path| path == Path::new("/")) => {
                refuse("would show sandboxes the whole host")
            }
            Self::Tar(path) if !path.is_file() => refuse("is no file"),
            Self::Debian(_) => debian::check(),
            _ => Ok(()),
        }
    }
}
