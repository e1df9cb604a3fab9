//! `cargo xtask docs`: what pages say of the repository is there: pages, headings, files, types and functions.
//!
//! Exists because nothing else notices when a page, or what it points to, is moved or renamed. It looks at
//!
//! - relative links in each `*.md`: the file exists, and so does the heading behind `#`;
//! - the table "Where is …" of `ARCHITECTURE.md`: each path exists, and what is named beside it is defined in that file;
//! - pages that the code names (`*.rs`, `*.py`, `*.sh`, `Makefile`): they exist, and so do their headings;
//! - `docs/README.md`: it links each page;
//! - the table of error codes in `docs/reference/http.md` ([`codes`]).

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cargo;

mod codes;

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const LIST: &str = "docs/README.md";
/// Names pages of a repository that isn't this one.
const TESTS: &str = "xtask/src/docs/tests.rs";
const WHERE: &str = "Where is";
const DEFINERS: [&str; 9] = [
    "fn", "struct", "trait", "enum", "const", "static", "mod", "class", "def",
];

/// The repository's files by their paths from its root; texts of those only that are looked into.
type Files = BTreeMap<String, String>;

/// Fails with all that isn't so.
pub(crate) fn run() -> Result<()> {
    let files = read()?;
    let complaints = complaints(&files);
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    let pages = files.keys().filter(|path| is_page(path)).count();
    println!("docs: {pages} pages, what they point to is there");
    Ok(())
}

fn read() -> Result<Files> {
    let root = cargo::workspace()?.workspace_root;
    let listed = Command::new("git")
        // Root may look at a clone that is somebody else's.
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .args(["--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output()
        .context("failed to start git, which lists the repository's files; install it")?;
    if !listed.status.success() {
        bail!("git can't list the repository's files: run this in a clone of it");
    }
    let mut files = Files::new();
    for path in String::from_utf8_lossy(&listed.stdout).split('\0') {
        // Listed and gone: a file that was moved, and whose move isn't known to git yet.
        if path.is_empty() || !root.join(path).is_file() {
            continue;
        }
        let text = if is_page(path) || is_code(path) {
            std::fs::read_to_string(root.join(path))
                .with_context(|| format!("failed to read {path}"))?
        } else {
            String::new()
        };
        files.insert(path.to_owned(), text);
    }
    Ok(files)
}

fn is_page(path: &str) -> bool {
    path.ends_with(".md")
}

fn is_code(path: &str) -> bool {
    path == "Makefile" || [".rs", ".py", ".sh"].iter().any(|end| path.ends_with(end))
}

fn complaints(files: &Files) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in files {
        if is_page(path) {
            complaints.extend(broken_links(files, path, text));
        } else if path != TESTS {
            complaints.extend(missing_pages(files, path, text));
        }
    }
    complaints.extend(wrong_places(files));
    complaints.extend(unlisted_pages(files));
    complaints.extend(codes::complaints(files));
    complaints
}

/// A path that is a file or a folder with files.
fn exists(files: &Files, path: &str) -> bool {
    let inside = format!("{path}/");
    path.is_empty()
        || files.contains_key(path)
        || files.keys().any(|file| file.starts_with(&inside))
}

/// Why the place `path#anchor` isn't there, if it isn't.
fn missing(files: &Files, path: &str, anchor: &str) -> Option<String> {
    if !exists(files, path) {
        return Some(format!("there is no {path}"));
    }
    let text = files.get(path).filter(|_| is_page(path))?;
    (!anchor.is_empty() && !anchors(text).contains(anchor))
        .then(|| format!("{path} has no heading #{anchor}"))
}

fn broken_links(files: &Files, path: &str, text: &str) -> Vec<String> {
    let (folder, _) = path.rsplit_once('/').unwrap_or_default();
    let mut broken = Vec::new();
    for (number, line) in prose(text) {
        for target in links(line).filter(|target| !is_elsewhere(target)) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let found = match file {
                "" => Some(path.to_owned()),
                _ => joined(folder, file),
            };
            let why = match found {
                Some(found) => missing(files, &found, anchor),
                None => Some("it leads out of the repository".to_owned()),
            };
            broken.extend(why.map(|why| format!("{path}:{number}: the link {target}: {why}")));
        }
    }
    broken
}

