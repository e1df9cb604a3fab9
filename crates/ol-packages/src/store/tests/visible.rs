//! A package appears complete, read-only and measured, or not at all.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

use super::{Yard, child_of, fill, hashed, install, pin, sound, tar, told_to_be_the_child};
use crate::store::{Store, StoreError, StoreLimits};

#[test]
fn a_package_appears_as_it_was_read_only_and_measured() {
    let yard = Yard::new();
    let pkg = hashed("pkg", "1.0");
    assert!(!yard.store.has(&pkg));
    let filled = fill(&yard.store, &pkg, &sound()[..]).expect("sound");
    assert!(!yard.store.has(&pkg) && filled.pin() == &pkg);
    let lease = filled.commit("a test").expect("stored");
    assert_eq!(yard.entries(), ["pkg==1.0"]);
    assert_eq!(lease.files(), yard.path("pkg==1.0/files"));
    assert!(yard.store.has(&pkg));
    for (name, mode) in [
        ("", 0o555),
        ("installed.json", 0o444),
        ("files", 0o555),
        ("files/pkg", 0o555),
        ("files/pkg/deep/er", 0o555),
        ("files/pkg/__init__.py", 0o444),
        ("files/pkg/deep/er/data.bin", 0o444),
        ("files/bin/run", 0o555),
    ] {
        let metadata = fs::metadata(yard.path("pkg==1.0").join(name)).expect(name);
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{name}");
        assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
    }
    let data = fs::read(lease.files().join("pkg/deep/er/data.bin")).expect("a file");
    assert_eq!(data, [7; 3000]);
    let file = fs::metadata(lease.files().join("bin/run")).expect("a file");
    assert_eq!(file.mtime(), 1_600_000_000);

    let listed = yard.store.list().expect("listed");
    let [installed] = &listed[..] else {
        panic!("{listed:?}")
    };
    assert_eq!((&installed.pin, installed.files), (&pkg, 5));
    assert_eq!(installed.bytes, 6 + 3000 + 10 + 4 + 10);
    let age = SystemTime::now().duration_since(installed.last_used);
    assert!(age.unwrap_or_default() < Duration::from_secs(60));
    assert_eq!(yard.store.top_level_modules(&pkg), ["pkg"]);
}

#[test]
fn what_was_installed_for_another_python_goes() {
    let yard = Yard::new();
    let pkg = pin("pkg==1.0");
    drop(yard.install(&pkg, &sound()).expect("installed"));
    let by_hand = pin("by-hand==1.0");
    fs::create_dir_all(yard.path("by-hand==1.0/files")).expect("made");
    let none: Vec<crate::pin::Pin> = Vec::new();
    // Without a previous mark, packages that are already there are kept.
    assert_eq!(yard.store.made_for("python3.11").expect("noted"), none);
    assert_eq!(yard.store.made_for("python3.11").expect("the same"), none);
    assert!(yard.store.has(&pkg));
    let gone = yard.store.made_for("python3.13").expect("noted");
    assert_eq!(gone, std::slice::from_ref(&pkg));
    assert!(!yard.store.has(&pkg) && yard.store.has(&by_hand));
    drop(yard.install(&pkg, &sound()).expect("installed anew"));
    assert_eq!(yard.store.made_for("python3.13").expect("the same"), none);
    assert!(yard.store.has(&pkg));
}

#[test]
fn what_others_put_there_is_a_package_too() {
    let yard = Yard::new();
    let files = yard.path("by-hand==1.0/files/sub");
    fs::create_dir_all(&files).expect("made");
    fs::write(files.join("m.py"), "xyz").expect("written");
    std::os::unix::fs::symlink("/etc", files.join("link")).expect("linked");
    fs::create_dir_all(yard.path("NotNormal==1/files")).expect("made");
    fs::create_dir_all(yard.path("no-version/files")).expect("made");
    fs::create_dir_all(yard.path("half==1")).expect("made");
    let listed = yard.store.list().expect("listed");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].files, listed[0].bytes), (2, 3 + 4));
    assert!(yard.store.has(&pin("by-hand==1.0")) && !yard.store.has(&pin("half==1")));
    assert_eq!(
        yard.store.top_level_modules(&pin("by-hand==1.0")),
        ["by_hand"]
    );
    // A record of a newer format, or a damaged one, is no reason to fail.
    for record in [
        "{\"format\": 2}",
        "{",
        "{\"format\":1,\"bytes\":1,\"files\":1,\"sha256\":[\"x\"]}",
    ] {
        fs::write(yard.path("by-hand==1.0/installed.json"), record).expect("written");
        let again = yard.store.list().expect("listed");
        assert_eq!((again[0].files, again[0].bytes), (2, 7), "{record}");
    }
}

