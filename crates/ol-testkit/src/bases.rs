//! Base images with other Pythons than the host's, for every suite that is to hold on each of them.
//!
//! They are made once per machine by the command under test (`ol worker init -i debian:SUITE`), into
//! `bases/SUITE` of the target directory, by whichever test asks first: half a minute each with what
//! it downloads. A change of how they are made makes them anew.

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

/// What decides what comes out: the images are made anew when one of these changes.
const RECIPE: [&str; 2] = [
    include_str!("../../ol-worker/src/directory/base/debian.rs"),
    include_str!("../../ol-worker/src/directory/base/unpack.rs"),
];

/// All of them: the Python's version, and the root file system, as for `-i dir:`. Empty where they
/// can't be made; the test that asks is then recorded as skipped.
///
/// # Panics
/// When one can't be made although this machine has what it takes.
#[must_use]
pub fn bases() -> Vec<(String, PathBuf)> {
    let made = SUITES.iter().map(|(suite, python)| {
        let root = base(suite)?.join("lambda");
        Some(((*python).to_owned(), root))
    });
    made.collect::<Option<_>>().unwrap_or_default()
}

/// The worker directory that was made with `-i debian:SUITE`. Only to be read.
///
/// # Panics
/// When it can't be made although this machine has what it takes.
#[must_use]
pub fn base(suite: &str) -> Option<PathBuf> {
    if !root_or_skip() || !has_mmdebstrap_or_skip() {
        return None;
    }
    let place = target().join("bases");
    fs::create_dir_all(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
    // Tests are processes of their own; the second waits for what the first makes.
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

/// Whether there is the program that makes images of Debian.
///
/// # Panics
/// When there is none and the variable `CI` is set.
#[must_use]
pub fn has_mmdebstrap_or_skip() -> bool {
    let found = Path::new("/usr/bin/mmdebstrap").is_file();
    if !found {
        skip("needs mmdebstrap to make base images; install it with `apt-get install mmdebstrap`");
    }
    found
}

/// Cargo's: this program lies in `PROFILE/deps` of it.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let target = program.ancestors().nth(3);
    target.expect("it lies in PROFILE/deps").to_owned()
}
