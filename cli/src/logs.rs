//! `ol logs NAME`: what a function wrote. Reads the directory, thus works even when the worker doesn't run.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use ol_model::FunctionName;
use ol_model::visible::visible;
use ol_worker::directory::Directory;
use ureq::http::Method;

use crate::at::{At, facts};
use crate::client::Client;
use crate::out::Out;
use line::Line;

mod files;
mod line;

/// How often a followed log is checked: unnoticeable to people, and next to no work.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The function
    name: FunctionName,
    /// Go on printing what it writes
    #[arg(short, long)]
    follow: bool,
    /// Only what was written for this invocation; ID as the log shows it
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    invocation: Option<String>,
    /// Only the last LINES of what was written so far
    #[arg(short = 'n', long, value_name = "LINES")]
    lines: Option<usize>,
    #[command(flatten)]
    at: At,
}

impl Logs {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let directory = self.at.open()?;
        let path = directory.logs().join(format!("{}.log", self.name));
        ensure!(
            is_there(&self.name, directory)?,
            "there is no function {}: `ol ls` lists those that there are (a function's log goes with it)",
            self.name
        );
        let history = files::newer_than(&path, None)?;
        if history.is_empty() && !self.follow {
            bail!(
                "{} has no log: it has printed nothing and not failed yet; call it with `ol invoke {}`",
                self.name,
                self.name
            );
        }
        let mut printer = Printer {
            out,
            invocation: self.invocation.as_deref(),
            last: self.lines.map(|most| (most, VecDeque::new())),
            line: Vec::new(),
            found: false,
        };
        let mut newest = printer.copy_all(history, &path)?;
        if !self.follow {
            printer.end_line();
        }
        printer.end_of_history();
        match &self.invocation {
            _ if self.follow => loop {
                thread::sleep(LOOK);
                let known = newest.as_ref().map(files::identity).transpose()?;
                let newer = files::newer_than(&path, known)?;
                // Read after looking for newer files: if there are any, nothing more is written to this one.
                if let Some(file) = &mut newest {
                    printer.copy(file, &path)?;
                }
                if !newer.is_empty() {
                    newest = printer.copy_all(newer, &path)?;
                }
            },
            Some(invocation) if !printer.found => bail!(
                "the log of {} has nothing of invocation {invocation:?}; check the id (old lines go \
                 when the log is full)",
                self.name
            ),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

/// Whether the function is in the registry's folder, or in the registry of a running worker (which may have been started with another one).
fn is_there(name: &FunctionName, directory: Directory) -> Result<bool> {
    let (config, _) = directory.load(&[], &facts()?)?;
    let bundle = config.registry_path()?.join(format!("{name}.tar.gz"));
    if bundle.symlink_metadata().is_ok() {
        return Ok(true);
    }
    let Ok(client) = Client::new(directory) else {
        return Ok(false);
    };
    let names = client
        .ask(Method::GET, "/registry/")
        .ok()
        .and_then(|mut answer| answer.body_mut().read_to_string().ok());
    let names: Vec<String> = names
        .and_then(|names| serde_json::from_str(&names).ok())
        .unwrap_or_default();
    Ok(names.iter().any(|known| known == name.as_str()))
}

struct Printer<'a> {
    out: Out,
    invocation: Option<&'a str>,
    /// How many lines of history are wanted, and the last lines read so far.
    last: Option<(usize, VecDeque<Vec<u8>>)>,
    /// The beginning of a line whose end wasn't read yet.
    line: Vec<u8>,
    found: bool,
}

impl Printer<'_> {
    /// Prints all of `files` and returns the last, which may still grow.
    fn copy_all(&mut self, files: Vec<File>, path: &Path) -> Result<Option<File>> {
        let mut newest = None;
        for mut file in files {
            // A line that a crash cut off is printed by itself, not joined with the next file's first line.
            self.end_line();
            self.copy(&mut file, path)?;
            newest = Some(file);
        }
        Ok(newest)
    }

    /// Prints `file` from its current position to its end.
    fn copy(&mut self, file: &mut File, path: &Path) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = file
                .read(&mut buffer)
                .with_context(|| format!("failed to read {}", path.display()))?;
            if read == 0 {
                return Ok(());
            }
            for piece in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    self.end_line();
                }
            }
        }
    }

    fn end_line(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let mut line = std::mem::take(&mut self.line);
        if line.ends_with(b"\n") {
            line.pop();
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(wanted) = self.invocation
            && !Line::parse(&text).is_some_and(|line| line.is_of(wanted))
        {
            return;
        }
        self.found = true;
        match &mut self.last {
            None => self.print(line),
            Some((most, kept)) => {
                kept.push_back(line);
                if kept.len() > *most {
                    kept.pop_front();
                }
            }
        }
    }

    /// Called when everything written so far was read: prints the last lines; from then on, lines are printed as they come.
    fn end_of_history(&mut self) {
        for line in self.last.take().into_iter().flat_map(|(_, kept)| kept) {
            self.print(line);
        }
    }

    fn print(&self, line: Vec<u8>) {
        let text = String::from_utf8_lossy(&line);
        if self.out.is_json() {
            let value =
                Line::parse(&text).map_or_else(|| line::unknown(&text), |line| line.to_json());
            self.out.result(&value, "");
        } else {
            // The worker escapes control characters in the lines it writes, but other programs and older workers may not have.
            self.out.bytes(format!("{}\n", visible(&text)).as_bytes());
        }
    }
}
