//! The files of one log: NAME.log is the current one, NAME.log.1 the one before, NAME.log.2 the one before that.
//!
//! They may be renamed while they are opened. Thus the newest is opened first: a rotation moves files only towards names that are still to
//! be opened, hence a file may be seen twice but is never missed. Files are identified by their inodes, whatever their names are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Device and inode.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(file: &File) -> io::Result<Identity> {
    file.metadata().map(|m| (m.dev(), m.ino()))
}

/// The files of the log `path` that are newer than `known` (all if it is `None`), oldest first.
pub(super) fn newer_than(path: &Path, known: Option<Identity>) -> Result<Vec<File>> {
    // The usual case when following; it saves listing a folder that may hold thousands of other logs.
    if let Ok(found) = fs::metadata(path)
        && known == Some((found.dev(), found.ino()))
    {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    for path in names(path)? {
        let unread = || format!("failed to read {}; check that you may", path.display());
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.with_context(unread)?,
        };
        let identity = identity(&file).with_context(unread)?;
        if known == Some(identity) {
            break;
        }
        if seen.insert(identity) {
            files.push(file);
        }
    }
    files.reverse();
    Ok(files)
}

/// Every name that a file of the log may have now, newest first. Includes one more than exist, in case a rotation happens before they are
/// opened.
fn names(path: &Path) -> Result<Vec<PathBuf>> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let stem = format!(
        "{}.",
        path.file_name().unwrap_or_default().to_string_lossy()
    );
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries,
    };
    let unread = || format!("failed to read {}; run with sudo", folder.display());
    let mut last = 0_u32;
    for entry in entries.with_context(unread)? {
        let name = entry.with_context(unread)?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(&stem)?.parse().ok());
        last = last.max(number.unwrap_or(0).min(MOST));
    }
    let numbered = (1..=last + 1).map(|n| PathBuf::from(format!("{}.{n}", path.display())));
    Ok(std::iter::once(path.to_owned()).chain(numbered).collect())
}

/// The most files that are looked for, so that a stray `NAME.log.4000000000` costs no time.
const MOST: u32 = 10_000;

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn texts(files: Vec<File>) -> Vec<String> {
        let read = |mut file: File| {
            let mut text = String::new();
            file.read_to_string(&mut text).expect("text");
            text
        };
        files.into_iter().map(read).collect()
    }

    #[test]
    fn rotated_files_come_first_and_what_is_known_does_not_come_again() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let path = scratch.path().join("f.log");
        let rotated = |n: u32| PathBuf::from(format!("{}.{n}", path.display()));
        assert!(newer_than(&path, None).expect("looked").is_empty());
        fs::write(&path, "one").expect("written");
        let first = newer_than(&path, None)
            .expect("looked")
            .pop()
            .expect("a log");
        let known = Some(identity(&first).expect("it is open"));
        assert!(newer_than(&path, known).expect("looked").is_empty());

        fs::rename(&path, rotated(1)).expect("rotated");
        // In the middle of a rotation there is no newest file.
        assert!(newer_than(&path, known).expect("looked").is_empty());
        fs::write(&path, "two").expect("written");
        assert_eq!(texts(newer_than(&path, known).expect("looked")), ["two"]);

        // After two rotations since the last look, no file is skipped.
        fs::rename(rotated(1), rotated(2)).expect("rotated");
        fs::rename(&path, rotated(1)).expect("rotated");
        fs::write(&path, "three").expect("written");
        assert_eq!(
            texts(newer_than(&path, known).expect("looked")),
            ["two", "three"]
        );
        // Logs of other functions, and other files.
        for other in [
            "f.log.x",
            "f.log.2.gz",
            "f.logs",
            "g.log",
            "f.log.4000000000",
        ] {
            fs::write(scratch.path().join(other), "other").expect("written");
        }
        assert_eq!(
            texts(newer_than(&path, None).expect("looked")),
            ["one", "two", "three"]
        );
    }
}
