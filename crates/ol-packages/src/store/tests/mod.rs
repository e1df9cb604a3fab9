//! Tests of the store: what becomes visible, who installs, who holds leases, and what is left after failures.

mod faults;
mod flights;
mod holds;
mod killed;
mod visible;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Filled, PackageLease, Partial, Store, StoreError, StoreLimits};
use crate::pin::{PackageName, Pin, Sha256, Version};

fn pin(directory: &str) -> Pin {
    Pin::of_directory(directory).expect("NAME==VERSION")
}

fn hashed(name: &str, version: &str) -> Pin {
    let name = PackageName::parse(name).expect("a name");
    let version = Version::parse(version).expect("a version");
    Pin::new(name, version, vec![Sha256::of(b"an archive")])
}

/// A tar with these files and their modes.
fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(1_600_000_000);
        let added = builder.append_data(&mut header, name, *contents);
        added.expect("a name that fits");
    }
    builder.into_inner().expect("writes to memory")
}

/// The archive of a valid package.
fn sound() -> Vec<u8> {
    tar(&[
        ("pkg/__init__.py", 0o644, b"x = 1\n"),
        ("pkg/deep/er/data.bin", 0o600, &[7; 3000]),
        ("bin/run", 0o755, b"#!/bin/sh\n"),
        ("pkg-1.0.dist-info/top_level.txt", 0o644, b"pkg\n"),
        ("x.pth", 0o644, b"import os\n"),
    ])
}

struct Yard {
    folder: TempDir,
    store: Store,
}

impl Yard {
    fn new() -> Self {
        Self::within(StoreLimits::default())
    }

    fn within(limits: StoreLimits) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(folder.path(), limits).expect("a store");
        Self { folder, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn entries(&self) -> Vec<String> {
        entries(self.folder.path())
    }

    fn install(&self, pin: &Pin, archive: &[u8]) -> Result<PackageLease, StoreError> {
        install(&self.store, pin, archive)
    }
}

fn fill(store: &Store, pin: &Pin, archive: impl std::io::Read) -> Result<Filled, StoreError> {
    Partial::new(&store.0, pin)?.fill(archive)
}

fn install(store: &Store, pin: &Pin, archive: &[u8]) -> Result<PackageLease, StoreError> {
    fill(store, pin, archive)?.commit("a test")
}

fn entries(folder: &Path) -> Vec<String> {
    let listed = fs::read_dir(folder).expect("a folder");
    let names = listed.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A command that runs a test again in another process; `OL_TEST_CHILD` tells that process to be the child.
fn child_of(test: &str, before: &[&str], folder: &Path) -> std::process::Command {
    let itself = std::env::current_exe().expect("this program");
    let mut words: Vec<_> = before.iter().map(std::ffi::OsString::from).collect();
    words.push(itself.into());
    let mut command = std::process::Command::new(words.remove(0));
    command
        .args(words)
        .args(["--exact", test, "--nocapture"])
        .env("OL_TEST_CHILD", folder);
    command
}

fn told_to_be_the_child() -> Option<PathBuf> {
    std::env::var_os("OL_TEST_CHILD").map(PathBuf::from)
}
