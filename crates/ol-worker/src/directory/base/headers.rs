//! Collects the properties of an archive's next member from all headers about it: its own, GNU's long names, and POSIX (pax) records.
//!
//! The tar crate could do this itself, but reads each such header into memory, however long it claims to be. Thus the crate runs in raw
//! mode, and the headers are read here, up to a limit.

use std::io::Read;

use tar::{EntryType, Header};

/// The most bytes of extra headers of one member: a name and a target of 4 KiB each, and attributes, which are skipped.
const MOST: u64 = 256 << 10;

/// PATH_MAX: a longer name could not be given to a system call.
const LONGEST_NAME: usize = 4096;

/// The headers about the next member that were read so far.
#[derive(Debug, Default)]
pub(super) struct Pending {
    taken: u64,
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

/// What is wrong with a header.
pub(super) type Problem = &'static str;

impl Pending {
    /// Reads a header that is about the next member; returns false when it is a member itself.
    ///
    /// The inner `None` of an error means that the archive can't be read any further.
    pub(super) fn take(
        &mut self,
        kind: EntryType,
        size: u64,
        content: &mut impl Read,
    ) -> Result<bool, Option<Problem>> {
        match kind {
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader => {}
            // Applies to the whole archive, like a comment; contains nothing about a file.
            EntryType::XGlobalHeader => return Ok(true),
            _ => return Ok(false),
        }
        self.taken = self.taken.saturating_add(size);
        if self.taken > MOST {
            return Err(Some("has too long a header"));
        }
        let mut bytes = Vec::new();
        let read = content.read_to_end(&mut bytes);
        if read.ok().map(|read| read as u64) != Some(size) {
            return Err(None);
        }
        match kind {
            EntryType::GNULongName => self.name = Some(without_end(bytes)),
            EntryType::GNULongLink => self.target = Some(without_end(bytes)),
            _ => self.pax(&bytes).ok_or(Some("has a damaged header"))?,
        }
        Ok(true)
    }

    /// Reads records of the form `LENGTH KEY=VALUE\n`. The length counts the whole record; a value may contain any byte.
    fn pax(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let blank = bytes.iter().position(|&byte| byte == b' ')?;
            let length: usize = std::str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
            let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&byte| byte == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                // Not kept: times in nanoseconds, owners' names, attributes such as capabilities.
                _ => {}
            }
            bytes = &bytes[length..];
        }
        Some(())
    }

    /// The member's name and, if it is a link, its target.
    pub(super) fn resolve(self, header: &Header, size: u64) -> Result<(Vec<u8>, Vec<u8>), Problem> {
        // The tar reader uses the size in the member's own header; with another one it would lose its place in the archive.
        if self.size.is_some_and(|said| said != size) {
            return Err("is larger than 8 GiB");
        }
        if self.sparse || header.entry_type() == EntryType::GNUSparse {
            return Err("is sparse; pack it without --sparse");
        }
        let name = self
            .name
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let own_target = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
        let target = self.target.or_else(own_target).unwrap_or_default();
        for text in [&name, &target] {
            if text.len() > LONGEST_NAME {
                return Err("has a name longer than 4,096 bytes");
            }
            if text.contains(&0) {
                return Err("has a name with a zero byte");
            }
        }
        Ok((name, target))
    }

    /// Whether no headers were read that still wait for their member.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0
    }
}

/// GNU tar ends its long names with a zero byte.
fn without_end(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_by_length_not_by_newline() {
        let mut pending = Pending::default();
        let bytes = b"24 SCHILY.xattr.a=\n\n9\x00\xff\n16 path=a\nb/c.d\n17 linkpath=../x\n";
        pending.pax(bytes).expect("three sound records");
        assert_eq!(pending.name.as_deref(), Some(&b"a\nb/c.d"[..]));
        assert_eq!(pending.target.as_deref(), Some(&b"../x"[..]));
    }

    #[test]
    fn damaged_records_are_refused() {
        for bytes in [
            &b"9 path=a\n\n"[..],
            b"99 path=a\n",
            b" path=a\n",
            b"8 path=a\n",
            b"0 a=\n",
        ] {
            assert_eq!(
                Pending::default().pax(bytes),
                None,
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn a_header_that_never_ends_is_not_read() {
        let mut endless = std::io::repeat(b'x');
        let taken = Pending::default().take(EntryType::GNULongName, u64::MAX, &mut endless);
        assert!(taken.is_err());
    }
}
