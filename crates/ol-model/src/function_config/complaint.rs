//! Words the errors of the YAML library for the author of an `ol.yaml`.
//!
//! The library's own texts mention Rust types and options of the library, which mean nothing to that author.

use serde_saphyr::{Error, MessageFormatter as _, UserMessageFormatter};

/// One sentence about `error`, without its position.
pub(super) fn complaint(error: &Error) -> String {
    let theirs = UserMessageFormatter.format_message(error);
    let ours = match theirs.as_ref() {
        "invalid u32" => "takes a whole number from 0 to 4294967295",
        "invalid boolean" => "takes true or false",
        "expected mapping start" => "takes a mapping, as in {key: value}",
        "expected sequence start" => "takes a list, as in [a, b]",
        "expected string scalar" => "takes text",
        "reference to unknown value" => "an alias names no anchor; define it, or quote the *",
        text if text.contains("single YAML document") => {
            "more than one document; keep one and drop the --- between them"
        }
        text if text.starts_with("YAML document too large or too complex") => {
            "nested too deep, too long or with too many aliases; simplify it"
        }
        text if text.starts_with("duplicate mapping key") => {
            return one_line(&format!("{text}; keep one of them"));
        }
        text if text.starts_with("missing field") => return format!("{text}; add it"),
        text => return one_line(text),
    };
    ours.to_owned()
}

/// Reduces a message of the library to one line, since some have a second line or quote the document.
fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST_CHARS)
        .collect();
    if text.chars().nth(MOST_CHARS).is_some() {
        line.push('…');
    }
    line
}

const MOST_CHARS: usize = 300;
