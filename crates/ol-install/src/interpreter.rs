//! Learns what is needed of the interpreter before the first package is installed.
//!
//! That is which wheels the interpreter can use, and data that spares uv from asking it each time.
//!
//! A sandbox that does nothing else reports them, since all later sandboxes rely on them.

use super::Packages;
use super::failure::Failure;
use super::job::{Base, Job};
use ol_archive::{ExtractLimits, extract_tar};
use ol_packages::wheels::Tags;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const DOING: &str = "looking at the base's Python";

static NEXT: AtomicU32 = AtomicU32::new(1);

/// Limits of what the sandbox may report.
const LIMITS: ExtractLimits = ExtractLimits {
    bytes: 4 << 20,
    entries: 200,
    depth: 8,
    ratio: 200,
};

/// What is known of the interpreter.
#[derive(Debug)]
pub(super) struct Interpreter {
    pub tags: Tags,
    /// Files for uv's cache: path and content.
    pub seed: Vec<(String, Vec<u8>)>,
}

/// Asks a sandbox made from `base`.
pub(super) async fn learn(packages: &Arc<Packages>, base: Base) -> Result<Interpreter, Failure> {
    let mut job = Job::of(base)?;
    let order = serde_json::json!({});
    let ([tar, _], moving) = job.order_tar("/interpreter", DOING, order).await?;
    // Used by no other attempt, not even by an earlier one that was given up.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = packages
        .settings
        .state
        .join(format!("interpreter-{number}"));
    let reading = tokio::task::spawn_blocking(move || read(&folder, tar));
    let ((), read) = tokio::join!(moving, reading);
    let failed = |error: &dyn std::fmt::Display| Failure(format!("{DOING}: {error}\n"));
    read.map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))
}

/// Reads the report by way of `folder`, which is emptied before and removed afterwards.
fn read(folder: &Path, tar: impl Read) -> io::Result<Interpreter> {
    let empty = || match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    empty()?;
    fs::create_dir_all(folder)?;
    extract_tar(tar, folder, &LIMITS).map_err(io::Error::other)?;
    let tags = serde_json::from_slice(&fs::read(folder.join("about.json"))?)?;
    let mut seed = Vec::new();
    collect(&folder.join("seed"), &PathBuf::new(), &mut seed)?;
    empty()?;
    Ok(Interpreter { tags, seed })
}

fn collect(root: &Path, below: &Path, files: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else {
            let content = fs::read(entry.path())?;
            files.push((path.to_string_lossy().into_owned(), content));
        }
    }
    Ok(())
}
