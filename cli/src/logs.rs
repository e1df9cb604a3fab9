//! `ol logs NAME`: what a function wrote. Read from the directory, so that it works when the worker
//! doesn't.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ol_model::FunctionName;
use serde_json::json;

use crate::at::At;
use crate::out::Out;

/// How often a log is looked at when followed: sooner than anyone notices, and next to no work.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The function
    name: FunctionName,
    /// Go on printing what it writes
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    at: At,
}

impl Logs {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let path = self.at.open()?.logs().join(format!("{}.log", self.name));
        let mut printer = Printer {
            out,
            name: self.name,
            line: Vec::new(),
        };
        let mut file = open(&path)?;
        if file.is_none() && !self.follow {
            bail!(
                "{} has no log: it has printed nothing and not failed yet; call it with `ol invoke {}`",
                printer.name,
                printer.name
            );
        }
        loop {
            if let Some(open) = &mut file {
                printer.copy(open, &path)?;
            }
            if !self.follow {
                printer.end();
                return Ok(ExitCode::SUCCESS);
            }
            thread::sleep(LOOK);
            if let Some(next) = newer(file.as_ref(), &path)? {
                // What was written to the old one before it was rotated away.
                if let Some(old) = &mut file {
                    printer.copy(old, &path)?;
                }
                file = Some(next);
            }
        }
    }
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
    }
}

/// The file now at `path`, if it is another than `current`.
fn newer(current: Option<&File>, path: &Path) -> Result<Option<File>> {
    let identity = |file: &File| file.metadata().map(|m| (m.dev(), m.ino()));
    let Some(found) = open(path)? else {
        return Ok(None);
    };
    let same = match current {
        Some(current) => identity(current)? == identity(&found)?,
        None => false,
    };
    Ok((!same).then_some(found))
}

struct Printer {
    out: Out,
    name: FunctionName,
    /// The beginning of a line whose end is still to come; JSON shows whole lines only.
    line: Vec<u8>,
}

impl Printer {
    /// Prints from where `file` stands to its end.
    fn copy(&mut self, file: &mut File, path: &Path) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = file
                .read(&mut buffer)
                .with_context(|| format!("failed to read {}", path.display()))?;
            if read == 0 {
                return Ok(());
            }
            if self.out.is_json() {
                self.take(&buffer[..read]);
            } else {
                self.out.bytes(&buffer[..read]);
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if let Some(line) = self.line.strip_suffix(b"\n") {
                self.print(line);
                self.line.clear();
            }
        }
    }

    fn end(&mut self) {
        if !self.line.is_empty() {
            self.print(&self.line);
            self.line.clear();
        }
    }

    fn print(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        self.out
            .result(&json!({"function": self.name, "line": line}), &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_log_is_noticed_and_an_unchanged_one_is_not() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let path = scratch.path().join("f.log");
        assert!(newer(None, &path).expect("looked").is_none());
        std::fs::write(&path, "one").expect("written");
        let first = newer(None, &path).expect("looked").expect("a first log");
        assert!(newer(Some(&first), &path).expect("looked").is_none());
        std::fs::rename(&path, scratch.path().join("f.log.1")).expect("rotated");
        assert!(newer(Some(&first), &path).expect("looked").is_none());
        std::fs::write(&path, "two").expect("written");
        assert!(newer(Some(&first), &path).expect("looked").is_some());
    }
}
