//! The value after a `=`: bare, or in one of two kinds of quotes.

use super::cursor::{Cursor, is_line_end};
use super::error::Fault;

/// A piece of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Taken as it is.
    Text(String),
    /// `${name}` or `${name:-default}`.
    Variable {
        name: String,
        default: Option<String>,
    },
}

/// Reads the value after a `=`, without what follows it on the line.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Vec<Part>, Fault> {
    let blank = cursor.skip_blanks();
    match cursor.rest().chars().next() {
        Some('\'') => Ok(vec![Part::Text(unescape(quoted(cursor, '\'')?, single))]),
        // Escapes are replaced first, as in python-dotenv, so that the results may be part of a variable.
        Some('"') => variables(&unescape(quoted(cursor, '"')?, double)),
        _ => variables(bare(cursor, blank)),
    }
}

/// Reads a bare value: up to white space and `#`, or the end of the line.
///
/// `blank` says whether white space precedes the value: `A= #x` is empty, and `A=#x` is not.
fn bare<'a>(cursor: &mut Cursor<'a>, mut blank: bool) -> &'a str {
    let line = cursor.take_while(|c| !is_line_end(c));
    let end = line.char_indices().find(|(_, c)| {
        let comment = blank && *c == '#';
        blank = c.is_whitespace();
        comment
    });
    line[..end.map_or(line.len(), |(at, _)| at)].trim_end()
}

/// Reads the text between two quotes, with its escapes as written.
fn quoted<'a>(cursor: &mut Cursor<'a>, quote: char) -> Result<&'a str, Fault> {
    let inside = &cursor.rest()[1..];
    let mut escaped = false;
    let end = inside.char_indices().find(|(_, c)| {
        let closes = !escaped && *c == quote;
        escaped = !escaped && *c == '\\';
        closes
    });
    let (end, _) = end.ok_or(Fault::Unclosed { quote })?;
    cursor.advance(end + 2);
    Ok(&inside[..end])
}

fn single(escape: char) -> Option<char> {
    matches!(escape, '\'' | '\\').then_some(escape)
}

fn double(escape: char) -> Option<char> {
    Some(match escape {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' | '\'' | '"' => escape,
        _ => return None,
    })
}

/// Replaces the escapes that `known` knows; a backslash before any other character stays a backslash.
fn unescape(text: &str, known: fn(char) -> Option<char>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let escape = (c == '\\').then(|| chars.clone().next().and_then(known));
        match escape.flatten() {
            Some(meant) => {
                chars.next();
                out.push(meant);
            }
            None => out.push(c),
        }
    }
    out
}

fn variables(text: &str) -> Result<Vec<Part>, Fault> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if at > 0 {
            parts.push(Part::Text(rest[..at].to_owned()));
        }
        let end = at + rest[at..].find('}').ok_or(Fault::Variable)?;
        let inside = &rest[at + 2..end];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (inside, None),
        };
        super::check_key(name).map_err(|_| Fault::Variable)?;
        parts.push(Part::Variable {
            name: name.to_owned(),
            default,
        });
        rest = &rest[end + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}
