//! Finds the word `unsafe` in code, for `cargo xtask deps`.
//!
//! Exists in addition to the lint `unsafe_code = "deny"`, because a crate can switch off a lint for itself, but not this search. The word
//! in comments, strings and longer names (`unsafe_code` in a lint table) doesn't count, thus this reads Rust's tokens as far as necessary
//! for that, and no further.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cargo::Workspace;

/// The only crate that may contain `unsafe`.
const ROOM: &str = "ol-sys";
/// The folder of the native helper inside a sandbox: it is below every layer, and its `unsafe` is justified there.
const RUNTIME: &str = "runtime";

/// One complaint for each line outside [`ROOM`] and [`RUNTIME`] whose code contains `unsafe`.
pub(crate) fn outside_its_room(workspace: &Workspace) -> Result<Vec<String>> {
    let runtime = workspace.workspace_root.join(RUNTIME);
    let mut complaints = Vec::new();
    for package in &workspace.packages {
        let folder = package
            .manifest_path
            .parent()
            .context("a manifest without a folder")?;
        if package.name == ROOM || folder.starts_with(&runtime) {
            continue;
        }
        for file in rust_files(folder)? {
            let source = std::fs::read_to_string(&file)
                .with_context(|| format!("failed to read {}", file.display()))?;
            let shown = file
                .strip_prefix(&workspace.workspace_root)
                .unwrap_or(&file);
            complaints.extend(lines_saying_unsafe(&source).into_iter().map(|line| {
                format!(
                    "{}:{line}: `unsafe` outside {ROOM}; wrap the call there",
                    shown.display()
                )
            }));
        }
    }
    Ok(complaints)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("failed to read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() && entry.file_name() != "target" {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|ext| ext == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The numbers of the lines whose code contains the keyword, from 1.
fn lines_saying_unsafe(source: &str) -> Vec<usize> {
    let bytes = source.as_bytes();
    let (mut lines, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let word = word_length(&bytes[at..]);
        if word > 0 {
            let end = at + word;
            // `b"`, `r"`, `br#"`, `c"` …: the letters belong to the string after them.
            let raw = raw_string_end(source, at, end);
            if raw.is_none() && &source[at..end] == "unsafe" {
                lines.push(1 + source[..at].matches('\n').count());
            }
            at = raw.unwrap_or(end);
            continue;
        }
        at = match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'/')) => source[at..].find('\n').map_or(bytes.len(), |n| at + n),
            (b'/', Some(b'*')) => block_comment_end(bytes, at),
            (b'"', _) => quoted_end(bytes, at, b'"'),
            (b'\'', _) => char_or_lifetime_end(source, at),
            _ => at + 1,
        };
    }
    lines
}

fn word_length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_' || !byte.is_ascii())
        .count()
}

/// The end of a raw string with the prefix `source[at..end]`; `None` if that is an ordinary word.
fn raw_string_end(source: &str, at: usize, end: usize) -> Option<usize> {
    if !matches!(&source[at..end], "r" | "br" | "cr") {
        return None;
    }
    let hashes = source[end..].bytes().take_while(|b| *b == b'#').count();
    let body = source[end + hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let start = source.len() - body.len();
    Some(
        body.find(&close)
            .map_or(source.len(), |n| start + n + close.len()),
    )
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'*')) => (depth, at) = (depth + 1, at + 2),
            (b'*', Some(b'/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `'x'` and `'\n'` are characters; `'static` is a lifetime, and only its quote is skipped.
fn char_or_lifetime_end(source: &str, at: usize) -> usize {
    let mut after = source[at + 1..].chars();
    match (after.next(), after.next()) {
        (Some('\\'), _) => quoted_end(source.as_bytes(), at, b'\''),
        (Some(c), Some('\'')) => at + 1 + c.len_utf8() + 1,
        _ => at + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::lines_saying_unsafe;

    #[test]
    fn code_counts() {
        assert_eq!(
            lines_saying_unsafe("fn f() {\n    unsafe { g() }\n}\n#[unsafe(no_mangle)]"),
            [2, 4]
        );
        assert_eq!(
            lines_saying_unsafe("impl<'a> X<'a> { unsafe fn f(&'a self) {} }"),
            [1]
        );
        assert_eq!(lines_saying_unsafe("let c = '\"'; unsafe {}"), [1]);
        assert_eq!(lines_saying_unsafe("let c = '\\''; unsafe {}"), [1]);
        assert_eq!(lines_saying_unsafe("let s = r#\"a\"b\"#;\nunsafe {}"), [2]);
    }

    #[test]
    fn talk_does_not() {
        for talk in [
            "#![deny(unsafe_code)]",
            "// unsafe { }",
            "//! unsafe",
            "/* a /* nested unsafe */ unsafe */ fn f() {}",
            "let s = \"unsafe \\\" unsafe\";",
            "let s = br##\"unsafe \"# unsafe\"##;",
            "let s = r\"\\\"; let t = \"unsafe\";",
            "let b = b\"unsafe\";",
        ] {
            assert_eq!(lines_saying_unsafe(talk), [0; 0], "{talk}");
        }
    }
}
