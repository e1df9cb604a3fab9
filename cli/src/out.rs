//! The program's output: results on standard output, as text or JSON; everything else on standard error.
//!
//! Texts may contain what others wrote: functions, package indexes, whoever chose a name. Characters that a terminal would interpret or
//! hide are escaped. Bytes that are wanted unchanged (a function's answer, in a pipe or a file) are not.
//!
//! `println!` isn't used, because it panics when the reader leaves (`ol ls | head -1`). A reader that left has all it wanted, thus the
//! program then ends without an error.

use std::convert::Infallible;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use ol_model::visible::{visible_json, visible_lines};
use serde::Serialize;

/// `--output`.
#[derive(Debug, Clone, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON value per line
    Json,
    /// A file that a benchmark's result is also written to: there, `--output` means what it means in the original worker.
    #[value(skip)]
    File(PathBuf),
}

impl Format {
    /// Parses the option where it may also name a file.
    pub(crate) fn or_file(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from_str(text, false).unwrap_or_else(|_| Self::File(text.into())))
    }
}

/// The output, and the format of results.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    json: bool,
}

impl Out {
    pub(crate) fn new(format: &Format) -> Self {
        Self {
            json: *format == Format::Json,
        }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: `value` as JSON for programs, or `text` for people (nothing if it is empty).
    pub(crate) fn result(self, value: &impl Serialize, text: impl Display) {
        let text = if self.json {
            let json = serde_json::to_string(value);
            visible_json(json.expect("what we print has only text keys and numbers"))
        } else {
            visible_lines(&text.to_string()).into_owned()
        };
        if !text.is_empty() {
            self.bytes(format!("{}\n", text.trim_end_matches('\n')).as_bytes());
        }
    }

    /// Prints bytes unchanged.
    pub(crate) fn bytes(self, bytes: &[u8]) {
        let mut stdout = io::stdout().lock();
        if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            if error.kind() == io::ErrorKind::BrokenPipe {
                std::process::exit(0);
            }
            self.note(format_args!("error: failed to write the output: {error}"));
            std::process::exit(1);
        }
    }

    /// Prints a function's answer: unchanged for a program, escaped on a terminal.
    pub(crate) fn answer(self) -> Answer {
        let terminal = io::stdout().is_terminal();
        Answer {
            out: self,
            terminal,
            begun: Vec::new(),
        }
    }

    /// Prints a line on standard error, for what isn't the result.
    pub(crate) fn note(self, text: impl Display) {
        // If standard error is closed, there is nobody to tell.
        let _ = writeln!(io::stderr(), "{}", visible_lines(&text.to_string()));
    }

    /// Prints why the program failed: the sentence, then its causes.
    pub(crate) fn error(self, error: &anyhow::Error) {
        self.note(format_args!("error: {error:#}"));
    }
}

/// An answer that is printed as it arrives.
pub(crate) struct Answer {
    out: Out,
    terminal: bool,
    /// The first bytes of a character whose remaining bytes haven't arrived.
    begun: Vec<u8>,
}

impl Answer {
    /// Prints the next part.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        if self.terminal {
            let text = shown(&mut self.begun, bytes);
            self.out.bytes(text.as_bytes());
        } else {
            self.out.bytes(bytes);
        }
    }

    /// Ends the answer; `last` is its last byte. On a terminal the line is ended; a program gets exactly what the function sent.
    pub(crate) fn end(self, last: u8) {
        if self.terminal {
            let rest = String::from_utf8_lossy(&self.begun);
            let end = if last == b'\n' { "" } else { "\n" };
            self.out.bytes(format!("{rest}{end}").as_bytes());
        }
    }
}

/// The printable text of `begun` followed by `bytes`. An incomplete character at the end is kept in `begun`.
fn shown(begun: &mut Vec<u8>, bytes: &[u8]) -> String {
    begun.extend_from_slice(bytes);
    let whole = match begun.utf8_chunks().last() {
        // Incomplete, not wrong: at most three bytes at the very end.
        Some(last) if is_cut(last.invalid()) => begun.len() - last.invalid().len(),
        _ => begun.len(),
    };
    let rest = begun.split_off(whole);
    let text = String::from_utf8_lossy(begun);
    let text = visible_lines(&text).into_owned();
    *begun = rest;
    text
}

fn is_cut(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_answer_may_end_within_a_character() {
        let text = "ä\u{1b}[31m\u{202e}🙂\nz".as_bytes();
        for at in 0..=text.len() {
            let mut begun = Vec::new();
            let (one, other) = text.split_at(at);
            let all = shown(&mut begun, one) + &shown(&mut begun, other);
            assert_eq!(all, "ä\\u{1b}[31m\\u{202e}🙂\nz", "{at}");
            assert_eq!(begun, b"");
        }
        let mut begun = Vec::new();
        assert_eq!(shown(&mut begun, b"a\xff\xf0\x9f"), "a\u{fffd}");
        assert_eq!(begun, b"\xf0\x9f");
    }
}
