//! Making a worker directory, and making one anew.
//!
//! What was there and is worth keeping (bundles, packages, a base image) stays; what is cheap to
//! make again (the configuration) is replaced, its old text kept beside it. `config.json` comes
//! last, so that a directory which has one is complete.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ol_model::{HostFacts, WorkerConfig};
use ol_warden::rootfs::Base;

use super::base::{self, BaseChoice, PythonVersion};
use super::error::DirectoryError;
use super::{Directory, Kind, absolute};

/// A tree whose root has imported nothing; more nodes come with the packages they would import.
const EMPTY_TREE: &str = "{\"packages\": [], \"children\": []}\n";

/// What [`Directory::init`] did.
#[derive(Debug)]
pub struct InitReport {
    /// Whether there was no worker directory before.
    pub created: bool,
    /// The base image, as `-i` would name it.
    pub base: String,
    /// Whether that is the one which was there before.
    pub base_kept: bool,
    /// The base image's Python.
    pub python: PythonVersion,
    /// Where the old configuration is now, if there was another.
    pub backup: Option<PathBuf>,
    /// What else the operator should know, a sentence each.
    pub notes: Vec<String>,
}

impl Directory {
    /// Makes `root` a worker directory with the base image `choice`, or makes it one anew.
    ///
    /// A base image that is there stays unless `rebuild`. No worker may run there.
    ///
    /// # Errors
    /// When something else is at `root`, a worker runs there, the base image doesn't serve, or the
    /// disk refuses.
    pub fn init(
        root: &Path,
        choice: &BaseChoice,
        rebuild: bool,
        host: &HostFacts,
    ) -> Result<(Self, InitReport), DirectoryError> {
        let directory = Self {
            root: absolute(root)?,
        };
        let kind = directory.kind()?;
        if kind == Kind::Foreign {
            return Err(DirectoryError::NotOurs {
                path: directory.root,
            });
        }
        let mut notes = Vec::new();
        if let BaseChoice::Image(name) = choice {
            notes.push(format!(
                "base image {name} means the host's own programs for now; Docker images come later"
            ));
        }
        // Before anything is written: a base image that doesn't serve should leave no trace.
        let (base, base_kept) = directory.choose_base(choice, rebuild)?;
        let python = base::python(&base)?;
        if base_kept && base != choice.resolve().into() && *choice != BaseChoice::Host {
            notes.push(format!(
                "kept the base image {}; -b replaces it by {choice}",
                base::describe(&base)
            ));
        }

        for folder in [directory.packages(), directory.registry(), directory.logs()] {
            fs::create_dir_all(&folder).map_err(|source| DirectoryError::Write {
                path: folder,
                source,
            })?;
        }
        let _lock = directory.lock()?;
        if !base_kept {
            let text = serde_json::to_string(&choice.resolve()).map_err(io::Error::from);
            let path = directory.base_image().join(base::RECORD);
            write(&path, text.map(|text| text + "\n"))?;
        }
        if !directory.zygote_tree().exists() {
            write(&directory.zygote_tree(), Ok(EMPTY_TREE.to_owned()))?;
        }
        let config = WorkerConfig::defaults(&directory.root, host);
        // On a machine with little memory, or at a path that isn't UTF-8: said now, not at `up`.
        config.validate()?;
        let backup = directory.write_config(&config.to_json_pretty())?;
        let report = InitReport {
            created: kind != Kind::Worker,
            base: base::describe(&base),
            base_kept,
            python,
            backup,
            notes,
        };
        Ok((directory, report))
    }

    /// The base image to use, and whether it was there before.
    fn choose_base(
        &self,
        choice: &BaseChoice,
        rebuild: bool,
    ) -> Result<(Base, bool), DirectoryError> {
        if let (false, Ok(base)) = (rebuild, base::of(&self.base_image(), &self.root)) {
            return Ok((base, true));
        }
        match choice.resolve().into() {
            Base::Directory(path) if !path.is_dir() => Err(DirectoryError::BaseUnknown {
                given: choice.to_string(),
                problem: "is no directory",
            }),
            // Asked for as a directory, the whole host would be lent, not only its programs.
            Base::Directory(path) if fs::canonicalize(&path).is_ok_and(|p| p == Path::new("/")) => {
                Err(DirectoryError::BaseUnknown {
                    given: choice.to_string(),
                    problem: "would show sandboxes the whole host",
                })
            }
            base => Ok((base, false)),
        }
    }

    /// Writes `config.json`; returns where the old one is, if its text was another. Twice `init`
    /// in a row thus doesn't lose the operator's settings.
    fn write_config(&self, text: &str) -> Result<Option<PathBuf>, DirectoryError> {
        let (path, backup) = (self.config(), self.config_backup());
        let old = match fs::read(&path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(DirectoryError::Read { path, source }),
        };
        let changed = old.filter(|old| old != text.as_bytes());
        if let Some(old) = &changed {
            write(&backup, Ok(old))?;
        }
        write(&path, Ok(text))?;
        Ok(changed.map(|_| backup))
    }
}

/// Replaces the file at `path` by one with this content: whole or not at all, and to last.
fn write(path: &Path, content: io::Result<impl AsRef<[u8]>>) -> Result<(), DirectoryError> {
    content
        .and_then(|content| replace(path, content.as_ref()))
        .map_err(|source| DirectoryError::Write {
            path: path.to_owned(),
            source,
        })
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // Not random: the lock keeps others away, and one that was left by a crash is overwritten.
    let mut staging = path.as_os_str().to_owned();
    staging.push(".new");
    let mut file = File::create(&staging)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&staging, path)?;
    // The rename itself lasts only once the directory is on the disk.
    path.parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
