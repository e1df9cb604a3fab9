//! The source of `ol admin install`: a directory, a packed function, or a git repository.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ol_model::FunctionName;

use super::git_url::GitUrl;

/// Where a function comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    Directory(PathBuf),
    Archive(PathBuf),
    Git(GitUrl),
}

impl Source {
    /// An existing path is taken as a path; anything else may be a URL.
    pub(super) fn find(given: &Path) -> Result<Self> {
        let shown = given.display();
        if !given.exists() {
            let url = given.to_str().and_then(GitUrl::parse);
            return url
                .transpose()?
                .map(Self::Git)
                .with_context(|| format!("failed to find the directory {shown}; check its name"));
        }
        if given.is_dir() {
            if given.join("HEAD").is_file() && given.join("objects").is_dir() {
                bail!(
                    "{shown} is a git repository without its files; write it as file:// and its full path"
                );
            }
            return Ok(Self::Directory(given.to_owned()));
        }
        let name = given.file_name().unwrap_or_default().to_string_lossy();
        if archive_stem(&name).is_some() {
            Ok(Self::Archive(given.to_owned()))
        } else if given.extension().is_some_and(|extension| extension == "py") {
            bail!(
                "{shown} is a single file; put it as f.py into a directory of its own and give that"
            )
        } else {
            bail!(
                "{shown} is neither a directory nor a .tar.gz; give the directory that holds the function"
            )
        }
    }

    /// The default name of the function.
    pub(super) fn name(&self) -> Result<FunctionName> {
        let last = match self {
            Self::Git(url) => return url.name(),
            Self::Archive(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                archive_stem(&name).unwrap_or_default().to_owned()
            }
            // The directory's real name, however the path was written (`.`, `x/..`).
            Self::Directory(path) => {
                let full = path.canonicalize();
                let full = full.with_context(|| format!("failed to find {}", path.display()))?;
                full.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            }
        };
        FunctionName::parse(&last).with_context(|| {
            format!("{last:?} can't be the function's name; give it one with -n NAME")
        })
    }
}

fn archive_stem(name: &str) -> Option<&str> {
    name.strip_suffix(".tar.gz")
        .or_else(|| name.strip_suffix(".tgz"))
}
