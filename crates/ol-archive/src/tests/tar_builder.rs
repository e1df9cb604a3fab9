//! Builds archives that no tar program would write, and unpacks them in a directory that shows whether something got out.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use crate::{ExtractError, ExtractLimits, Extracted, Refusal, extract};

/// Builds a tar archive: every header has the given fields, however wrong, and a correct checksum.
#[derive(Debug, Default, Clone)]
pub(super) struct TarBuilder(pub(super) Vec<u8>);

impl TarBuilder {
    pub(super) fn new() -> TarBuilder {
        TarBuilder::default()
    }

    pub(super) fn file(self, name: &[u8], contents: &[u8]) -> TarBuilder {
        self.member(name, b'0', contents)
    }

    pub(super) fn directory(self, name: &[u8]) -> TarBuilder {
        self.member(name, b'5', b"")
    }

    pub(super) fn link(self, name: &[u8], kind: u8, target: &[u8]) -> TarBuilder {
        let mut header = header(name, kind, 0);
        header[157..157 + target.len()].copy_from_slice(target);
        self.raw(header, b"")
    }

    /// A member with these contents and their true size.
    pub(super) fn member(self, name: &[u8], kind: u8, contents: &[u8]) -> TarBuilder {
        self.raw(header(name, kind, contents.len() as u64), contents)
    }

    /// Adds a header, whose checksum is corrected, and contents padded to whole blocks.
    pub(super) fn raw(mut self, mut header: [u8; 512], contents: &[u8]) -> TarBuilder {
        seal(&mut header);
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(contents);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A pax header with these records for the next member.
    pub(super) fn pax(self, records: &[(&[u8], &[u8])]) -> TarBuilder {
        self.member(b"PaxHeaders/x", b'x', &pax_records(records))
    }

    /// The end marker: two blocks of zeros.
    pub(super) fn end(mut self) -> TarBuilder {
        self.0.extend_from_slice(&[0; 1024]);
        self
    }

    pub(super) fn gz(&self) -> Vec<u8> {
        gz(&self.0)
    }
}

pub(super) fn header(name: &[u8], kind: u8, size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"14000000000\0");
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header
}

pub(super) fn seal(header: &mut [u8; 512]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub(super) fn pax_records(records: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        // The length counts its own digits.
        let length = (rest + 1..)
            .find(|length| rest + length.to_string().len() == *length)
            .expect("some length fits");
        bytes.extend_from_slice(format!("{length} ").as_bytes());
        bytes.extend_from_slice(key);
        bytes.push(b'=');
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}

pub(super) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

/// A directory to unpack into, beside a file that must not be changed.
pub(super) struct UnpackDir {
    outer: TempDir,
}

impl UnpackDir {
    pub(super) fn new() -> UnpackDir {
        let outer = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(outer.path().join("into")).expect("a new directory");
        fs::write(outer.path().join("canary"), "untouched").expect("a new file");
        UnpackDir { outer }
    }

    pub(super) fn outer(&self) -> &Path {
        self.outer.path()
    }

    pub(super) fn inside(&self) -> PathBuf {
        self.outer.path().join("into")
    }

    /// Unpacks a bundle, then checks that nothing was written outside, and that all kinds and modes inside are those of `extract`.
    ///
    /// The checks are made whether the bundle was unpacked or refused.
    pub(super) fn extract(
        &self,
        bundle: &[u8],
        limits: &ExtractLimits,
    ) -> Result<Extracted, ExtractError> {
        let outcome = extract(bundle, &self.inside(), limits);
        let mut outside: Vec<_> = fs::read_dir(self.outer())
            .expect("the directory is there")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        outside.sort();
        assert_eq!(outside, ["canary", "into"], "something got out");
        let canary = fs::read(self.outer().join("canary")).expect("the canary is there");
        assert_eq!(canary, b"untouched");
        let made = self.check_inside(&self.inside());
        if let Ok(extracted) = &outcome {
            assert_eq!(extracted.entries, made);
        }
        outcome
    }

    fn check_inside(&self, directory: &Path) -> u64 {
        let mut made = 0;
        for entry in fs::read_dir(directory).expect("a directory we made") {
            let path = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&path).expect("an entry that stays");
            let mode = metadata.permissions().mode() & 0o7777;
            made += 1;
            if metadata.is_dir() {
                assert_eq!(mode, 0o755, "{}", path.display());
                made += self.check_inside(&path);
            } else {
                assert!(metadata.is_file(), "{} is no file", path.display());
                assert!(mode == 0o644 || mode == 0o755, "{mode:o}");
            }
        }
        made
    }

    /// Unpacks a bundle that must be refused for `why`, at `member`, and says both to its owner.
    pub(super) fn refuses(&self, bundle: &TarBuilder, member: &str, why: &Refusal) {
        self.refuses_within(bundle, &ExtractLimits::default(), member, why);
    }

    pub(super) fn refuses_within(
        &self,
        bundle: &TarBuilder,
        limits: &ExtractLimits,
        member: &str,
        why: &Refusal,
    ) {
        let error = self
            .extract(&bundle.gz(), limits)
            .expect_err("a bundle to refuse");
        let ExtractError::Refused {
            member: named,
            why: given,
        } = &error
        else {
            panic!("not refused but: {error}");
        };
        assert_eq!((named.as_str(), given), (member, why));
        assert!(error.to_string().contains(member));
        assert!(error.is_the_bundles_fault());
        let unpack_dir = self.outer().display().to_string();
        assert!(
            member.contains(&unpack_dir) || !error.to_string().contains(&unpack_dir),
            "{error}"
        );
    }
}
