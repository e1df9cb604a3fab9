//! What a member's header may say. Policy without I/O, so that tests can try any header.

use tar::EntryType;

use super::refusal::Refusal;

/// The longest name of one entry in a directory (NAME_MAX of every Linux file system that matters).
const MAX_PART: usize = 255;

/// The longest name: PATH_MAX (4096), less room for the directory under which the sandbox and the worker see the member.
const MAX_NAME: usize = 4096 - 256;

/// Names in errors are cut here: enough to find the member, too little to flood a log.
const MAX_SHOWN: usize = 200;

/// The kind of a member; every other kind is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Directory,
}

impl MemberKind {
    /// The kind of a member with this type flag. `name` is the raw name: archives before POSIX mark a directory by a trailing `/`.
    pub(super) fn of(entry: EntryType, name: &[u8]) -> Result<MemberKind, Refusal> {
        match entry {
            EntryType::Regular if name.ends_with(b"/") => Ok(MemberKind::Directory),
            EntryType::Regular => Ok(MemberKind::File),
            EntryType::Directory => Ok(MemberKind::Directory),
            EntryType::Symlink => Err(Refusal::Symlink),
            EntryType::Link => Err(Refusal::HardLink),
            EntryType::Char | EntryType::Block => Err(Refusal::Device),
            EntryType::Fifo => Err(Refusal::Fifo),
            EntryType::GNUSparse => Err(Refusal::Sparse),
            other => Err(Refusal::Kind(other.as_byte())),
        }
    }
}

/// A name that stays beneath the directory it is joined to: parts without `.` and `..`, joined by
/// single slashes; empty for the directory itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberPath(Vec<u8>);

impl MemberPath {
    pub(super) fn parse(name: &[u8], max_depth: u32) -> Result<MemberPath, Refusal> {
        if name.is_empty() {
            return Err(Refusal::Nameless);
        }
        if name.contains(&0) {
            return Err(Refusal::Nul);
        }
        if name.starts_with(b"/") {
            return Err(Refusal::Absolute);
        }
        if name.len() > MAX_NAME {
            return Err(Refusal::LongName(MAX_NAME));
        }
        let mut path = Vec::with_capacity(name.len());
        let mut depth = 0_u32;
        for part in name.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(Refusal::Climbs),
                _ if part.len() > MAX_PART => return Err(Refusal::LongPart(MAX_PART)),
                _ => {}
            }
            depth += 1;
            if depth > max_depth {
                return Err(Refusal::Deep(max_depth));
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        Ok(MemberPath(path))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory in which the member lies (empty for the root), and its name there.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        split(&self.0)
    }
}

/// [`MemberPath::split`] for a part of a path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// A member's name as errors show it: characters that could confuse a terminal or a log are escaped.
pub(super) fn shown(name: &[u8]) -> String {
    let mut text = String::new();
    let mut length = 0;
    for chunk in name.utf8_chunks() {
        let valid = chunk.valid().chars().map(|c| c.escape_debug().to_string());
        let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        for piece in valid.chain(invalid) {
            length += piece.chars().count();
            if length > MAX_SHOWN {
                text.push('…');
                return text;
            }
            text.push_str(&piece);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_brought_to_one_form() {
        for (name, path) in [
            ("f.py", "f.py"),
            ("./f.py", "f.py"),
            ("a//b/./c/", "a/b/c"),
            (".", ""),
            ("./", ""),
            ("..a/b..", "..a/b.."),
        ] {
            let parsed = MemberPath::parse(name.as_bytes(), 64).expect("a fine name");
            assert_eq!(parsed.as_bytes(), path.as_bytes(), "{name}");
        }
    }

    #[test]
    fn depth_counts_parts_not_slashes() {
        assert!(MemberPath::parse(b"./a//b/", 2).is_ok());
        assert_eq!(MemberPath::parse(b"a/b/c", 2), Err(Refusal::Deep(2)));
    }

    #[test]
    fn shown_names_are_harmless_and_short() {
        assert_eq!(
            shown(b"a\x1b[31m\n\"\xff\xe2\x80\xae"),
            r#"a\u{1b}[31m\n\"\xff\u{202e}"#
        );
        let long = shown(&[b'x'; 4000]);
        assert_eq!(long.chars().count(), MAX_SHOWN + 1);
        assert!(long.ends_with('…'));
    }

    proptest::proptest! {
        #[test]
        fn a_parsed_path_never_leaves(name in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::strategy::Just(b'/'), proptest::strategy::Just(b'.'), proptest::num::u8::ANY
            ], 0..300)) {
            if let Ok(path) = MemberPath::parse(&name, 64) {
                for part in path.as_bytes().split(|&b| b == b'/') {
                    proptest::prop_assert!(path.as_bytes().is_empty() || !part.is_empty());
                    proptest::prop_assert!(part != b"." && part != b"..");
                    proptest::prop_assert!(part.len() <= MAX_PART && !part.contains(&0));
                }
            }
        }
    }
}
