//! One function's log: a file of limited size, its predecessors, and how fast it may grow.

use super::Allowance;
use super::backlog::LINE;
use super::line::Entries;
use crate::invocation::InvocationId;
use ol_model::FunctionName;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Longer notes are cut, in bytes; each line of a note counts [`LINE`] more.
const LONGEST_NOTE: usize = 16 << 10;

/// How much of a log is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// Size in bytes at which a file is rotated.
    pub bytes: u64,
    /// Files kept, the current one included.
    pub files: u32,
}

/// How fast a function may print, in cost per second, and as a burst. The cost is the bytes, and [`LINE`] for each line.
///
/// A function that prints faster waits on its pipe.
const RATE: u32 = 2 << 20;

/// One function's log.
#[derive(Debug)]
pub(crate) struct Log {
    allowance: Allowance,
    /// The allowance of all functions together.
    of_all: Arc<Allowance>,
    /// How many notes were dropped since the last one that was written.
    unsaid: AtomicU64,
    path: PathBuf,
    retention: Retention,
    open: Mutex<Open>,
}

/// The file that is written to.
#[derive(Debug)]
enum Open {
    /// Will be opened, or created, when there is something to write.
    Not,
    /// The file, and its size in bytes.
    Is(File, u64),
    /// The function is gone: output of its last processes is discarded, for the file's name may be another function's by now.
    Never,
}

impl Log {
    /// The log of `name` in `folder`; its file is created when something is printed. `of_all` limits all functions together.
    pub(crate) fn new(
        folder: &Path,
        name: &FunctionName,
        retention: Retention,
        of_all: Arc<Allowance>,
    ) -> Self {
        Self {
            path: folder.join(format!("{name}.log")),
            retention,
            open: Mutex::new(Open::Not),
            allowance: Allowance::new(RATE),
            of_all,
            unsaid: AtomicU64::new(0),
        }
    }

    /// Spends `cost`; returns how long to wait before the next call.
    pub(super) fn spend(&self, cost: usize) -> Duration {
        self.allowance.spend(cost).max(self.of_all.spend(cost))
    }

    /// Writes why the call `id` of the function failed. Failures that come faster than the log allows are only counted.
    pub(crate) fn note(&self, id: InvocationId, text: &str) {
        self.tell(Some(id), text);
    }

    /// Writes a message about the function that belongs to no call: why a version of it can't be started.
    pub(crate) fn say(&self, text: &str) {
        self.tell(None, text);
    }

