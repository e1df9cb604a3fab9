//! What the program prints: results on standard output, as text or JSON; everything else on
//! standard error.
//!
//! Not by `println!`, which panics when the reader leaves (`ol ls | head -1`). A reader who left
//! has what it wanted, so the program then ends without complaint.

use std::fmt::Display;
use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON value per line
    Json,
}

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    format: Format,
}

impl Out {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// A result: `value` for programs, `text` for people (nothing when empty).
    pub(crate) fn result(self, value: &impl Serialize, text: impl Display) {
        let text = match self.format {
            Format::Text => text.to_string(),
            Format::Json => {
                serde_json::to_string(value).expect("what we print has only text keys and numbers")
            }
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
