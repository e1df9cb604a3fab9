//! Base images with other Pythons than the host's, for test suites that must pass with each of them.
//!
//! They are made once per machine with the command under test (`ol worker init -i debian:SUITE`), in `bases/SUITE` of the target directory,
//! by the first test that needs them. Each takes half a minute, downloads included. They are made again when the code that makes them
//! changes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use crate::place::ol_binary;
use crate::skip::{root_or_skip, skip};

/// Releases of Debian, and the Python of each: the oldest that is supported, one between, the newest.
pub const SUITES: [(&str, &str); 3] = [
    ("bullseye", "3.9"),
    ("bookworm", "3.11"),
    ("trixie", "3.13"),
];

/// The code that makes the images: they are made again when it changes.
const RECIPE: [&str; 2] = [
    include_str!("../../ol-worker/src/directory/base/debian.rs"),
    include_str!("../../ol-worker/src/directory/base/unpack.rs"),
];

/// All base images: the Python's version, and the root file system, as for `-i dir:`.
///
/// Empty if they can't be made here; the calling test is then recorded as skipped.
///
/// # Panics
/// When making one fails although this machine has what is needed.
#[must_use]
pub fn bases() -> Vec<(String, PathBuf)> {
    let made = SUITES.iter().map(|(suite, python)| {
        let root = base(suite)?.join("lambda");
        Some(((*python).to_owned(), root))
    });
    made.collect::<Option<_>>().unwrap_or_default()
}

/// The worker directory that was made with `-i debian:SUITE`. It must only be read.
///
/// # Panics
/// When making it fails although this machine has what is needed.
#[must_use]
pub fn base(suite: &str) -> Option<PathBuf> {
    if !root_or_skip() || !has_mmdebstrap_or_skip() {
        return None;
    }
    let place = target().join("bases");
    fs::create_dir_all(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
    // Tests are separate processes: the second one waits until the first has made the image.
    let lock = File::create(place.join("lock")).expect("a file of the tests' own");
    flock(&lock, FlockOperation::LockExclusive).expect("locked");
    let (made, stamp) = (place.join(suite), place.join(format!("{suite}.recipe")));
    if fs::read_to_string(&stamp).is_ok_and(|text| text == RECIPE.concat()) {
        return Some(made);
    }
    let init = Command::new(ol_binary())
        .args([
            "worker",
            "init",
            "-b",
            "-i",
            &format!("debian:{suite}"),
            "-p",
        ])
        .arg(&made)
        .output()
        .expect("ol can be run");
    assert!(
        init.status.success(),
        "{}",
        String::from_utf8_lossy(&init.stderr)
    );
    fs::write(&stamp, RECIPE.concat()).expect("written");
    Some(made)
}

/// Whether mmdebstrap is installed; if not, the calling test is recorded as skipped.
///
/// # Panics
/// When it isn't and the variable `CI` is set.
#[must_use]
pub fn has_mmdebstrap_or_skip() -> bool {
    let found = Path::new("/usr/bin/mmdebstrap").is_file();
    if !found {
        skip("needs mmdebstrap to make base images; install it with `apt-get install mmdebstrap`");
    }
    found
}

/// Cargo's target directory: this program lies in its `PROFILE/deps`.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let target = program.ancestors().nth(3);
    target.expect("it lies in PROFILE/deps").to_owned()
}
