//! The lines of a requirements file, read like pip does: comments are removed, a backslash at the end joins the next line.
//!
//! One difference: in pip a backslash at the end of a comment joins the next line to the comment; here the comment ends with its line.

use super::entry::{self, Requirement};
use super::fault::{Fault, RequirementsError, remedy};
use crate::pin::shown;

/// The limits of a file.
#[derive(Debug)]
pub(crate) struct Bounds {
    pub bytes: usize,
    pub lines: usize,
    pub entries: usize,
}

/// A line joined with its continuation lines, and the number of the first.
#[derive(Debug, PartialEq, Eq)]
struct Logical {
    line: usize,
    text: String,
}

/// The requirements in `file`, in the order written.
pub(crate) fn entries(file: &[u8], bounds: &Bounds) -> Result<Vec<Requirement>, RequirementsError> {
    let mut entries = Vec::new();
    for Logical { line, text } in logical(text(file, bounds)?, bounds)? {
        if entries.len() == bounds.entries {
            return Err(RequirementsError::Entries(bounds.entries));
        }
        let parsed = entry_or_option(&text);
        entries.push(parsed.map_err(|fault| RequirementsError::Line { line, fault })?);
    }
    Ok(entries)
}

/// `file` as text without a byte order mark; fails if it is too long or not UTF-8.
pub(super) fn text<'a>(file: &'a [u8], bounds: &Bounds) -> Result<&'a str, RequirementsError> {
    if file.len() > bounds.bytes {
        return Err(RequirementsError::Bytes(bounds.bytes));
    }
    let text = std::str::from_utf8(file).map_err(|_| RequirementsError::Encoding)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The joined lines of `text` that aren't blank.
fn logical(text: &str, bounds: &Bounds) -> Result<Vec<Logical>, RequirementsError> {
    let mut lines = Vec::new();
    let mut open: Option<Logical> = None;
    for (at, physical) in text.lines().enumerate() {
        if at == bounds.lines {
            return Err(RequirementsError::Lines(bounds.lines));
        }
        let said = without_comment(physical).trim_end();
        let (said, continued) = match said.strip_suffix('\\') {
            Some(said) => (said, true),
            None => (said, false),
        };
        let logical = open.get_or_insert_with(|| Logical {
            line: at + 1,
            text: String::new(),
        });
        logical.text.push_str(said);
        if !continued {
            lines.extend(open.take());
        }
    }
    lines.extend(open);
    lines.retain(|logical| !logical.text.trim().is_empty());
    Ok(lines)
}

/// Cuts off the comment. A `#` begins one at the start of a line or after a blank; elsewhere it belongs to a URL.
fn without_comment(line: &str) -> &str {
    let begins = |at: usize| at == 0 || line[..at].ends_with(char::is_whitespace);
    match line.match_indices('#').find(|&(at, _)| begins(at)) {
        Some((at, _)) => &line[..at],
        None => line,
    }
}

/// Refuses control characters and `${…}`, which no requirement may contain.
pub(super) fn readable(text: &str) -> Result<(), Fault> {
    if let Some(c) = text.chars().find(|&c| c.is_control() && c != '\t') {
        return Err(Fault::Control(c.escape_unicode().to_string()));
    }
    if let Some(at) = text.find("${") {
        let name = text[at..].split_inclusive('}').next().unwrap_or_default();
        return Err(Fault::Variable(shown(name)));
    }
    Ok(())
}

fn entry_or_option(text: &str) -> Result<Requirement, Fault> {
    readable(text)?;
    let text = text.trim();
    if text.starts_with('-') {
        return Err(option(text));
    }
    // Like in pip, the options of a requirement begin at the first word that starts with a dash.
    let options = text.match_indices('-').find(|&(at, _)| {
        let before = &text[..at];
        before.ends_with([' ', '\t'])
    });
    let (wanted, options) = text.split_at(options.map_or(text.len(), |(at, _)| at));
    let hashes = entry::hashes(options.split_ascii_whitespace(), option)?;
    entry::parse(wanted, hashes)
}

/// The fault for the option that `text` begins with.
fn option(text: &str) -> Fault {
    let word = text.split(['=', ' ', '\t']).next().unwrap_or(text);
    // A short option may be followed directly by its value: `-rother.txt`.
    let name = match word.char_indices().nth(2) {
        Some((at, _)) if !word.starts_with("--") => &word[..at],
        _ => word,
    };
    Fault::Option {
        option: shown(name),
        remedy: remedy(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        let bounds = Bounds {
            bytes: 1000,
            lines: 100,
            entries: 100,
        };
        let lines = logical(text, &bounds).expect("few lines");
        lines.into_iter().map(|l| (l.line, l.text)).collect()
    }

    #[test]
    fn comments_go_and_continuations_join() {
        let read = lines("# c\n\na \\\r\n  b \\\n# ends here\nc#d # e \\\nf\\\n\\\n");
        let expected = [(3, "a   b "), (6, "c#d"), (7, "f")];
        assert_eq!(read, expected.map(|(line, text)| (line, text.to_owned())),);
    }
}
