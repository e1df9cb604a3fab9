//! The locks of functions on disk, so that a function has the same packages after a restart, without asking the index.

use ol_model::FunctionName;
use ol_packages::lock::Lock;
use ol_packages::pin::Sha256;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

/// The folder of the locks: `NAME.json` each.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
}

/// What a lock is an answer to; another question needs another lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Question {
    /// Digest of the requirements.
    requirements: String,
    /// The Python that functions run on.
    python: String,
    /// May sources be built?
    allow_sdist: bool,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    question: Question,
    lock: String,
}

impl Question {
    pub(super) fn new(requirements: Sha256, python: &str, allow_sdist: bool) -> Self {
        Self {
            requirements: requirements.to_string(),
            python: python.to_owned(),
            allow_sdist,
        }
    }
}

impl Kept {
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, name: &FunctionName) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// The lock of `name`, if it was found for the same question. One that can't be read is ignored, thus found anew. Blocking.
    pub(super) fn of(&self, name: &FunctionName, question: &Question) -> Option<Lock> {
        let text = fs::read(self.path(name)).ok()?;
        let entry: Entry = serde_json::from_slice(&text).ok()?;
        if entry.question != *question {
            return None;
        }
        match Lock::from_json(entry.lock.as_bytes()) {
            Ok(lock) => Some(lock),
            Err(error) => {
                tracing::warn!("{name}: its packages are looked for anew: {error}");
                None
            }
        }
    }

    /// Saves a lock, durably: whole or not at all. Blocking.
    pub(super) fn keep(
        &self,
        name: &FunctionName,
        question: &Question,
        lock: &Lock,
    ) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let entry = Entry {
            question: question.clone(),
            lock: lock.to_json(),
        };
        let path = self.path(name);
        // No function's name has a slash or is long enough to make this the name of another lock.
        let new = self.folder.join(format!("{name}.json.new"));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(&entry)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    pub(super) fn forget(&self, name: &FunctionName) {
        // A failure does no harm: the lock answers only one question.
        let _ = fs::remove_file(self.path(name));
    }
}
