//! One package's exact version, and why its name is safe as a directory name.
//!
//! A [`Pin`] displays as `NAME==VERSION`, which is its directory in the store. Both halves are always the result of normalising: letters,
//! digits and `-` on the left; letters, digits and `.+!` on the right. Hence they contain no separator, don't start with a dot, and are
//! short enough for any file system.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest name in characters. The longest on PyPI has 80.
const MAX_NAME: usize = 128;

/// The longest version in characters. Together with a name and the parts of a partial directory's name, it stays below 255 bytes.
const MAX_VERSION: usize = 80;

/// Why a text is no name, version, hash or pin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PinError {
    /// Not a package's name.
    #[error(
        "\"{0}\" is no package name; use letters, digits, '-', '_' and '.', starting and ending with a letter or digit"
    )]
    Name(String),
    /// Not a version by PEP 440.
    #[error("\"{0}\" is no version; write one like 1.26.4 (PEP 440)")]
    Version(String),
    /// Not 64 hexadecimal digits.
    #[error("\"{0}\" is no SHA-256; write its 64 hexadecimal digits")]
    Hash(String),
    /// A name or version over its limit in characters.
    #[error("\"{0}\" is over {1} characters long; shorten it")]
    Long(String, usize),
}

/// A package's name, normalised as in PEP 503: lower case, each run of `-`, `_` and `.` replaced by one `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName(String);

impl PackageName {
    /// Normalises `text`.
    ///
    /// # Errors
    /// When it isn't a name by PEP 508, or is over 128 characters.
    pub fn parse(text: &str) -> Result<Self, PinError> {
        if text.len() > MAX_NAME {
            return Err(PinError::Long(shown(text), MAX_NAME));
        }
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        if !(ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|&byte| sound(byte))) {
            return Err(PinError::Name(shown(text)));
        }
        let mut name = String::with_capacity(text.len());
        for c in text.chars() {
            if c.is_ascii_alphanumeric() {
                name.push(c.to_ascii_lowercase());
            } else if !name.ends_with('-') {
                name.push('-');
            }
        }
        Ok(Self(name))
    }

    /// The normalised name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An exact version, normalised by PEP 440.
///
/// `1.0` and `1.0.0` are the same release but different texts, hence different versions here: each has its own directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(String);

impl Version {
    /// Normalises `text`: `1.0-Alpha.1` becomes `1.0a1`.
    ///
    /// # Errors
    /// When it isn't a version by PEP 440, or is over 80 characters.
    pub fn parse(text: &str) -> Result<Self, PinError> {
        if text.len() > MAX_VERSION {
            return Err(PinError::Long(shown(text), MAX_VERSION));
        }
        let wrong = || PinError::Version(shown(text));
        // The parser would trim; here blanks are an error, so that no name with blanks is taken for a directory's.
        if text.trim() != text {
            return Err(wrong());
        }
        let version = pep440_rs::Version::from_str(text).map_err(|_| wrong())?;
        Self::of(&version).ok_or_else(wrong)
    }

    /// The text of `version`, or `None` if it could not name a directory.
    pub(crate) fn of(version: &pep440_rs::Version) -> Option<Self> {
        let text = version.to_string();
        let sound = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase() || ".+!".contains(c);
        let safe = text.len() <= MAX_VERSION
            && text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(sound);
        safe.then_some(Self(text))
    }

    /// The normalised version.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256, displayed as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Reads 64 hexadecimal digits of either case.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, PinError> {
        let wrong = || PinError::Hash(shown(text));
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }

    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

/// One package's exact version and the hashes of the archives that it may come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin {
    name: PackageName,
    version: Version,
    hashes: Vec<Sha256>,
}

impl Pin {
    /// Makes a pin; `hashes` may be in any order and repeat.
    #[must_use]
    pub fn new(name: PackageName, version: Version, mut hashes: Vec<Sha256>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        Self {
            name,
            version,
            hashes,
        }
    }

