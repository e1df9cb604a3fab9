//! `.env`: environment variables in the syntax of python-dotenv.
//!
//! A function's `.env` is read when the `ol.yaml` beside it sets no environment.
//!
//! ```text
//!   # a comment                        export NAME=value   export is passed over
//!   NAME=value # a comment             up to white space and #, or the end of the line
//!   NAME='as it stands'                \' and \\ only; may go over several lines
//!   NAME="with escapes"                \n \t \r \a \b \f \v \" \' \\; may go over several lines
//!   NAME=${OTHER} ${OTHER:-default}    expanded, except between single quotes
//! ```
//!
//! Two rules differ from python-dotenv's. `${OTHER}` means an earlier line of the same file **only**, never a variable of the process:
//! the process is the worker, and anybody who may upload a bundle could read the host's secrets. And a line that python-dotenv
//! silently ignores is an error here, since a missing variable would show only later, as a fault somewhere else.
//!
//! The text is not trusted: its size is bounded, and so is what its variables expand to, which could otherwise double with each line.

use std::collections::BTreeMap;

use crate::warnings::Warning;

mod cursor;
mod error;
mod value;

use cursor::Cursor;
use value::Part;

pub use error::{DotenvError, Fault};

/// The largest `.env` that is read, and the most that its values may hold together.
pub const MAX_DOTENV_BYTES: usize = 256 * 1024;

/// The most warnings; nobody reads more.
const MOST_WARNINGS: usize = 20;

/// Reads a `.env`. Of several lines that set one name the last counts.
///
/// # Errors
/// [`DotenvError`], with the line.
pub fn parse(text: &str) -> Result<(BTreeMap<String, String>, Vec<Warning>), DotenvError> {
    if text.len() > MAX_DOTENV_BYTES {
        return Err(DotenvError::TooLarge { bytes: text.len() });
    }
    let mut file = File {
        values: BTreeMap::new(),
        warnings: Vec::new(),
        bytes: 0,
    };
    let mut cursor = Cursor::new(text.strip_prefix('\u{feff}').unwrap_or(text));
    while !cursor.at_end() {
        let line = cursor.line();
        file.entry(&mut cursor)
            .map_err(|(at, fault)| DotenvError::Line {
                line: at.unwrap_or(line),
                fault,
            })?;
    }
    Ok((file.values, file.warnings))
}

/// What is wrong, and its line if that is not the one on which the entry began.
type Refused = (Option<usize>, Fault);

/// What was read so far.
struct File {
    values: BTreeMap<String, String>,
    warnings: Vec<Warning>,
    /// The bytes of all values, including those that a later line replaced.
    bytes: usize,
}

impl File {
    /// Reads one entry, or a line without one, including the end of the line.
    fn entry(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Refused> {
        let here = |fault| (None, fault);
        let line = cursor.line();
        cursor.skip_blanks();
        if cursor.skip_comment_and_line_end() {
            return Ok(());
        }
        if let Some(rest) = cursor.rest().strip_prefix("export")
            && rest.starts_with([' ', '\t'])
        {
            cursor.advance("export".len());
            cursor.skip_blanks();
        }
        let key = cursor.take_while(|c| !c.is_whitespace() && !matches!(c, '=' | '#'));
        check_key(key).map_err(here)?;
        cursor.skip_blanks();
        if !cursor.skip('=') {
            if cursor.skip_comment_and_line_end() {
                self.warn(|| Warning::NoValue { line });
                return Ok(());
            }
            return Err(here(Fault::NoEquals));
        }
        let parts = value::read(cursor).map_err(here)?;
        if !cursor.skip_comment_and_line_end() {
            // Something follows the closing quote, which may be lines below the entry's first.
            return Err((Some(cursor.line()), Fault::AfterQuote));
        }
        let value = self.expand(parts, line).map_err(here)?;
        self.values.insert(key.to_owned(), value);
        Ok(())
    }

    fn expand(&mut self, parts: Vec<Part>, line: usize) -> Result<String, Fault> {
        let mut value = String::new();
        for part in parts {
            let text = match &part {
                Part::Text(text) => text.as_str(),
                Part::Variable { name, default } => match (self.values.get(name), default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => default,
                    (None, None) => {
                        self.warn(|| Warning::UnsetVariable {
                            line,
                            name: name.clone(),
                        });
                        ""
                    }
                },
            };
            // Checked before the text is copied, so that lines which double it each time cost nothing.
            if self.bytes + value.len() + text.len() > MAX_DOTENV_BYTES {
                return Err(Fault::TooMuch);
            }
            value.push_str(text);
        }
        if value.contains('\0') {
            return Err(Fault::Nul);
        }
        self.bytes += value.len();
        Ok(value)
    }

    fn warn(&mut self, warning: impl FnOnce() -> Warning) {
        if self.warnings.len() < MOST_WARNINGS {
            self.warnings.push(warning());
        }
    }
}

fn check_key(key: &str) -> Result<(), Fault> {
    let lawful = |(at, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || (at > 0 && c.is_ascii_digit())
    };
    if key.is_empty() {
        return Err(Fault::NoName);
    }
    match key.char_indices().find(|found| !lawful(*found)) {
        None => Ok(()),
        Some((_, bad)) => Err(Fault::Key { bad }),
    }
}

#[cfg(test)]
mod tests;
