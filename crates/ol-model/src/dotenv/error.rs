//! What can be wrong with a `.env`: one sentence that names the line and what to do.
//!
//! An error repeats at most one character of the text: the text is often a secret (a key pasted without quotes looks like names), and
//! errors are shown in logs and answers.

use super::MAX_DOTENV_BYTES;

/// Why a `.env` can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DotenvError {
    /// Above [`MAX_DOTENV_BYTES`].
    #[error(".env has {bytes} bytes; shorten it to at most {MAX_DOTENV_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A line that can't be read.
    #[error(".env line {line}: {fault}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A name that a shell doesn't allow.
    #[error(
        "a variable's name holds {bad:?}; use letters, digits and _, as in NAME=value, and quote a value of several lines"
    )]
    Key {
        /// The first character that doesn't fit.
        bad: char,
    },
    /// There is no name before the `=`.
    #[error("no name stands before the =; write NAME=value")]
    NoName,
    /// Something other than `=` follows a name.
    #[error("no = follows the name; write NAME=value, and quote a value of several lines")]
    NoEquals,
    /// A value whose quote never ends.
    #[error(
        "the quote {quote} is never closed; close it, or use the other kind around a value that holds it"
    )]
    Unclosed {
        /// The quote.
        quote: char,
    },
    /// Text follows a quoted value.
    #[error(
        "text follows the closing quote; put all of the value between the quotes, or # before a comment"
    )]
    AfterQuote,
    /// A `${` that begins no variable.
    #[error(
        "${{ begins no variable; write ${{NAME}} or ${{NAME:-default}}, or put the value between single quotes to keep it as it stands"
    )]
    Variable,
    /// A NUL character.
    #[error("a value holds NUL, which no environment can carry; encode it")]
    Nul,
    /// Values that add up to more than [`MAX_DOTENV_BYTES`].
    #[error(
        "the values up to here have more than {MAX_DOTENV_BYTES} bytes with their variables expanded; shorten them"
    )]
    TooMuch,
}
