//! What the program prints: results on standard output, as text or JSON; everything else on
//! standard error.
//!
//! Not by `println!`, which panics when the reader leaves (`ol ls | head -1`). A reader who left
//! has what it wanted, so the program then ends without complaint.

use std::convert::Infallible;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

/// `--output`.
#[derive(Debug, Clone, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON value per line
    Json,
    /// A benchmark's result goes into this file too: there the option is the original's, and older than ours
    #[value(skip)]
    File(PathBuf),
}

impl Format {
    /// Reads the option where it may be a file.
    pub(crate) fn or_file(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from_str(text, false).unwrap_or_else(|_| Self::File(text.into())))
    }
}

/// Where results go, and in which form.
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

    /// A result: `value` for programs, `text` for people (nothing when empty).
    pub(crate) fn result(self, value: &impl Serialize, text: impl Display) {
        let text = if self.json {
            serde_json::to_string(value).expect("what we print has only text keys and numbers")
        } else {
            text.to_string()
        };
        if !text.is_empty() {
            self.bytes(format!("{}\n", text.trim_end_matches('\n')).as_bytes());
        }
    }

    /// Bytes as they are.
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

    /// A line beside the result.
    pub(crate) fn note(self, text: impl Display) {
        // Nobody is left to be told when this fails.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Why the program failed: the sentence, then its causes.
    pub(crate) fn error(self, error: &anyhow::Error) {
        self.note(format_args!("error: {error:#}"));
    }
}
