//! A disk that fills up at every step in turn leaves nothing half done, and then works again.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tempfile::TempDir;

use super::{entries, install, pin, sound, tar};
use crate::store::{Store, StoreError, StoreLimits};

/// A file system of the tests' own, as small as needed.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(at: &Path) -> Self {
        let options = c"size=1m,nr_inodes=100,mode=755";
        mount("ol-test", at, "tmpfs", MountFlags::empty(), options).expect("mounted");
        Self(at.to_owned())
    }

    fn limit(&self, options: &str) {
        let options = CString::new(options).expect("no NUL");
        mount_remount(&self.0, MountFlags::empty(), options).expect("remounted");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).expect("unmounted");
    }
}

#[test]
fn out_of_space_or_inodes_at_any_step() {
    if !ol_testkit::root_or_skip() {
        return;
    }
    let folder = TempDir::new().expect("a temporary directory");
    let disk = Tmpfs::new(folder.path());
    let store = Store::open(folder.path(), StoreLimits::default()).expect("opened");
    let wanted = pin("x==1");

    // One inode more each time, thus each of the files and directories in turn is the first that can't be made.
    let mut failures = 0;
    let lease = (2..60).find_map(|inodes| {
        disk.limit(&format!("nr_inodes={inodes}"));
        match install(&store, &wanted, &sound()) {
            Ok(lease) => Some(lease),
            Err(error) => {
                failures += 1;
                assert!(matches!(error, StoreError::Host { .. }), "{error:?}");
                assert!(error.to_string().contains("check the space"), "{error}");
                assert!(!store.has(&wanted));
                assert_eq!(entries(folder.path()), [""; 0], "with {inodes} inodes");
                None
            }
        }
    });
    // 2 for the partial directory, 5 files, 5 directories, the record; the mount has one for itself.
    assert_eq!(failures, 12, "each was the first to fail once");
    drop(lease.expect("enough at last"));
    assert!(store.remove(&wanted).expect("removed"));

    // The same with space: the last file's contents fit, the record doesn't.
    disk.limit("nr_inodes=100,size=1m");
    let contents = vec![1; 512 << 10];
    let large = tar(&[("a", 0o644, &contents), ("b", 0o644, &contents)]);
    let error = install(&store, &wanted, &large).expect_err("no room for the record");
    assert!(matches!(error, StoreError::Host { .. }), "{error:?}");
    assert_eq!(entries(folder.path()), [""; 0]);
    for kib in (4..1024).step_by(52) {
        disk.limit(&format!("size={kib}k"));
        install(&store, &wanted, &large).expect_err("no room");
        assert_eq!(entries(folder.path()), [""; 0], "with {kib} KiB");
    }
    disk.limit("size=2m");
    drop(install(&store, &wanted, &large).expect("room"));
    assert!(store.has(&wanted));
}