/// Lines that are no code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    let numbered = text.lines().enumerate();
    numbered.filter_map(move |(at, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((at + 1, line))
    })
}

/// What `[text](target)` leads to.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let ends = line.split("](").skip(1);
    ends.filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

fn is_elsewhere(target: &str) -> bool {
    target.contains("://") || target.starts_with("mailto:")
}

/// `folder/file` without `.` and `..`; `None` where that is outside of the repository.
fn joined(folder: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// How GitHub names the headings of a page: a second one of a name is `NAME-1`.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let heading = heading.trim().to_lowercase();
        let name: String = heading.chars().filter(kept).collect();
        let name = name.replace(' ', "-");
        let numbered = (1_usize..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone())
            .chain(numbered)
            .find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

/// Pages that code names and that aren't there.
fn missing_pages(files: &Files, path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for (start, word) in line.match_indices("docs/") {
            // A part of another name, as a URL's.
            let before = line.get(..start).unwrap_or_default();
            if before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_')) {
                continue;
            }
            let of_a_path =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '#');
            let rest = line.get(start + word.len()..).unwrap_or_default();
            let end = rest.find(|c| !of_a_path(c)).unwrap_or(rest.len());
            let named = line.get(start..start + word.len() + end).unwrap_or(word);
            let named = named.trim_end_matches('.');
            let (page, anchor) = named.split_once('#').unwrap_or((named, ""));
            if is_page(page) {
                let why = missing(files, page, anchor);
                complaints.extend(why.map(|why| format!("{path}:{}: {why}", at + 1)));
            }
        }
    }
    complaints
}

/// The rows of the table of places: `| question | `path` `item` … |`.
fn wrong_places(files: &Files) -> Vec<String> {
    let text = files.get(ARCHITECTURE).map_or("", String::as_str);
    let (mut inside, mut rows, mut complaints) = (false, 0, Vec::new());
    for (number, line) in prose(text) {
        if let Some(heading) = line.strip_prefix("## ") {
            inside = heading.starts_with(WHERE);
        }
        let answer = line.rsplit(" | ").next().filter(|_| line.starts_with("| "));
        let Some(answer) = answer.filter(|answer| inside && answer.contains('`')) else {
            continue;
        };
        rows += 1;
        let whys = wrong_answer(files, answer).into_iter();
        complaints.extend(whys.map(|why| format!("{ARCHITECTURE}:{number}: {why}")));
    }
    if rows == 0 {
        complaints.push(format!("{ARCHITECTURE} has no table \"{WHERE} …\""));
    }
    complaints
}

fn wrong_answer(files: &Files, answer: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut file: Option<&str> = None;
    let mut items = 0;
    for quoted in answer.split('`').skip(1).step_by(2) {
        match file {
            _ if quoted.contains('/') => {
                if !exists(files, quoted) {
                    complaints.push(format!("there is no {quoted}"));
                }
                file = Some(quoted);
            }
            Some(file) => {
                items += 1;
                let text = files.get(file).map_or("", String::as_str);
                if !defines(text, quoted) {
                    complaints.push(format!("{file} doesn't define {quoted}"));
                }
            }
            None => complaints.push(format!("{quoted} comes before any path")),
        }
    }
    if items == 0 {
        complaints.push("no item is named beside the path".to_owned());
    }
    complaints
}

fn defines(text: &str, item: &str) -> bool {
    let mut words = text.lines().map(|line| {
        let line = line.split("//").next().unwrap_or_default();
        let name = |c: char| !c.is_alphanumeric() && c != '_';
        line.split(name)
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
    });
    words.any(|words| {
        let mut pairs = words.windows(2);
        pairs.any(
            |pair| matches!(pair, [definer, name] if DEFINERS.contains(definer) && *name == item),
        )
    })
}

/// Pages that the list of pages doesn't have.
fn unlisted_pages(files: &Files) -> Vec<String> {
    let list = files.get(LIST).map_or("", String::as_str);
    let listed: BTreeSet<&str> = list.lines().flat_map(links).collect();
    let pages = files.keys().filter_map(|path| path.strip_prefix("docs/"));
    pages
        .filter(|page| is_page(page) && *page != "README.md" && !listed.contains(page))
        .map(|page| format!("{LIST} has no line for {page}"))
        .collect()
}

#[cfg(test)]
mod tests;
