//! The headers that describe the next member: GNU long names and POSIX (pax) records.
//!
//! The tar crate could do this itself, but it reads each such header whole into memory, however long the header says it is. It also
//! ends a record at a newline, which may occur within the binary attributes that macOS packs. Therefore the tar crate runs in raw mode
//! and this module reads the headers, with a limit, in the length-prefixed form of pax(1).

use std::io::Read;

use tar::EntryType;

use super::refusal::Refusal;

/// The most bytes of all extension headers of one member together.
///
/// A path needs 4 KiB, and many attributes a few more. The headers are kept in memory before anything else of the member is known.
pub(super) const MAX_EXTENSIONS: u64 = 64 << 10;

/// The kind of an extension header, by its type flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extension {
    GnuName,
    GnuLink,
    Pax,
    PaxGlobal,
}

impl Extension {
    pub(super) fn of(entry: EntryType) -> Option<Extension> {
        match entry {
            EntryType::GNULongName => Some(Extension::GnuName),
            EntryType::GNULongLink => Some(Extension::GnuLink),
            EntryType::XHeader => Some(Extension::Pax),
            EntryType::XGlobalHeader => Some(Extension::PaxGlobal),
            _ => None,
        }
    }
}

/// Why an extension header could not be read.
#[derive(Debug)]
pub(super) enum ExtensionError {
    Refused(Refusal),
    /// The stream ended too early or failed; the gauge knows which.
    Broken,
}

/// What is known of the next member before its own header.
#[derive(Debug, Default)]
pub(super) struct Pending {
    taken: u64,
    gnu_name: Option<Vec<u8>>,
    gnu_link: bool,
    pax: Option<Pax>,
}

impl Pending {
    /// Whether no header is waiting for its member.
    pub(super) fn is_empty(&self) -> bool {
        self.gnu_name.is_none() && !self.gnu_link && self.pax.is_none()
    }

    /// Reads one extension header of `size` bytes.
    pub(super) fn take(
        &mut self,
        extension: Extension,
        size: u64,
        contents: &mut impl Read,
    ) -> Result<(), ExtensionError> {
        let refuse = |why| Err(ExtensionError::Refused(why));
        self.taken = self.taken.saturating_add(size);
        if self.taken > MAX_EXTENSIONS {
            return refuse(Refusal::LongExtension(MAX_EXTENSIONS));
        }
        let mut bytes = Vec::new();
        contents
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(|_| ExtensionError::Broken)?;
        if bytes.len() as u64 != size {
            return Err(ExtensionError::Broken);
        }
        match extension {
            Extension::GnuName if self.gnu_name.is_some() => refuse(Refusal::TwoNames),
            Extension::GnuName => {
                let end = bytes.iter().rposition(|&byte| byte != 0);
                bytes.truncate(end.map_or(0, |at| at + 1));
                self.gnu_name = Some(bytes);
                Ok(())
            }
            // Only links have such a header, and a link is refused when its own header is read.
            Extension::GnuLink => {
                self.gnu_link = true;
                Ok(())
            }
            Extension::Pax if self.pax.is_some() => refuse(Refusal::BadExtension),
            Extension::Pax => match Pax::parse(&bytes) {
                Some(pax) => {
                    self.pax = Some(pax);
                    Ok(())
                }
                None => refuse(Refusal::BadExtension),
            },
            // `git archive` puts the commit here. It belongs to no member, so its bytes don't count.
            Extension::PaxGlobal => match Pax::parse(&bytes) {
                Some(pax) if pax == Pax::default() => {
                    self.taken -= size;
                    Ok(())
                }
                Some(_) => refuse(Refusal::GlobalExtension),
                None => refuse(Refusal::BadExtension),
            },
        }
    }

    /// The member's name, given the one in its own header.
    ///
    /// A member with both kinds of extension is refused: readers disagree on which of them counts, so a scanner could see another member
    /// than is unpacked here.
    pub(super) fn name(&self, own: &[u8]) -> Result<Vec<u8>, Refusal> {
        let pax = self.pax.as_ref().and_then(|pax| pax.path.as_ref());
        match (&self.gnu_name, pax) {
            (Some(_), Some(_)) => Err(Refusal::TwoNames),
            (Some(name), None) | (None, Some(name)) => Ok(name.clone()),
            (None, None) => Ok(own.to_vec()),
        }
    }

    /// Checks that the extensions don't contradict `size`, the size in the member's own header.
    ///
    /// An extension needs to give a size only from 8 GiB on. In any other case a different size hides members from some readers (as in
    /// TARmageddon, CVE-2025-62518).
    pub(super) fn check(&self, size: u64) -> Result<(), Refusal> {
        match &self.pax {
            Some(pax) if pax.sparse => Err(Refusal::Sparse),
            Some(pax) if pax.size.is_some_and(|given| given != size) => Err(Refusal::TwoSizes),
            _ => Ok(()),
        }
    }
}

/// The records of a pax header that are used here; times, owners and attributes aren't.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pax {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Pax {
    /// Records are `LENGTH KEY=VALUE\n`, where LENGTH counts all of it; a later one overrides.
    fn parse(mut bytes: &[u8]) -> Option<Pax> {
        let mut pax = Pax::default();
        while !bytes.is_empty() {
            let space = bytes.iter().position(|&byte| byte == b' ')?;
            let length = decimal(&bytes[..space])?;
            let length = usize::try_from(length).ok()?;
            let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&byte| byte == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                // An empty value revokes an earlier record (POSIX).
                b"path" => pax.path = (!value.is_empty()).then(|| value.to_vec()),
                b"size" if value.is_empty() => pax.size = None,
                b"size" => pax.size = Some(decimal(value)?),
                _ if key.starts_with(b"GNU.sparse.") => pax.sparse = true,
                _ => {}
            }
            bytes = &bytes[length..];
        }
        Some(pax)
    }
}

/// Parses digits only; `parse` alone would accept a sign.
fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_by_length_not_by_newline() {
        let pax = Pax::parse(b"24 SCHILY.xattr.a=\n\n9\x00\xff\n16 path=a\nb/c.d\n")
            .expect("two sound records");
        assert_eq!(pax.path.as_deref(), Some(&b"a\nb/c.d"[..]));
        assert_eq!((pax.size, pax.sparse), (None, false));
    }

    #[test]
    fn damaged_records_are_refused() {
        for bytes in [
            &b"9 path=a\n\n"[..],
            b"99 path=a\n",
            b"+9 path=a\n",
            b" path=a\n",
            b"8 path=a\n",
            b"0 path=a\n",
            b"1 ",
            b"2 \n",
            b"10 size=-1\n",
            b"99999999999999999999999 path=a\n",
        ] {
            assert_eq!(Pax::parse(bytes), None, "{}", bytes.escape_ascii());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_parse_or_dont(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Pax::parse(&bytes);
        }
    }
}
