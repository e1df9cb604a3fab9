//! This machine's variables and files, read through functions that tests replace by texts.

use std::io;
use std::path::{Path, PathBuf};

use super::IndexError;

/// The longest file of settings that is read, in bytes; a bundle of certificates has a quarter of a MiB.
const LONGEST: u64 = 8 << 20;

/// Access to a machine's variables and files.
pub struct Host<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

impl std::fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Host<'static> {
    /// The machine that this process runs on, with its variables.
    #[must_use]
    pub fn real() -> Self {
        Self {
            variable: &|name| std::env::var(name).ok(),
            read: &read_bounded,
        }
    }
}

impl<'a> Host<'a> {
    /// A machine made of two functions, for tests.
    #[must_use]
    pub fn new(
        variable: &'a dyn Fn(&str) -> Option<String>,
        read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Self {
        Self { variable, read }
    }

    /// A variable's value; `None` if it is unset or blank.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let value = (self.variable)(name)?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    }

    /// The first of these that is set, with its name.
    pub(super) fn first_variable(&self, names: &[&str]) -> Option<(String, String)> {
        names
            .iter()
            .find_map(|name| Some(((*name).to_owned(), self.variable(name)?)))
    }

    /// The user's home, where there is one.
    pub(super) fn home(&self) -> Option<PathBuf> {
        self.variable("HOME").map(PathBuf::from)
    }

    /// The folder of the user's settings.
    pub(super) fn config_home(&self) -> Option<PathBuf> {
        self.variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(self.home()?.join(".config")))
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        (self.read)(path)
    }

    /// Reads an optional file of settings as text.
    ///
    /// A file that exists and can't be read is an error: continuing without it would use another index than the operator chose.
    pub(super) fn settings(&self, path: &Path) -> Result<Option<String>, IndexError> {
        match (self.read)(path) {
            Ok(bytes) => String::from_utf8(bytes)
                .map(Some)
                .map_err(|_| "is not UTF-8".to_owned()),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(format!("can't be read: {error}")),
            },
        }
        .map_err(|what| IndexError::File {
            path: path.to_owned(),
            what,
        })
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 8 MiB"));
    }
    Ok(bytes)
}

/// Hosts made of texts, for the tests of this module.
#[cfg(test)]
pub(super) mod texts {
    use std::collections::HashMap;
    use std::io;
    use std::path::Path;

    use crate::index::{Index, IndexError, Wanted};

    use super::Host;

    /// The index of a machine with these variables and files.
    pub(in crate::index) fn index(
        mirror: &str,
        variables: &[(&str, &str)],
        files: &[(&str, &str)],
    ) -> Result<Index, IndexError> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let files: HashMap<_, _> = files.iter().copied().collect();
        let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        let read = |path: &Path| {
            let text = files.get(path.to_str().expect("the tests' own"));
            text.map(|text| text.as_bytes().to_vec())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        let wanted = Wanted {
            mirror,
            package_hosts: &[],
        };
        Index::of(&Host::new(&variable, &read), &wanted)
    }
}
