//! Plain tar archives: the same checks, without gzip.

use std::fs;
use std::io::{self, Read};

use super::tar_builder::{TarBuilder, UnpackDir, header};
use crate::{ExtractError, ExtractLimits, Refusal, extract_tar};

fn unpack(unpack_dir: &UnpackDir, tar: impl Read) -> Result<crate::Extracted, ExtractError> {
    extract_tar(tar, &unpack_dir.inside(), &ExtractLimits::default())
}

/// A reader that yields one byte at a time, and fails with `Interrupted` before each.
struct Halting<'a>(&'a [u8], bool);

impl Read for Halting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = buffer.len().min(1);
        self.0.read(&mut buffer[..most])
    }
}

#[test]
fn a_plain_tar_comes_out_however_it_is_read() {
    let tar = TarBuilder::new().file(b"a/f.py", b"def f").end().0;
    let unpack_dir = UnpackDir::new();
    unpack(&unpack_dir, Halting(&tar, false)).expect("sound");
    let file = fs::read(unpack_dir.inside().join("a/f.py")).expect("a file");
    assert_eq!(file, b"def f");
}

#[test]
fn cut_at_any_byte_it_is_never_taken_for_whole() {
    let tar = TarBuilder::new()
        .file(b"f.py", &[b'x'; 600])
        .pax(&[(b"path", b"long")])
        .file(b"x", b"y")
        .end()
        .0;
    for length in 0..tar.len() - 512 {
        let error = unpack(&UnpackDir::new(), &tar[..length]).expect_err("cut");
        assert!(
            matches!(error, ExtractError::CutShort { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn what_is_no_tar_or_leads_out_or_is_too_much_is_refused() {
    let not = unpack(&UnpackDir::new(), &[b'x'; 2048][..]);
    assert!(matches!(not, Err(ExtractError::NotTar { .. })), "{not:?}");
    // A packed archive isn't accepted as a plain tar.
    let packed = TarBuilder::new().file(b"f.py", b"").end().gz();
    unpack(&UnpackDir::new(), &packed[..]).expect_err("packed");
    let out = TarBuilder::new().file(b"../f", b"").end().0;
    let out = unpack(&UnpackDir::new(), &out[..]);
    assert!(
        matches!(&out, Err(ExtractError::Refused { member, why: Refusal::Climbs }) if member == "../f"),
        "{out:?}"
    );
    let two = [
        TarBuilder::new().end().0,
        TarBuilder::new().file(b"f", b"").end().0,
    ]
    .concat();
    let two = unpack(&UnpackDir::new(), &two[..]);
    assert!(
        matches!(two, Err(ExtractError::TrailingData { .. })),
        "{two:?}"
    );
    // Endless zeros behind the end are limited too.
    let limits = ExtractLimits {
        bytes: 1 << 20,
        ..ExtractLimits::default()
    };
    let endless = TarBuilder::new().end().0;
    let endless = extract_tar(
        endless.chain(io::repeat(0)),
        &UnpackDir::new().inside(),
        &limits,
    );
    assert!(
        matches!(&endless, Err(ExtractError::Refused { why: Refusal::Bytes(limit), .. }) if *limit == 1 << 20),
        "{endless:?}"
    );
}

#[test]
fn a_source_that_fails_at_any_byte_is_the_hosts_fault() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof))
        }
    }
    let tar = TarBuilder::new().raw(header(b"f", b'0', 3), b"abc").end().0;
    for good in 0..tar.len() {
        let error = unpack(&UnpackDir::new(), tar[..good].chain(Failing)).expect_err("failed");
        assert!(
            matches!(error, ExtractError::Read { .. }),
            "{good}: {error}"
        );
    }
}

#[test]
fn every_refusal_has_a_fact_without_its_advice() {
    for (why, fact) in [
        (Refusal::Symlink, "it is a symbolic link"),
        (Refusal::Twice, "it is in the archive twice"),
        (Refusal::Kind(0x5a), "it is of kind 0x5a"),
        (Refusal::Entries(3), "the archive holds over 3 entries"),
    ] {
        assert_eq!(why.fact(), fact);
    }
}
