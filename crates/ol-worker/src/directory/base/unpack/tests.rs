//! Archives like those of real images, and malicious ones.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// A member: name, kind, mode, target, content.
type Member<'a> = (&'a str, EntryType, u32, &'a str, &'a str);

const FILE: EntryType = EntryType::Regular;

fn archive(members: &[Member<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, mode, target, content) in members {
        let mut header = Header::new_ustar();
        let bytes = header.as_mut_bytes();
        // The tar crate refuses some of these names, thus they are written into the header directly.
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(1234);
        header.set_mtime(1_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content.as_bytes()).expect("memory");
    }
    archive.into_inner().expect("memory")
}

/// A temporary directory, and its subdirectory `into` to unpack into; beside that is `outside`, which must not change.
fn place() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let into = place.path().join("into");
    fs::create_dir(&into).expect("made");
    fs::create_dir(place.path().join("outside")).expect("made");
    fs::write(place.path().join("outside/canary"), "sings").expect("written");
    (place, into)
}

fn refused(members: &[Member<'_>]) -> String {
    let (place, into) = place();
    let said = unpack(&archive(members)[..], &into)
        .expect_err("refused")
        .to_string();
    let outside = fs::read_dir(place.path().join("outside")).expect("there");
    assert_eq!(outside.count(), 1, "something was written outside: {said}");
    said
}

#[test]
fn an_image_comes_out_harmless_and_readable() {
    let (_place, into) = place();
    let link = EntryType::Symlink;
    let bytes = archive(&[
        ("./", EntryType::Directory, 0o700, "", ""),
        ("./usr/bin/", EntryType::Directory, 0o700, "", ""),
        ("./usr/bin/su", FILE, 0o4750, "", "su"),
        ("./usr/bin/other", EntryType::Link, 0, "./usr/bin/su", ""),
        ("./bin", link, 0o777, "usr/bin", ""),
        ("./abs", link, 0o777, "/usr/bin", ""),
        ("./bin/behind", FILE, 0o666, "", "behind"),
        ("./abs/twice", FILE, 0o600, "", "first"),
        ("./usr/bin/twice", FILE, 0o600, "", "second"),
        ("./etc/shadow", FILE, 0o600, "", "secret"),
        ("./etc/hostname", FILE, 0o644, "", "builder"),
        ("./etc/resolv.conf", link, 0o777, "/run/resolv.conf", ""),
        ("./dev/null", EntryType::Char, 0o666, "", ""),
        ("./packages/x", FILE, 0o644, "", "not the store"),
        ("./base.json", FILE, 0o644, "", "not the record"),
        ("./srv/disk", EntryType::Block, 0o666, "", ""),
        ("./srv/pipe", EntryType::Fifo, 0o666, "", ""),
    ]);
    assert_eq!(unpack(&bytes[..], &into).expect("unpacked"), 2);
    let read = |name: &str| fs::read_to_string(into.join(name)).expect(name);
    let mode = |name: &str| {
        fs::metadata(into.join(name))
            .expect(name)
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!((mode("usr/bin"), mode("usr/bin/su")), (0o755, 0o755));
    assert_eq!(
        (mode("usr/bin/behind"), read("usr/bin/behind")),
        (0o644, "behind".to_owned())
    );
    assert_eq!(read("usr/bin/twice"), "second");
    let su = fs::metadata(into.join("usr/bin/su")).expect("there");
    assert_eq!((su.mtime(), su.nlink()), (1_000_000, 2));
    assert_eq!(su.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(
        fs::read_link(into.join("abs")).expect("a link"),
        PathBuf::from("/usr/bin")
    );
    assert_eq!(
        (
            read("etc/hostname").as_str(),
            read("etc/resolv.conf").as_str()
        ),
        ("sandbox\n", "")
    );
    for name in ["etc/shadow", "dev", "packages", "base.json", "srv"] {
        assert!(!into.join(name).exists(), "{name}");
    }
}

#[test]
fn nothing_is_written_outside() {
    let (link, hard) = (EntryType::Symlink, EntryType::Link);
    let file = |name| (name, FILE, 0o644, "", "x");
    assert!(refused(&[file("../outside/made")]).contains("climbs"));
    assert!(refused(&[file("usr/../../outside/made")]).contains("climbs"));
    assert!(refused(&[file("/etc/made")]).contains("begins with /"));
    assert!(refused(&[("l", hard, 0, "../outside/canary", "")]).contains("climbs"));
    assert!(refused(&[("l", hard, 0, "none", "")]).contains("isn't there"));
    // Behind links: they lead to the same names inside the directory, which don't exist.
    for target in ["../outside", "/../../outside", "../../../../../../tmp"] {
        let said = refused(&[("l", link, 0, target, ""), file("l/made")]);
        assert!(said.contains("leads nowhere"), "{target}: {said}");
        let said = refused(&[("l", link, 0, target, ""), ("m", hard, 0, "l/canary", "")]);
        assert!(said.contains("isn't there"), "{target}: {said}");
    }
    let looped = [("l", link, 0, "l", ""), file("l/made")];
    assert!(refused(&looped).contains("lead nowhere"));
    let both = [file("a"), file("a/b")];
    assert!(refused(&both).contains("no directory"));
}

#[test]
fn what_is_no_whole_archive_is_named_as_that() {
    let said = |bytes: &[u8]| {
        let (_place, into) = place();
        unpack(bytes, &into).expect_err("refused").to_string()
    };
    let whole = archive(&[
        ("a", FILE, 0o644, "", &"x".repeat(5000)),
        ("b", FILE, 0o644, "", "b"),
    ]);
    assert!(said(b"").contains("no tar archive"));
    assert!(said(&b"PK\x03\x04 and so on ".repeat(100)).contains("no tar archive"));
    assert!(said(b"\x28\xb5\x2f\xfd...").contains("zstd -d"));
    // Cut within a header, within a content, between two members; compressed or not.
    for cut in [700, 5800, 5632, whole.len() - 1024] {
        assert!(
            said(&whole[..cut]).contains("cut short"),
            "{cut}: {}",
            said(&whole[..cut])
        );
        let packed = ol_testkit::bundle::gzip(&whole[..cut]);
        assert!(said(&packed).contains("cut short"), "{cut}");
    }
    let mut packed = ol_testkit::bundle::gzip(&whole);
    let (_place, into) = place();
    unpack(&packed[..], &into).expect("the whole of it");
    assert!(said(&packed[..packed.len() - 4]).contains("cut short"));
    let sum = packed.len() - 8;
    packed[sum] ^= 1;
    assert!(said(&packed).contains("damaged"));
}
