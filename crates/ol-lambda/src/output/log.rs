//! One function's log: a file bounded in size, its predecessors, and how fast it may grow.

use super::line::{Source, entry};
use crate::invoke::InvocationId;
use ol_model::FunctionName;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A note is cut here, in bytes.
const LONGEST_NOTE: usize = 16 << 10;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// Size in bytes at which a file is rotated.
    pub bytes: u64,
    /// Files kept, the current one included.
    pub files: u32,
}

/// What a function may print for long, in bytes per second, and at once on top. Beyond it, it waits on its pipe.
const RATE: f64 = (1 << 20) as f64;

/// One function's log.
#[derive(Debug)]
pub(crate) struct Log {
    allowance: Mutex<Allowance>,
    path: PathBuf,
    retention: Retention,
    open: Mutex<Option<(File, u64)>>,
}

impl Log {
    /// The log of `name` in `folder`; its file is made when something is printed.
    pub(crate) fn new(folder: &Path, name: &FunctionName, retention: Retention) -> Self {
        Self {
            path: folder.join(format!("{name}.log")),
            retention,
            open: Mutex::new(None),
            allowance: Mutex::new(Allowance {
                bytes: RATE,
                since: Instant::now(),
            }),
        }
    }

    /// Takes `bytes` from the allowance; says how long to wait before the next.
    pub(super) fn spend(&self, bytes: usize) -> Duration {
        let mut allowance = self
            .allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let earned = now.duration_since(allowance.since).as_secs_f64() * RATE;
        #[expect(clippy::cast_precision_loss, reason = "a line is short")]
        let spent = bytes as f64;
        allowance.bytes = (allowance.bytes + earned).min(RATE) - spent;
        allowance.since = now;
        Duration::from_secs_f64((-allowance.bytes / RATE).max(0.0))
    }

    /// Writes what the worker has to say of the function: why a call of it failed.
    pub(crate) fn note(&self, id: InvocationId, text: &str) {
        let now = SystemTime::now();
        // The text may be the function's, and as long as it likes.
        let mut end = text.len().min(LONGEST_NOTE);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let lines = text[..end].lines();
        let entries = lines.map(|line| entry(now, Source::Worker, Some(id), line.as_bytes()));
        self.keep(&entries.collect::<String>());
    }

    /// Writes whole lines.
    pub(super) fn keep(&self, text: &str) {
        if let Err(error) = self.write(text) {
            let path = self.path.display();
            tracing::warn!("what a function printed is lost: write {path}: {error}");
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut open = self
            .open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if open
            .as_ref()
            .is_some_and(|(_, size)| *size >= self.retention.bytes)
        {
            *open = None;
            self.rotate()?;
        }
        if open.is_none() {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)?;
            let size = file.metadata()?.len();
            *open = Some((file, size));
        }
        let Some((file, size)) = open.as_mut() else {
            return Ok(());
        };
        file.write_all(text.as_bytes())?;
        *size += text.len() as u64;
        Ok(())
    }

    /// NAME.log becomes NAME.log.1, that NAME.log.2, and so on; the oldest goes.
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

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A token bucket, shared by the sandboxes of a function.
#[derive(Debug)]
struct Allowance {
    bytes: f64,
    since: Instant,
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
}
