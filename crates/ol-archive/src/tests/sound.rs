//! Bundles as people pack them: they are unpacked unchanged.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use super::tar_builder::{TarBuilder, UnpackDir, gz, header, pax_records};
use crate::{ExtractLimits, Extracted};

fn default() -> ExtractLimits {
    ExtractLimits::default()
}

#[test]
fn files_directories_modes_and_times() {
    let mut setuid = header(b"run.sh", b'0', 2);
    setuid[100..108].copy_from_slice(b"0007711\0");
    let mut closed = header(b"closed/", b'5', 0);
    closed[100..108].copy_from_slice(b"0000000\0");
    let bundle = TarBuilder::new()
        .directory(b".")
        .directory(b"./pkg/")
        .file(b"./pkg/f.py", b"def f")
        .raw(setuid, b"#!")
        .raw(closed, b"")
        .file(b"implied/deep/er", b"")
        .directory(b"pkg")
        .member(b"old", b'\0', b"v7")
        .member(b"olddir/", b'\0', b"")
        .end();
    let unpack_dir = UnpackDir::new();
    let extracted = unpack_dir
        .extract(&bundle.gz(), &default())
        .expect("a fine bundle");
    assert_eq!(
        extracted,
        Extracted {
            entries: 9,
            bytes: 9
        }
    );

    let into = unpack_dir.inside();
    let mode = |name: &str| {
        let metadata = fs::metadata(into.join(name)).expect("it was made");
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!(fs::read(into.join("pkg/f.py")).expect("a file"), b"def f");
    assert_eq!(mode("pkg/f.py"), 0o644);
    assert_eq!(mode("run.sh"), 0o755);
    assert_eq!((mode("closed"), mode("implied/deep")), (0o755, 0o755));
    assert_eq!(fs::read(into.join("old")).expect("a file"), b"v7");
    assert!(into.join("olddir").is_dir());
    let mtime = fs::metadata(into.join("pkg/f.py")).expect("a file").mtime();
    assert_eq!(mtime, 0o14_000_000_000);
}

#[test]
fn long_names_in_every_encoding() {
    let name = ["directory-with-a-long-name"; 12].join("/");
    let bytes = name.as_bytes();
    let gnu = TarBuilder::new().member(b"././@LongLink", b'L', &[bytes, b"\0"].concat());
    let pax = TarBuilder::new().pax(&[
        (b"mtime", b"1610612736.25"),
        (b"SCHILY.xattr.com.apple.provenance", b"\x01\n\n\x00\xff"),
        (b"size", b"1"),
        (b"path", bytes),
    ]);
    for forge in [gnu, pax] {
        let unpack_dir = UnpackDir::new();
        let bundle = forge.file(b"cut", b"x").file(b"next", b"y").end();
        let extracted = unpack_dir
            .extract(&bundle.gz(), &default())
            .expect("a fine bundle");
        assert_eq!(
            extracted,
            Extracted {
                entries: 13,
                bytes: 2
            }
        );
        assert_eq!(
            fs::read(unpack_dir.inside().join(&name)).expect("a file"),
            b"x"
        );
        assert_eq!(
            fs::read(unpack_dir.inside().join("next")).expect("a file"),
            b"y"
        );
    }
}

#[test]
fn the_global_header_of_git_archive_and_several_gzip_members() {
    let comment = pax_records(&[(b"comment", b"0123456789abcdef")]);
    let bundle = TarBuilder::new()
        .member(b"pax_global_header", b'g', &comment)
        .file(b"f.py", b"x")
        .end()
        .0;
    let (one, other) = bundle.split_at(700);
    let unpack_dir = UnpackDir::new();
    let extracted = unpack_dir.extract(&[gz(one), gz(b""), gz(other)].concat(), &default());
    assert_eq!(
        extracted.expect("a fine bundle"),
        Extracted {
            entries: 1,
            bytes: 1
        }
    );
}

#[test]
fn an_empty_archive_is_an_empty_directory() {
    let extracted = UnpackDir::new().extract(&TarBuilder::new().end().gz(), &default());
    assert_eq!(
        extracted.expect("nothing"),
        Extracted {
            entries: 0,
            bytes: 0
        }
    );
}

#[test]
fn what_gnu_tar_packs_in_each_of_its_formats() {
    let source = tempfile::tempdir().expect("a temporary directory");
    let long = "n".repeat(200);
    fs::create_dir_all(source.path().join("pkg").join(&long)).expect("directories");
    fs::write(source.path().join("f.py"), "def f(event): pass").expect("a file");
    fs::write(source.path().join("pkg").join(&long).join("ü.py"), "x").expect("a file");
    for format in ["gnu", "pax", "oldgnu"] {
        for what in [".", "f.py"] {
            let packed = Command::new("tar")
                .args(["-czf", "-", "--format", format, "-C"])
                .arg(source.path())
                .arg(what)
                .output()
                .expect("tar is installed");
            assert!(packed.status.success());
            let unpack_dir = UnpackDir::new();
            unpack_dir
                .extract(&packed.stdout, &default())
                .expect("a fine bundle");
            let made = fs::metadata(unpack_dir.inside().join("f.py")).expect("a file");
            let given = fs::metadata(source.path().join("f.py")).expect("a file");
            let apart = made
                .modified()
                .expect("a time")
                .max(given.modified().expect("a time"));
            let since = apart.duration_since(made.modified().expect("a time"));
            assert!(
                since.expect("later") < Duration::from_secs(1),
                "the time is kept"
            );
            if what == "." {
                let deep = unpack_dir.inside().join("pkg").join(&long).join("ü.py");
                assert_eq!(fs::read(deep).expect("a file"), b"x");
            }
        }
    }
}
