//! What functions print: one log file for each function, bounded in size, written a line at a time.
//!
//! Lines are the tenant's, so control characters are escaped (a terminal that shows the log must not obey them) and
//! endless lines are cut. A function that prints faster than the disk takes it waits on its pipe.

use bytes::BytesMut;
use ol_model::FunctionName;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

/// A line is cut here, in bytes.
const LONGEST_LINE: usize = 16 << 10;

/// How long the rest of a line is waited for.
const MOMENT: Duration = Duration::from_millis(200);

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
    fn spend(&self, bytes: usize) -> Duration {
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

    /// Writes a line that a sandbox printed, and waits if the function prints too much.
    async fn line(&self, sandbox: u64, line: &[u8]) {
        let wait = self.spend(line.len());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        self.keep(&entry(SystemTime::now(), &sandbox.to_string(), line));
    }

    /// Writes what the worker has to say of the function: why a call of it failed.
    pub(crate) fn note(&self, text: &str) {
        for line in text.lines() {
            self.keep(&entry(SystemTime::now(), "worker", line.as_bytes()));
        }
    }

    fn keep(&self, text: &str) {
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

/// Copies what comes out of `pipe` to `log` until every process of the sandbox has closed it.
pub(crate) async fn drain(log: Arc<Log>, sandbox: u64, mut pipe: pipe::Receiver) {
    let mut pending = BytesMut::new();
    loop {
        pending.reserve(8 << 10);
        let begun = !pending.is_empty();
        let read = pipe.read_buf(&mut pending);
        let read = if begun {
            timeout(MOMENT, read).await
        } else {
            Ok(read.await)
        };
        match read {
            Ok(Ok(1..)) => {
                while let Some(line) = next_line(&mut pending) {
                    log.line(sandbox, &line).await;
                }
            }
            // A line without an end, and nothing follows: it is shown all the same.
            Err(_elapsed) => log.line(sandbox, &pending.split()).await,
            Ok(_) => break,
        }
    }
    if !pending.is_empty() {
        log.line(sandbox, &pending).await;
    }
}

fn next_line(pending: &mut BytesMut) -> Option<BytesMut> {
    match pending
        .iter()
        .take(LONGEST_LINE)
        .position(|byte| *byte == b'\n')
    {
        Some(end) => Some(pending.split_to(end + 1)),
        None => (pending.len() >= LONGEST_LINE).then(|| pending.split_to(LONGEST_LINE)),
    }
}

/// One line of the log: time in UTC, sandbox or worker, text.
fn entry(now: SystemTime, source: &str, line: &[u8]) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = format!(
        "{} [{source}] ",
        timestamp(since.as_secs(), since.subsec_millis())
    );
    for c in String::from_utf8_lossy(line)
        .trim_end_matches(['\n', '\r'])
        .chars()
    {
        if c.is_control() && c != '\t' {
            // Writing to a String can't fail.
            let _ = write!(text, "{}", c.escape_default());
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    text
}

/// RFC 3339 from seconds since 1970 (civil-from-days, proleptic Gregorian).
fn timestamp(seconds: u64, millis: u32) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_time_and_sandbox_and_can_not_drive_a_terminal() {
        let at = UNIX_EPOCH + Duration::from_millis(1_709_210_096_007);
        assert_eq!(
            entry(at, "3", b"a\x1b[2Jb\tc\r\n"),
            "2024-02-29T12:34:56.007Z [3] a\\u{1b}[2Jb\tc\n"
        );
        assert_eq!(timestamp(0, 0), "1970-01-01T00:00:00.000Z");
    }

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