#[test]
fn what_is_refused_leaves_nothing() {
    let limits = StoreLimits {
        bytes: 40 << 10,
        entries: 5,
    };
    let with = |change: &dyn Fn(&mut tar::Header)| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        header.as_old_mut().name[..1].copy_from_slice(b"f");
        change(&mut header);
        header.set_cksum();
        builder.append(&header, io::empty()).expect("appended");
        builder.into_inner().expect("writes to memory")
    };
    let named =
        |name: &[u8]| with(&|header| header.as_old_mut().name[..name.len()].copy_from_slice(name));
    let kind = |kind: tar::EntryType| with(&|header| header.set_entry_type(kind));
    let many: Vec<_> = (0..6).map(|n| format!("f{n}")).collect();
    let many: Vec<_> = many
        .iter()
        .map(|name| (name.as_str(), 0o644, &b""[..]))
        .collect();
    for (archive, what) in [
        (named(b"../f"), "\"../f\": its name climbs with '..'"),
        (named(b"/f"), "\"/f\": its name is absolute"),
        (
            kind(tar::EntryType::Symlink),
            "\"f\": it is a symbolic link",
        ),
        (kind(tar::EntryType::Link), "\"f\": it is a hard link"),
        (kind(tar::EntryType::Char), "\"f\": it is a device"),
        (kind(tar::EntryType::Fifo), "\"f\": it is a named pipe"),
        (tar(&many), "holds over 5 files and directories, the limit"),
        (
            tar(&[("f", 0o644, &[0; 41 << 10])]),
            "over 40960 bytes, the limit",
        ),
        (
            tar(&[("f", 0o644, b""), ("f", 0o644, b"")]),
            "\"f\": it is in the archive twice",
        ),
        (kind(tar::EntryType::Directory), "no file"),
        (tar(&[]), "no file"),
        (vec![], "no whole archive, at its start"),
        (b"no tar at all".repeat(100), "no whole archive"),
    ] {
        let yard = Yard::within(limits.clone());
        let error = yard.install(&pin("x==1"), &archive).expect_err(what);
        let text = error.to_string();
        assert!(
            text.contains(what) && text.contains("package x==1"),
            "{what}: {text}"
        );
        assert!(
            !text.contains(yard.folder.path().to_str().expect("a path")),
            "{text}"
        );
        assert_eq!(yard.entries(), [""; 0], "{what}");
    }
}

#[test]
fn setuid_is_dropped() {
    let yard = Yard::new();
    let lease = yard.install(&pin("x==1"), &tar(&[("run", 0o6755, b"")]));
    let metadata = fs::metadata(lease.expect("stored").files().join("run"));
    assert_eq!(
        metadata.expect("a file").permissions().mode() & 0o7777,
        0o555
    );
}

#[test]
fn cut_or_failing_at_any_byte_nothing_is_left() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the pipe broke"))
        }
    }
    let yard = Yard::new();
    let archive = tar(&[("a/f", 0o644, &[1; 600]), ("a/b/g", 0o755, b"2")]);
    for length in (0..archive.len() - 512).step_by(7) {
        let cut = fill(&yard.store, &pin("x==1"), &archive[..length]);
        assert!(
            matches!(cut, Err(StoreError::Damaged { .. })),
            "{length}: {cut:?}"
        );
        assert_eq!(yard.entries(), [""; 0], "{length}");
        let failed = fill(&yard.store, &pin("x==1"), archive[..length].chain(Failing));
        assert!(
            matches!(failed, Err(StoreError::Host { .. })),
            "{length}: {failed:?}"
        );
        assert_eq!(yard.entries(), [""; 0], "{length}");
    }
}

