//! uv for workers under test, so that they don't have to fetch it: a test's own index has no uv.

use std::fs::{self, File};
use std::io::{self, Cursor};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::pypi::PyPi;

/// The series of uv that workers use.
const SERIES: &str = "uv-0.13.";

/// A folder that contains uv, for [`Place::find_first`](crate::Place::find_first). Fetched from PyPI once and kept in `kept_in`
/// (`CARGO_TARGET_TMPDIR`).
///
/// # Panics
/// When it can't be fetched.
#[must_use]
pub fn uv(kept_in: &Path) -> PathBuf {
    let folder = kept_in.join("uv-for-workers");
    let program = folder.join("uv");
    fs::create_dir_all(&folder).expect("made");
    let lock = File::create(kept_in.join("uv-for-workers.lock")).expect("made");
    flock(&lock, FlockOperation::LockExclusive).expect("locked");
    if !program.exists() {
        let part = folder.join("uv.part");
        fetch(&PyPi::kept_in(kept_in), &part);
        fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).expect("ours");
        fs::rename(part, program).expect("renamed");
    }
    folder
}

fn fetch(pypi: &PyPi, to: &Path) {
    let page = pypi.page("uv").expect("PyPI can be reached");
    let page: Value = serde_json::from_slice(&page).expect("JSON");
    let machine = format!("{}.whl", std::env::consts::ARCH);
    let names = page["files"].as_array().expect("a list").iter();
    let name = names
        .filter_map(|file| file["filename"].as_str())
        .filter(|name| name.starts_with(SERIES) && name.contains("musllinux"))
        .rfind(|name| name.ends_with(&machine))
        .expect("there is one for this machine");
    let wheel = pypi.file(name).expect("it can be had");
    let mut archive = zip::ZipArchive::new(Cursor::new(wheel)).expect("a wheel");
    let inside = archive
        .file_names()
        .filter_map(Result::ok)
        .find(|name| name.ends_with("/scripts/uv"))
        .expect("it holds the program")
        .into_owned();
    let mut program = archive.by_name(&inside).expect("there");
    io::copy(&mut program, &mut File::create(to).expect("made")).expect("unpacked");
}