    /// Reads a directory's name, without hashes. Only the normal form is accepted: `flask==3.0`, not `Flask==3.0`.
    #[must_use]
    pub fn of_directory(directory: &str) -> Option<Self> {
        let (name, version) = directory.split_once("==")?;
        let (name, version) = (
            PackageName::parse(name).ok()?,
            Version::parse(version).ok()?,
        );
        let pin = Self::new(name, version, Vec::new());
        (pin.to_string() == directory).then_some(pin)
    }

    /// The package.
    #[must_use]
    pub fn name(&self) -> &PackageName {
        &self.name
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Hashes of its archives, sorted, without repeats; empty when none is known.
    #[must_use]
    pub fn hashes(&self) -> &[Sha256] {
        &self.hashes
    }
}

/// `NAME==VERSION`, the directory's name.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=={}", self.name, self.version)
    }
}

/// Formats a text for error messages: escaped, and cut at 100 characters.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 100;
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MOST {
            shown.push('…');
            break;
        }
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pin(name: &str, version: &str) -> Pin {
        let name = PackageName::parse(name).expect("a name");
        Pin::new(name, Version::parse(version).expect("a version"), vec![])
    }

    #[test]
    fn names_and_versions_are_normalised() {
        for (name, version, directory) in [
            ("Zope.Interface", "1.0", "zope-interface==1.0"),
            ("a__b-.c", "1.0-Alpha.1", "a-b-c==1.0a1"),
            ("x", "v2!1.0.POST1+Ubuntu.1", "x==2!1.0.post1+ubuntu.1"),
        ] {
            assert_eq!(pin(name, version).to_string(), directory);
            assert!(Pin::of_directory(directory).is_some(), "{directory}");
        }
        assert_ne!(pin("x", "1.0"), pin("x", "1.0.0"));
    }

    #[test]
    fn what_could_leave_the_directory_is_neither() {
        let long = "x".repeat(129);
        for name in [
            "", ".", "..", "../x", "a/b", "-a", "a-", "a b", "ä", "a\0b", &long,
        ] {
            assert!(PackageName::parse(name).is_err(), "{name}");
        }
        let long = format!("1.{}", "0".repeat(79));
        for version in [
            "", "..", "1/../2", "1.0/", " 1.0", "1.0\n", "1.*", "../1", &long,
        ] {
            assert!(Version::parse(version).is_err(), "{version}");
        }
        for directory in [
            "x",
            "X==1",
            "x==1.0-1",
            "x== 1",
            "x===1",
            ".partial-x==1",
            "x==v1",
        ] {
            assert_eq!(Pin::of_directory(directory), None, "{directory}");
        }
    }

    #[test]
    fn hashes_are_sorted_once_each_and_known() {
        let of = Sha256::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of.to_string(), text);
        assert_eq!(Sha256::parse(&text.to_uppercase()), Ok(of));
        assert!(Sha256::parse(&text[1..]).is_err() && Sha256::parse(&"é".repeat(32)).is_err());
        let other = Sha256::of(b"");
        let mut both = [of, other];
        both.sort_unstable();
        let name = PackageName::parse("x").expect("a name");
        let version = Version::parse("1").expect("a version");
        assert_eq!(Pin::new(name, version, vec![of, other, of]).hashes(), both);
    }

    proptest! {
        #[test]
        fn a_pin_is_one_sound_directory(name in "[A-Za-z0-9._/-]{1,12}", version in "v?[0-9]{1,2}[!.]?[0-9a-z.+_/-]{0,10}") {
            let (name, version) = (PackageName::parse(&name), Version::parse(&version));
            if let (Ok(name), Ok(version)) = (name, version) {
                let pin = Pin::new(name, version, vec![]);
                let directory = pin.to_string();
                prop_assert!(!directory.contains('/') && !directory.starts_with('.'));
                prop_assert_eq!(Pin::of_directory(&directory), Some(pin));
            }
        }

        #[test]
        fn anything_parses_or_doesnt(text in any::<String>()) {
            let _ = (PackageName::parse(&text), Version::parse(&text), Sha256::parse(&text), Pin::of_directory(&text));
        }
    }
}