    fn tell(&self, id: Option<InvocationId>, text: &str) {
        // This must not wait: the caller needs the answer.
        if self.allowance.is_exhausted() {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut entries = Entries::of_the_worker(SystemTime::now());
        let mut noted = String::new();
        let unsaid = self.unsaid.swap(0, Ordering::Relaxed);
        if unsaid > 0 {
            let why = format!(
                "why {unsaid} calls failed is missing here: it was more than a function's log takes"
            );
            entries.write(&mut noted, None, why.as_bytes());
        }
        // The text may come from the function, and be of any length.
        let mut left = LONGEST_NOTE;
        for line in text.lines() {
            let mut end = line.len().min(left);
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            entries.write(&mut noted, id, &line.as_bytes()[..end]);
            left = left.saturating_sub(end + LINE);
            if left == 0 {
                break;
            }
        }
        self.spend(noted.len());
        self.keep(&noted);
    }

    /// Writes whole lines.
    pub(super) fn keep(&self, text: &str) {
        if let Err(error) = self.write(text) {
            let path = self.path.display();
            tracing::warn!("what a function printed is lost: write {path}: {error}");
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function exists, perhaps again.
    pub(crate) fn begin(&self) {
        let mut open = self.open();
        if matches!(*open, Open::Never) {
            *open = Open::Not;
        }
    }

    /// The function is gone, and its log with it: removes all files; nothing more is written.
    pub(crate) fn end(&self) {
        let mut open = self.open();
        *open = Open::Never;
        if let Err(error) = self.remove() {
            let path = self.path.display();
            tracing::warn!("the log of a function that is gone can't be removed: {path}: {error}");
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut open = self.open();
        if matches!(*open, Open::Is(_, size) if size >= self.retention.bytes) {
            *open = Open::Not;
            self.rotate()?;
        }
        if matches!(*open, Open::Not) {
            let file = self.open_file()?;
            let size = file.metadata()?.len();
            *open = Open::Is(file, size);
        }
        if let Open::Is(file, size) = &mut *open {
            file.write_all(text.as_bytes())?;
            *size += text.len() as u64;
        }
        Ok(())
    }

    /// Removes all files of the log, also those from a time when more were kept.
    fn remove(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let own = self.path.file_name().unwrap_or_default().to_string_lossy();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(&*own));
            if rest.is_some_and(is_empty_or_numbered) {
                match std::fs::remove_file(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn open_file(&self) -> io::Result<File> {
        let open = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&self.path)
        };
        match (open(), self.path.parent()) {
            // Somebody removed the folder.
            (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)?;
                open()
            }
            (opened, _) => opened,
        }
    }

    /// Renames NAME.log to NAME.log.1, that to NAME.log.2, and so on; the oldest file is removed.
    fn rotate(&self) -> io::Result<()> {
        let numbered = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        for n in (1..self.retention.files.saturating_sub(1)).rev() {
            rename_if_there(&numbered(n), &numbered(n + 1))?;
        }
        if self.retention.files > 1 {
            rename_if_there(&self.path, &numbered(1))
        } else {
            std::fs::remove_file(&self.path)
        }
    }
}

/// Is `end` empty, or `.` and a number?
fn is_empty_or_numbered(end: &str) -> bool {
    let numbered =
        |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    end.is_empty() || end.strip_prefix('.').is_some_and(numbered)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_rotated_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("a directory");
        let name = FunctionName::parse("f").expect("a name");
        let log = Log::new(
            folder.path(),
            &name,
            Retention {
                bytes: 10,
                files: 3,
            },
            Arc::new(Allowance::new(1 << 20)),
        );
        for line in [
            "one 6789\n",
            "two\n",
            "three 67890\n",
            "four 789012\n",
            "five\n",
        ] {
            log.write(line).expect("a writable directory");
        }
        let read =
            |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap_or_default();
        assert_eq!(
            [read("f.log"), read("f.log.1"), read("f.log.2")],
            ["five\n", "four 789012\n", "three 67890\n"]
        );
        assert_eq!(read("f.log.3"), "");
    }

    #[test]
    fn a_flood_of_failures_is_cut_and_counted() {
        let folder = tempfile::tempdir().expect("a directory");
        let name = FunctionName::parse("f").expect("a name");
        let retention = Retention {
            bytes: 1 << 30,
            files: 1,
        };
        let log = Log::new(
            folder.path(),
            &name,
            retention,
            Arc::new(Allowance::new(1 << 30)),
        );
        let id = InvocationId { run: 1, number: 2 };
        let text = || std::fs::read_to_string(folder.path().join("f.log")).unwrap_or_default();
        log.note(id, &"\n".repeat(1 << 20));
        let lines = text().lines().count();
        assert_eq!(lines, LONGEST_NOTE / LINE);
        for _ in 0..1000 {
            log.note(id, &"\n".repeat(1 << 10));
        }
        let kept = text().len();
        assert!(kept < 3 * RATE as usize, "{kept} bytes");
        log.allowance.forgive();
        log.note(id, "the last");
        let text = text();
        let mut lines = text.lines().rev();
        let [last, before] = [lines.next(), lines.next()].map(Option::unwrap_or_default);
        assert!(last.ends_with("the last"), "{last}");
        assert!(before.contains(" calls failed is missing here"), "{before}");
    }

    #[test]
    fn a_log_that_has_ended_is_gone_with_all_its_files_and_no_other() {
        let folder = tempfile::tempdir().expect("a directory");
        let name = FunctionName::parse("f").expect("a name");
        let kept = Retention { bytes: 1, files: 2 };
        let log = Log::new(
            folder.path(),
            &name,
            kept,
            Arc::new(Allowance::new(1 << 20)),
        );
        for other in ["f.log.7", "f.logs", "f.log.old", "f.log.log", "ff.log"] {
            std::fs::write(folder.path().join(other), "").expect("written");
        }
        log.write("one\n").expect("written");
        log.write("two\n").expect("written");
        log.end();
        log.write("late\n").expect("dropped");
        let there = std::fs::read_dir(folder.path()).expect("a folder");
        let mut there: Vec<_> = there
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        there.sort();
        assert_eq!(there, ["f.log.log", "f.log.old", "f.logs", "ff.log"]);
    }
}
