//! Bundles made to do harm: each is refused at the member that would do it, and nothing is written outside.

use std::io::{self, Read};

use super::tar_builder::{TarBuilder, UnpackDir, gz, header, pax_records};
use crate::{ExtractError, ExtractLimits, Refusal, extract};

fn small() -> ExtractLimits {
    ExtractLimits {
        bytes: 100 << 10,
        entries: 10,
        depth: 4,
        ratio: 200,
    }
}

#[test]
fn names_that_lead_outside() {
    let unpack_dir = UnpackDir::new();
    let absolute = format!("{}/escape", unpack_dir.outer().display());
    for (name, why) in [
        ("../escape", Refusal::Climbs),
        ("a/../../escape", Refusal::Climbs),
        ("a/..", Refusal::Climbs),
        ("./..", Refusal::Climbs),
        (absolute.as_str(), Refusal::Absolute),
        ("//escape", Refusal::Absolute),
    ] {
        let bundle = TarBuilder::new().file(b"f.py", b"x");
        let bundle = bundle.file(name.as_bytes(), b"out").end();
        UnpackDir::new().refuses(&bundle, name, &why);
        let bundle = TarBuilder::new().directory(name.as_bytes()).end();
        UnpackDir::new().refuses(&bundle, name, &why);
    }
}

#[test]
fn names_that_lead_outside_by_way_of_an_extension() {
    let gnu = TarBuilder::new().member(b"././@LongLink", b'L', b"../escape\0");
    UnpackDir::new().refuses(&gnu.file(b"ok", b"").end(), "../escape", &Refusal::Climbs);
    let pax = TarBuilder::new().pax(&[(b"path", b"/escape")]);
    UnpackDir::new().refuses(&pax.file(b"ok", b"").end(), "/escape", &Refusal::Absolute);
    let mut prefixed = header(b"escape", b'0', 0);
    prefixed[345..347].copy_from_slice(b"..");
    let prefixed = TarBuilder::new().raw(prefixed, b"").end();
    UnpackDir::new().refuses(&prefixed, "../escape", &Refusal::Climbs);
}

#[test]
fn links_are_never_made_so_never_followed() {
    let unpack_dir = UnpackDir::new();
    let outer = unpack_dir.outer().display().to_string();
    let through = TarBuilder::new().link(b"door", b'2', outer.as_bytes());
    let through = through.file(b"door/escape", b"out").end();
    unpack_dir.refuses(&through, "door", &Refusal::Symlink);
    let canary = TarBuilder::new().link(b"door", b'1', b"../canary");
    let canary = canary.file(b"door", b"out").end();
    UnpackDir::new().refuses(&canary, "door", &Refusal::HardLink);
    let long = TarBuilder::new().member(b"././@LongLink", b'K', b"/etc/passwd\0");
    let long = long.link(b"door", b'2', b"x").end();
    UnpackDir::new().refuses(&long, "door", &Refusal::Symlink);
}

