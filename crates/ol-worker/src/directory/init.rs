//! Creates a worker directory, or sets up an existing one again.
//!
//! What is worth keeping (bundles, packages, a base image) stays. What is easy to make again (the configuration) is replaced, and its old
//! text is kept beside it. `config.json` is written last, thus a directory that has one is complete.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ol_model::{HostFacts, WorkerConfig};

use super::base::{self, BaseChoice, PythonVersion, Staging};
use super::error::DirectoryError;
use super::lock::Lock;
use super::{Contents, Directory, absolute};

/// A tree of zygotes whose root has imported nothing; further nodes are added with the packages that they import.
const EMPTY_TREE: &str = "{\"packages\": [], \"children\": []}\n";

/// What [`Directory::init`] did.
#[derive(Debug)]
pub struct InitReport {
    /// Whether there was no worker directory before.
    pub created: bool,
    /// The base image, as written after `-i`.
    pub base: String,
    /// Whether the base image was kept.
    pub base_kept: bool,
    /// The base image's Python.
    pub python: PythonVersion,
    /// Where the old configuration is now, if it was replaced.
    pub backup: Option<PathBuf>,
    /// Further notes for the operator, one sentence each.
    pub notes: Vec<String>,
}

impl Directory {
    /// Makes `root` a worker directory with the base image `choice`, or sets up an existing one again.
    ///
    /// An existing base image is kept unless `rebuild`; the old one is removed only after the new one is in its place. No worker may run
    /// there.
    ///
    /// # Errors
    /// When something else is at `root`, a worker runs there, the base image doesn't work, or the disk fails.
    pub fn init(
        root: &Path,
        choice: &BaseChoice,
        rebuild: bool,
        host: &HostFacts,
    ) -> Result<(Self, InitReport), DirectoryError> {
        let directory = Self {
            root: absolute(root)?,
        };
        let contents = directory.contents()?;
        if contents == Contents::Foreign {
            return Err(DirectoryError::NotOurs {
                path: directory.root,
            });
        }
        choice.check()?;
        let image = directory.base_image();
        let kept = match base::of(&image, &directory.root) {
            Ok(found) if !rebuild => Some(found),
            _ => None,
        };
        // An image that is kept must still work; checked before anything is written.
        let kept = match kept {
            Some(found) => {
                let python = base::python(&found.base, &found.source)?;
                Some((found, python))
            }
            None => None,
        };
        let mut locked = LockedDirectory::lock(&directory, contents)?;
        let staging = Staging::begin(&directory.root, &image, &locked.lock)?;
        let (source, python, mut notes) = match &kept {
            Some((found, python)) => (found.source.clone(), *python, Vec::new()),
            None => {
                refuse_within(choice, &[&image, &directory.root.join(base::STAGING)])?;
                let built = base::build(choice, &staging)?;
                let source = built.record.source();
                staging.exchange(&built.record)?;
                (source, built.python, built.notes)
            }
        };
        if kept.is_some() && *choice != BaseChoice::Host && !choice.is(&source) {
            notes.push(format!(
                "kept the base image {source}; -b replaces it by {choice}"
            ));
        }
        for folder in [directory.packages(), directory.registry(), directory.logs()] {
            fs::create_dir_all(&folder).map_err(|source| DirectoryError::Write {
                path: folder,
                source,
            })?;
        }
        if !directory.zygote_tree().exists() {
            write(&directory.zygote_tree(), Ok(EMPTY_TREE.to_owned()))?;
        }
        let config = WorkerConfig::defaults(&directory.root, host);
        // Fails on a machine with little memory, or at a path that isn't UTF-8: better now than at `up`.
        config.validate()?;
        let backup = directory.write_config(&config.to_json_pretty())?;
        locked.made = false;
        let report = InitReport {
            created: contents != Contents::Worker,
            base: source,
            base_kept: kept.is_some(),
            python,
            backup,
            notes,
        };
        Ok((directory, report))
    }

    /// Writes `config.json`; returns where the old one is, if its text differed. If it didn't, the backup stays: running `init` twice
    /// doesn't lose the operator's settings.
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

/// The directory's lock, held during `init`; the directory is created for it if needed.
struct LockedDirectory {
    directory: Directory,
    lock: Lock,
    /// Whether the directory is new and must be removed on drop: an `init` that is refused leaves no trace.
    made: bool,
}

impl LockedDirectory {
    fn lock(directory: &Directory, contents: Contents) -> Result<Self, DirectoryError> {
        // First the folder that marks the directory as a worker's, in case the process is killed before the next step.
        let ours = directory.root.join(base::STAGING);
        fs::create_dir_all(&ours).map_err(|source| DirectoryError::Write { path: ours, source })?;
        Ok(Self {
            directory: directory.clone(),
            lock: directory.lock()?,
            made: contents == Contents::Absent,
        })
    }
}

impl Drop for LockedDirectory {
    fn drop(&mut self) {
        if self.made {
            // Only empty directories are removed, hence nothing that belongs to somebody else.
            let _ = fs::remove_file(self.directory.lock_file());
            let _ = fs::remove_dir(self.directory.worker());
            let _ = fs::remove_dir(&self.directory.root);
        }
    }
}

/// Refuses a source within the directories that the new base image replaces, since it would be removed with them.
fn refuse_within(choice: &BaseChoice, replaced: &[&Path]) -> Result<(), DirectoryError> {
    let (BaseChoice::Dir(path) | BaseChoice::Tar(path)) = choice else {
        return Ok(());
    };
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let within = replaced
        .iter()
        .any(|folder| real(path).starts_with(real(folder)));
    if within {
        return Err(DirectoryError::BaseUnknown {
            given: choice.to_string(),
            problem: "lies in the directory that it would replace: move it elsewhere first",
        });
    }
    Ok(())
}

/// Replaces the file at `path` in one step and syncs it.
fn write(path: &Path, content: io::Result<impl AsRef<[u8]>>) -> Result<(), DirectoryError> {
    content
        .and_then(|content| replace(path, content.as_ref()))
        .map_err(|source| DirectoryError::Write {
            path: path.to_owned(),
            source,
        })
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // A fixed name suffices: the lock keeps others away, and a file left by a crash is overwritten.
    let mut staging = path.as_os_str().to_owned();
    staging.push(".new");
    let mut file = File::create(&staging)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&staging, path)?;
    // The rename is durable only once the directory is synced.
    path.parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