#[test]
fn a_phase_that_is_dropped_leaves_nothing() {
    let yard = Yard::new();
    let partial = crate::store::Partial::new(&yard.store.0, &pin("x==1")).expect("room");
    assert_eq!(yard.entries().len(), 1);
    drop(partial);
    assert_eq!(yard.entries(), [""; 0]);
    drop(fill(&yard.store, &pin("x==1"), &sound()[..]).expect("filled"));
    assert_eq!(yard.entries(), [""; 0]);
}

#[test]
fn the_first_to_commit_stays_and_what_is_no_package_is_told() {
    let yard = Yard::new();
    let first = fill(
        &yard.store,
        &pin("x==1"),
        &tar(&[("first", 0o644, b"")])[..],
    )
    .expect("filled");
    let second = fill(
        &yard.store,
        &pin("x==1"),
        &tar(&[("second", 0o644, b"")])[..],
    )
    .expect("filled");
    let first = first.commit("first").expect("stored");
    let second = second.commit("second").expect("leases the first");
    assert_eq!(yard.entries(), ["x==1"]);
    assert!(second.files().join("first").is_file());
    drop((first, second));

    fs::create_dir_all(yard.path("y==1/other")).expect("made");
    fs::write(yard.path("z==1"), "").expect("written");
    for occupied in ["y==1", "z==1"] {
        let error = yard
            .install(&pin(occupied), &sound())
            .expect_err("occupied");
        assert!(
            matches!(&error, StoreError::Occupied(what) if what == occupied),
            "{error:?}"
        );
    }
    assert_eq!(yard.entries(), ["x==1", "y==1", "z==1"]);
}

#[test]
fn open_removes_what_a_crash_left_and_nothing_that_lives() {
    let yard = Yard::new();
    let alive = fill(&yard.store, &pin("alive==1"), &sound()[..]).expect("filled");
    for left in [".partial-x==1-1-1/files/sub", ".removed-x==1-1-2/files/sub"] {
        fs::create_dir_all(yard.path(left)).expect("made");
        fs::write(yard.path(left).join("f"), "").expect("written");
    }
    fs::create_dir_all(yard.path("kept==1/files")).expect("made");
    fs::create_dir_all(yard.path(".other")).expect("made");
    let again = Store::open(yard.folder.path(), StoreLimits::default()).expect("opened again");
    assert_eq!(yard.entries().len(), 3, "{:?}", yard.entries());
    alive.commit("a test").expect("still there");
    assert_eq!(yard.entries(), [".other", "alive==1", "kept==1"]);
    assert!(again.has(&pin("alive==1")));
}

#[test]
fn a_store_is_made_or_named_as_unusable() {
    let yard = Yard::new();
    let folder = yard.path("a/b");
    Store::open(&folder, StoreLimits::default()).expect("made");
    fs::write(yard.path("file"), "").expect("written");
    let error = Store::open(&yard.path("file"), StoreLimits::default()).expect_err("a file");
    assert!(
        error.to_string().contains("/file\"; make it a directory"),
        "{error}"
    );
}

/// Like the worker: uid 0 owns the files but can't override their modes.
#[test]
fn without_capabilities_packages_come_and_go() {
    if let Some(folder) = told_to_be_the_child() {
        let status = fs::read_to_string("/proc/self/status").expect("this process");
        let none = status
            .lines()
            .any(|line| line == "CapEff:\t0000000000000000");
        assert!(none, "the child has capabilities");
        let store = Store::open(&folder, StoreLimits::default()).expect("opened");
        drop(install(&store, &pin("x==1"), &sound()).expect("stored"));
        assert!(store.remove(&pin("x==1")).expect("removed"));
        drop(fill(&store, &pin("y==1"), &sound()[..]).expect("filled"));
        drop(install(&store, &pin("z==1"), &sound()).expect("stored"));
        assert_eq!(store.collect(0).expect("collected"), [pin("z==1")]);
        return;
    }
    if !ol_testkit::root_or_skip() {
        return;
    }
    let yard = Yard::new();
    let without = [
        "setpriv",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
    ];
    let test = "store::tests::visible::without_capabilities_packages_come_and_go";
    let child = child_of(test, &without, yard.folder.path()).output();
    let child = child.expect("setpriv is installed");
    assert!(child.status.success(), "{child:?}");
    assert_eq!(yard.entries(), [""; 0]);
}