#[test]
fn a_link_that_is_there_already_is_not_followed() {
    let unpack_dir = UnpackDir::new();
    std::os::unix::fs::symlink(unpack_dir.outer(), unpack_dir.inside().join("door"))
        .expect("a link");
    std::os::unix::fs::symlink("../canary", unpack_dir.inside().join("file")).expect("a link");
    for (name, why) in [
        ("door/escape", Refusal::FileAndDirectory),
        ("door/deep/escape", Refusal::FileAndDirectory),
        ("door", Refusal::Twice),
        ("file", Refusal::Twice),
    ] {
        let bundle = TarBuilder::new().file(name.as_bytes(), b"out").end();
        let error = extract(
            &bundle.gz()[..],
            &unpack_dir.inside(),
            &ExtractLimits::default(),
        );
        match error {
            Err(ExtractError::Refused { member, why: given }) => {
                assert_eq!((member.as_str(), given), (name, why));
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(
        !unpack_dir.outer().join("escape").exists() && !unpack_dir.outer().join("deep").exists()
    );
    let canary = std::fs::read(unpack_dir.outer().join("canary")).expect("the canary");
    assert_eq!(canary, b"untouched");
}

#[test]
fn kinds_that_are_neither_file_nor_directory() {
    for (kind, why) in [
        (b'1', Refusal::HardLink),
        (b'2', Refusal::Symlink),
        (b'3', Refusal::Device),
        (b'4', Refusal::Device),
        (b'6', Refusal::Fifo),
        (b'7', Refusal::Kind(b'7')),
        (b'S', Refusal::Sparse),
        (b'D', Refusal::Kind(b'D')),
        (b'M', Refusal::Kind(b'M')),
        (b'Z', Refusal::Kind(b'Z')),
        (0xff, Refusal::Kind(0xff)),
    ] {
        let bundle = TarBuilder::new().directory(b"./").file(b"f.py", b"x");
        UnpackDir::new().refuses(&bundle.member(b"odd", kind, b"").end(), "odd", &why);
    }
    for key in [&b"GNU.sparse.major"[..], b"GNU.sparse.map"] {
        let bundle = TarBuilder::new()
            .pax(&[(key, b"1")])
            .file(b"odd", b"x")
            .end();
        UnpackDir::new().refuses(&bundle, "odd", &Refusal::Sparse);
    }
}

#[test]
fn names_that_no_file_can_have() {
    let named = |name: &[u8]| {
        TarBuilder::new()
            .pax(&[(b"path", name)])
            .file(b"ok", b"")
            .end()
    };
    UnpackDir::new().refuses(
        &TarBuilder::new().file(b"", b"").end(),
        "",
        &Refusal::Nameless,
    );
    UnpackDir::new().refuses(&named(b"a\0b"), "a\\0b", &Refusal::Nul);
    let part = [b'x'; 256];
    let shown = format!("{}…", "x".repeat(200));
    UnpackDir::new().refuses(&named(&part), &shown, &Refusal::LongPart(255));
    let name = b"y/".repeat(3000);
    let shown = format!("{}…", "y/".repeat(100));
    UnpackDir::new().refuses(&named(&name), &shown, &Refusal::LongName(3840));
    UnpackDir::new().refuses(
        &named(b"a\x1b]0;\xffb/.."),
        "a\\u{1b}]0;\\xffb/..",
        &Refusal::Climbs,
    );
    let dot = TarBuilder::new().file(b".", b"x").end();
    UnpackDir::new().refuses(&dot, ".", &Refusal::FileAndDirectory);
}

#[test]
fn two_members_of_one_name() {
    for (first, second, why) in [
        (b'0', b'0', Refusal::Twice),
        (b'0', b'5', Refusal::FileAndDirectory),
        (b'5', b'0', Refusal::FileAndDirectory),
    ] {
        let bundle = TarBuilder::new().member(b"a/b", first, b"");
        let bundle = bundle.member(b"./a//b", second, b"").end();
        UnpackDir::new().refuses(&bundle, "./a//b", &why);
    }
    let below = TarBuilder::new()
        .file(b"a", b"x")
        .file(b"a/b/c", b"x")
        .end();
    UnpackDir::new().refuses(&below, "a/b/c", &Refusal::FileAndDirectory);
}

#[test]
fn too_deep_and_too_many() {
    let deep = TarBuilder::new()
        .file(b"1/2/3/4", b"")
        .file(b"1/2/3/4/5", b"")
        .end();
    let why = Refusal::Deep(4);
    UnpackDir::new().refuses_within(&deep, &small(), "1/2/3/4/5", &why);

    let why = Refusal::Entries(10);
    let many = (0..11).fold(TarBuilder::new(), |b, n| {
        b.file(format!("f{n}").as_bytes(), b"")
    });
    UnpackDir::new().refuses_within(&many.end(), &small(), "f10", &why);
    let repeated = (0..11).fold(TarBuilder::new(), |b, _| b.directory(b"d"));
    UnpackDir::new().refuses_within(&repeated.end(), &small(), "d", &why);
    // Four members, sixteen directories and files.
    let implied = (0..4).fold(TarBuilder::new(), |b, n| {
        b.file(format!("{n}/a/b/f").as_bytes(), b"")
    });
    UnpackDir::new().refuses_within(&implied.end(), &small(), "2/a/b/f", &why);
    let globals = (0..11).fold(TarBuilder::new(), |b, _| {
        b.member(
            b"pax_global_header",
            b'g',
            &pax_records(&[(b"comment", b"x")]),
        )
    });
    UnpackDir::new().refuses_within(&globals.end(), &small(), "pax_global_header", &why);
}

#[test]
fn too_large_is_refused_before_it_is_written() {
    let unpack_dir = UnpackDir::new();
    let claims = TarBuilder::new().file(b"f.py", b"x");
    let claims = claims.raw(header(b"big", b'0', 101 << 10), b"").end();
    unpack_dir.refuses_within(&claims, &small(), "big", &Refusal::Bytes(100 << 10));
    assert!(!unpack_dir.inside().join("big").exists());

    let sum = TarBuilder::new().file(b"half", &[b'x'; 60 << 10]);
    let sum = sum.file(b"other", &[b'x'; 60 << 10]).end();
    UnpackDir::new().refuses_within(&sum, &small(), "other", &Refusal::Bytes(100 << 10));

    // Bytes that never become part of a file count too: here the padding behind the end.
    let mut padded = TarBuilder::new().file(b"f.py", b"x").end();
    padded.0.resize(101 << 10, 0);
    UnpackDir::new().refuses_within(&padded, &small(), "f.py", &Refusal::Bytes(100 << 10));

    // Sizes that overflow when they are rounded up, or that are longer than any stream.
    for field in [*b"77777777777\0", [0xff; 12]] {
        let mut liar = header(b"liar", b'0', 0);
        liar[124..136].copy_from_slice(&field);
        let bundle = TarBuilder::new().raw(liar, b"").end();
        let error = UnpackDir::new()
            .extract(&bundle.gz(), &ExtractLimits::default())
            .expect_err("no such file");
        assert!(error.is_the_bundles_fault(), "{error}");
    }
}

#[test]
fn a_bomb_is_stopped_by_its_ratio() {
    let bomb = TarBuilder::new().file(b"bomb", &vec![0; 70 << 20]).end();
    let dense = Refusal::Ratio(200);
    UnpackDir::new().refuses(&bomb, "bomb", &dense);
    let fine = TarBuilder::new().file(b"zeros", &vec![0; 60 << 20]).end();
    let extracted = UnpackDir::new().extract(&fine.gz(), &ExtractLimits::default());
    assert_eq!(extracted.expect("under the free amount").bytes, 60 << 20);
}

#[test]
fn extension_headers_that_are_too_long_or_ambiguous() {
    let long = vec![b'x'; (64 << 10) + 1];
    let why = Refusal::LongExtension(64 << 10);
    for kind in [b'L', b'K', b'x', b'g'] {
        let bundle = TarBuilder::new()
            .member(b"ext", kind, &long)
            .file(b"f", b"");
        UnpackDir::new().refuses(&bundle.end(), "ext", &why);
    }
    // Refused both if only the header claims that much, and if it comes in many pieces.
    let claims = TarBuilder::new()
        .raw(header(b"ext", b'x', (8 << 30) - 1), b"")
        .end();
    UnpackDir::new().refuses(&claims, "ext", &why);
    let pieces = (0..70).fold(TarBuilder::new(), |b, _| {
        b.member(b"ext", b'K', &[b'x'; 1024])
    });
    UnpackDir::new().refuses(&pieces.file(b"f", b"").end(), "ext", &why);

    let two = TarBuilder::new().member(b"ext", b'L', b"one\0");
    let two = two.member(b"ext", b'L', b"two\0").file(b"f", b"").end();
    UnpackDir::new().refuses(&two, "ext", &Refusal::TwoNames);
    let both = TarBuilder::new().member(b"ext", b'L', b"one\0");
    let both = both.pax(&[(b"path", b"two")]).file(b"f", b"").end();
    UnpackDir::new().refuses(&both, "f", &Refusal::TwoNames);
    let global = TarBuilder::new().member(b"ext", b'g', &pax_records(&[(b"path", b"one")]));
    UnpackDir::new().refuses(
        &global.file(b"f", b"").end(),
        "ext",
        &Refusal::GlobalExtension,
    );
    let damaged = TarBuilder::new().member(b"ext", b'x', b"7 path=one\n");
    UnpackDir::new().refuses(
        &damaged.file(b"f", b"").end(),
        "ext",
        &Refusal::BadExtension,
    );
}

#[test]
fn sizes_that_hide_members_from_one_reader_or_the_other() {
    let hidden = TarBuilder::new().file(b"hidden", b"boo").0;
    let size = hidden.len().to_string();
    let smuggled = TarBuilder::new().pax(&[(b"size", size.as_bytes())]);
    let smuggled = smuggled.raw(header(b"f", b'0', 0), &hidden).end();
    UnpackDir::new().refuses(&smuggled, "f", &Refusal::TwoSizes);
    let directory = TarBuilder::new().member(b"d", b'5', &hidden).end();
    UnpackDir::new().refuses(&directory, "d", &Refusal::DirectoryWithContents);
    let old_style = TarBuilder::new().member(b"d/", b'0', &hidden).end();
    UnpackDir::new().refuses(&old_style, "d/", &Refusal::DirectoryWithContents);
}

#[test]
fn cut_at_any_byte_it_is_never_taken_for_whole() {
    let tar = TarBuilder::new()
        .directory(b"./")
        .file(b"./f.py", b"def f(event): return event")
        .pax(&[(b"path", b"./other")])
        .file(b"x", b"y")
        .end();
    let whole = tar.gz();
    for length in 0..whole.len() {
        let error = UnpackDir::new()
            .extract(&whole[..length], &ExtractLimits::default())
            .expect_err("a cut bundle");
        assert!(error.is_the_bundles_fault(), "{length}: {error}");
    }
    // The archive cut inside a sound gzip stream, down to the first block of the end marker.
    let whole = &tar.0[..tar.0.len() - 1024];
    // Cut at every block boundary and just after it, and at some bytes within blocks.
    for length in (0..=whole.len()).filter(|length| length % 512 < 2 || length % 97 == 0) {
        let error = UnpackDir::new()
            .extract(&gz(&whole[..length]), &ExtractLimits::default())
            .expect_err("a cut archive");
        assert!(
            matches!(error, ExtractError::CutShort { .. }),
            "{length}: {error}"
        );
    }
    // A header about the next member, and no next member.
    for kind in [b'L', b'K', b'x'] {
        let bundle = TarBuilder::new().member(b"ext", kind, b"9 path=a\n").end();
        let error = UnpackDir::new().extract(&bundle.gz(), &ExtractLimits::default());
        let error = error.expect_err("a description of nothing");
        assert!(matches!(&error, ExtractError::CutShort { place } if place.contains("ext")));
    }
    let cut = TarBuilder::new().file(b"f.py", b"x").0;
    let error = UnpackDir::new().extract(&gz(&cut), &ExtractLimits::default());
    let text = error.expect_err("no end marker").to_string();
    assert_eq!(
        text,
        "the bundle ends too early, at or after member \"f.py\"; pack it and upload it again"
    );
}

#[test]
fn what_follows_the_end_is_refused() {
    let one = TarBuilder::new().file(b"f.py", b"x").end();
    let mut two = one.clone();
    two.0.extend(TarBuilder::new().file(b"g.py", b"x").end().0);
    let error = UnpackDir::new().extract(&two.gz(), &ExtractLimits::default());
    let error = error.expect_err("two archives");
    assert!(matches!(&error, ExtractError::TrailingData { place } if place.contains("f.py")));

    for garbage in [&b"garbage"[..], &[0; 512], b"\x1f\x8b"] {
        let bundle = [&one.gz()[..], garbage].concat();
        let error = UnpackDir::new().extract(&bundle, &ExtractLimits::default());
        let error = error.expect_err("garbage behind the gzip stream");
        assert!(
            matches!(&error, ExtractError::NotGzip { place } | ExtractError::CutShort { place }
                if place.contains("f.py")),
            "{error}"
        );
    }
}

#[test]
fn damaged_streams() {
    let mut wrong_sum = TarBuilder::new().file(b"f.py", b"x").end().gz();
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    for (bundle, gzip) in [
        (b"not gzip at all".to_vec(), true),
        (wrong_sum, true),
        (gz(&[b'x'; 2048]), false),
    ] {
        let error = UnpackDir::new().extract(&bundle, &ExtractLimits::default());
        let error = error.expect_err("no bundle");
        match error {
            ExtractError::NotGzip { .. } => assert!(gzip),
            ExtractError::NotTar { .. } => assert!(!gzip),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_failing_disk_is_not_the_bundles_fault() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }
    let bundle = TarBuilder::new().file(b"f.py", &[b'x'; 100]).end().gz();
    for good in [0, 12, bundle.len() - 20] {
        let unpack_dir = UnpackDir::new();
        let failing = bundle[..good].chain(Failing);
        let error = extract(failing, &unpack_dir.inside(), &ExtractLimits::default());
        let error = error.expect_err("the disk failed");
        assert!(
            matches!(&error, ExtractError::Read { source } if source.to_string() == "disk on fire")
        );
        assert!(!error.is_the_bundles_fault());
    }
    let nowhere = UnpackDir::new().inside();
    let error = extract(&bundle[..], &nowhere, &ExtractLimits::default());
    let error = error.expect_err("the directory is gone");
    assert!(!error.is_the_bundles_fault());
    assert!(!error.to_string().contains('/'));
}
