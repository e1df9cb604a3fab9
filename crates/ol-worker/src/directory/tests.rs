//! Worker directories in the states that people leave them in: new, complete, the original worker's, broken, and somebody else's.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use ol_warden::rootfs::Base;

use super::*;

const FACTS: HostFacts = HostFacts {
    memory_mb: 8000,
    cores: 4,
};

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn init(root: &Path) -> (Directory, InitReport) {
    Directory::init(root, &BaseChoice::Host, false, &FACTS).expect("init on this host")
}

#[test]
fn a_new_directory_opens_and_loads() {
    let scratch = scratch();
    let root = scratch.path().join("w");
    assert!(matches!(
        Directory::open(&root),
        Err(DirectoryError::Absent { .. })
    ));
    let (made, report) = init(&root);
    assert!(report.created && !report.base_kept && report.backup.is_none());
    assert!(report.python >= PythonVersion { major: 3, minor: 9 });

    let opened = Directory::open(&root).expect("what init made");
    assert_eq!(opened.root(), made.root());
    let overrides = [
        "limits.mem_mb=100,worker_port=0".to_owned(),
        "drain_sec=1".to_owned(),
    ];
    let (config, warnings) = opened.load(&overrides, &FACTS).expect("its configuration");
    assert_eq!(
        (config.limits.mem_mb, config.port(), config.drain_sec),
        (100, 0, 1)
    );
    assert_eq!(warnings, []);
    assert_eq!(opened.base(&config).expect("its base").base, Base::Host);
}

#[test]
fn init_again_keeps_what_matters_and_the_old_settings() {
    let scratch = scratch();
    let (directory, _) = init(scratch.path());
    fs::write(directory.registry().join("f.tar.gz"), "bundle").expect("a bundle");
    fs::create_dir_all(directory.packages().join("a==1")).expect("a package");
    fs::write(directory.config(), "{\"worker_port\": \"6000\"}").expect("settings");

    let (_, report) = init(scratch.path());
    assert!(!report.created && report.base_kept);
    assert_eq!(report.backup, Some(directory.config_backup()));
    // A second time nothing changes, thus the backup still has the operator's text.
    assert_eq!(init(scratch.path()).1.backup, None);
    let kept = fs::read_to_string(directory.config_backup()).expect("the backup");
    assert_eq!(kept, "{\"worker_port\": \"6000\"}");
    assert!(directory.registry().join("f.tar.gz").exists());
    assert!(directory.packages().join("a==1").exists());
    assert!(!scratch.path().join("config.json.new").exists());
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    for (name, content) in [("notes.txt", "x"), ("config.json", "{\"theirs\": 1}")] {
        let scratch = scratch();
        fs::write(scratch.path().join(name), content).expect("a file");
        let refused = Directory::init(scratch.path(), &BaseChoice::Host, true, &FACTS);
        assert!(matches!(refused, Err(DirectoryError::NotOurs { .. })));
        let refused = Directory::open(scratch.path());
        assert!(matches!(refused, Err(DirectoryError::NotOurs { .. })));
        assert_eq!(fs::read_dir(scratch.path()).expect("listed").count(), 1);
    }
}

#[test]
fn an_init_that_was_cut_short_is_finished_by_the_next() {
    let scratch = scratch();
    let (directory, _) = init(scratch.path());
    fs::remove_file(directory.config()).expect("removed");
    assert!(Directory::open(scratch.path()).is_err());
    assert!(init(scratch.path()).1.created);
    Directory::open(scratch.path()).expect("whole again");
}

#[test]
fn the_originals_directory_is_ours_too() {
    let scratch = scratch();
    let root = scratch.path();
    for folder in ["worker", "lambda/usr/bin", "lambda/packages", "registry"] {
        fs::create_dir_all(root.join(folder)).expect("directories");
    }
    let text = format!(
        "{{\"worker_dir\": \"{0}/worker\", \"registry\": \"file://{0}/registry\", \"Xyz\": 1}}",
        root.display()
    );
    fs::write(root.join("config.json"), text).expect("its configuration");
    let directory = Directory::open(root).expect("the original's");
    let (config, warnings) = directory.load(&[], &FACTS).expect("its configuration");
    assert_eq!(warnings.len(), 1);
    let base = directory.base(&config).expect("its base");
    assert_eq!(base.base, Base::Directory(root.join("lambda")));
}

#[test]
fn a_broken_configuration_is_named_as_such() {
    let scratch = scratch();
    let (directory, _) = init(scratch.path());
    fs::write(directory.config(), "{").expect("written");
    let directory = Directory::open(scratch.path()).expect("a worker's all the same");
    let error = directory.load(&[], &FACTS).expect_err("no JSON");
    assert!(error.to_string().contains("config.json line 1"), "{error}");
}

#[test]
fn a_base_that_does_not_serve_leaves_no_trace() {
    let scratch = scratch();
    let (image, root) = (scratch.path().join("image"), scratch.path().join("w"));
    fs::create_dir_all(image.join("usr")).expect("an image without Python");
    for choice in [
        BaseChoice::Dir(image),
        BaseChoice::Dir(scratch.path().join("none")),
    ] {
        Directory::init(&root, &choice, false, &FACTS).expect_err("no Python there");
        assert!(!root.exists());
    }
}

/// `init` was killed after the new image took its place and before the package store was moved.
#[test]
fn a_package_store_is_never_lost_with_a_staged_base() {
    let scratch = scratch();
    let (directory, _) = init(scratch.path());
    let package = directory.packages().join("a==1");
    let interrupt = || {
        let staged = scratch.path().join(".ol-base-new/root/packages");
        fs::create_dir_all(staged.parent().expect("it has one")).expect("made");
        fs::create_dir_all(&package).expect("made");
        fs::rename(directory.packages(), &staged).expect("moved");
        staged
    };
    interrupt();
    init(scratch.path());
    assert!(package.is_dir() && !scratch.path().join(".ol-base-new").exists());

    // The next start cleans up as well; an empty store at the final place doesn't prevent it.
    interrupt();
    fs::create_dir(directory.packages()).expect("made");
    let removed = directory.remove_residue().expect("removed");
    assert_eq!(removed.paths, [scratch.path().join(".ol-base-new")]);
    assert!(package.is_dir());

    // If both stores have packages, only the operator can decide.
    let staged = interrupt();
    fs::create_dir_all(&package).expect("made");
    let refused = directory.remove_residue();
    assert!(matches!(refused, Err(DirectoryError::BaseInUse { path, .. }) if path == staged));
    assert!(package.is_dir() && staged.join("a==1").is_dir());
}

#[test]
fn a_source_within_what_it_would_replace_is_refused() {
    let scratch = scratch();
    let (directory, _) = init(scratch.path());
    let inside = directory.base_image().join("image");
    fs::create_dir_all(inside.join("usr")).expect("made");
    let error = Directory::init(
        scratch.path(),
        &BaseChoice::Dir(inside.clone()),
        true,
        &FACTS,
    );
    let said = error.expect_err("it would go").to_string();
    assert!(said.contains("move it elsewhere"), "{said}");
    assert!(inside.is_dir());
}

#[test]
fn what_follows_i_is_understood_or_refused_with_a_list() {
    assert_eq!("host".parse::<BaseChoice>().ok(), Some(BaseChoice::Host));
    assert_eq!(
        "dir:/a b".parse::<BaseChoice>().ok(),
        Some(BaseChoice::Dir("/a b".into()))
    );
    assert_eq!(
        "ol-min".parse::<BaseChoice>().ok(),
        Some(BaseChoice::Image("ol-min".to_owned()))
    );
    let debian = BaseChoice::Debian("trixie".to_owned());
    assert_eq!("debian".parse().ok(), Some(debian.clone()));
    assert!(debian.is("debian:trixie") && !debian.is("debian:bookworm"));
    let min: BaseChoice = "ol-min".parse().expect("the original's");
    assert!(min.is("host") && min.is("ol-min") && !min.is("dir:/x"));
    for text in [
        "tar:/a.tar.gz",
        "debian:bookworm",
        "docker:python:3.13-slim",
        "docker:a.b/c_d@sha256:0",
    ] {
        let choice: BaseChoice = text.parse().expect(text);
        assert_eq!(choice.to_string(), text);
    }
    for refused in [
        "",
        "dir:",
        "tar:",
        "tar",
        "hosts",
        "host:1",
        "debian:",
        "debian:--help",
        "debian:a b",
        "docker",
        "docker:-v",
        "oci:/x",
        "ol-min:1",
    ] {
        let error = refused.parse::<BaseChoice>().expect_err(refused);
        assert!(
            error.to_string().contains("; use `host`, `debian"),
            "{error}"
        );
    }
}

#[test]
fn one_lock_at_a_time_and_its_holder_is_known() {
    let scratch = scratch();
    let (directory, _) = init(scratch.path());
    assert!(!directory.locked().expect("looked"));
    assert_eq!(directory.holder(), None);
    let me = rustix::process::getpid();

    let lock = directory.lock().expect("free");
    assert!(directory.locked().expect("looked"));
    assert_eq!(directory.holder(), Some(me));
    let second = directory.lock();
    assert!(
        matches!(second, Err(LockError::Held { pid: Some(pid), .. }) if pid == me.as_raw_pid())
    );
    let waited = directory.wait_unlocked(Duration::from_millis(1));
    assert!(!waited.expect("looked"));

    drop(lock);
    assert!(directory.wait_unlocked(Duration::ZERO).expect("looked"));
    // The file still names this process, which no longer holds the lock.
    assert_eq!(directory.holder(), None);
}

#[test]
fn prefixes_are_stable_and_differ() {
    let scratch = scratch();
    let (one, _) = init(&scratch.path().join("one"));
    let (two, _) = init(&scratch.path().join("two"));
    let again = Directory::open(&scratch.path().join("two/../one")).expect("the first");
    assert_eq!(one.prefix(), again.prefix());
    assert_ne!(one.prefix(), two.prefix());
    assert_eq!(one.prefix().len(), "ol-".len() + 8);
    // A published test vector: the prefix must not change, so that after an upgrade the cgroups of the previous version are found.
    assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
}
