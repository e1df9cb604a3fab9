//! A wheel's bytes: from the index to a file, hashed on the way.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256 as Hasher};

use crate::index::{Client, FileLink, Page};
use crate::pin::{Pin, Sha256};

use super::choose::{Choice, choose};
use super::error::WheelError;
use super::tags::Tags;

/// Bytes; the largest wheels that people install have 3 GB.
const LARGEST: u64 = 4 << 30;
const STEP: usize = 256 << 10;

/// An end to waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    pub within: Duration,
}

impl Deadline {
    pub(super) fn within(within: Duration) -> Self {
        Self {
            at: Instant::now() + within,
            within,
        }
    }

    fn left(self, file: &str) -> Result<Duration, WheelError> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WheelError::TooSlow {
                file: file.to_owned(),
                seconds: self.within.as_secs(),
            });
        }
        Ok(left)
    }
}

/// Looks for the wheel of `pin` in all indexes, the first that has one that may be taken. The page keeps the link.
pub(super) fn find(
    client: &Client,
    pin: &Pin,
    tags: &Tags,
    deadline: Deadline,
) -> Result<FileLink, WheelError> {
    let (mut other, mut instead, mut asked) = (None, Vec::new(), Vec::new());
    for index in client.indexes() {
        let project = pin.name().as_str();
        let left = deadline.left(&format!("the page of {project}"))?;
        let page: Option<Page> = client
            .page_of(index, project, left)
            .map_err(|error| slow(error, project, deadline))?;
        asked.push(index.to_string());
        let Some(page) = page else { continue };
        match choose(&page, pin, tags) {
            Choice::This(file) => return Ok(file.clone()),
            Choice::OtherHash(file, found) => {
                other.get_or_insert_with(|| WheelError::OtherHash {
                    file: file.filename.clone(),
                    index: index.to_string(),
                    found: found.to_string(),
                });
            }
            Choice::Nothing(names) => instead.extend(names.into_iter().map(str::to_owned)),
        }
    }
    Err(other.unwrap_or_else(|| WheelError::NoWheel {
        pin: pin.to_string(),
        index: asked.join(", "),
        has: match instead[..] {
            [] => String::new(),
            _ => format!(" (it has {})", instead.join(", ")),
        },
    }))
}

/// Downloads `file` into `to`, which is on disk then; returns its hash, one of those of `pin`.
pub(super) fn download(
    client: &Client,
    file: &FileLink,
    pin: &Pin,
    to: &Path,
    deadline: Deadline,
) -> Result<Sha256, WheelError> {
    let name = &file.filename;
    let (mut body, length) = client
        .file(file, deadline.left(name)?)
        .map_err(|error| slow(error, name, deadline))?;
    let too_long = || WheelError::TooLong {
        file: name.clone(),
        mib: LARGEST >> 20,
    };
    if length.is_some_and(|length| length > LARGEST) {
        return Err(too_long());
    }
    let disk = WheelError::disk(to);
    let mut options = OpenOptions::new();
    let mut out = options
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(to)
        .map_err(&disk)?;
    let (mut hasher, mut bytes, mut buffer) = (Hasher::new(), 0, vec![0; STEP]);
    loop {
        let read = body.read(&mut buffer).map_err(|error| {
            // Whatever ended the reading, out of time is what it was if there is none left.
            deadline.left(name).err().unwrap_or(WheelError::BrokeOff {
                file: name.clone(),
                bytes,
                why: error.to_string(),
            })
        })?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        if bytes > LARGEST {
            return Err(too_long());
        }
        hasher.update(&buffer[..read]);
        out.write_all(&buffer[..read]).map_err(&disk)?;
    }
    out.sync_data().map_err(&disk)?;
    let digits: String = hasher
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let found = Sha256::parse(&digits).ok();
    let found = found.filter(|found| pin.hashes().contains(found));
    found.ok_or(WheelError::WrongHash {
        file: name.clone(),
        found: digits,
    })
}

/// A client gives up when no time is left; then that is what is told.
fn slow(error: crate::index::ClientError, file: &str, deadline: Deadline) -> WheelError {
    deadline.left(file).err().unwrap_or_else(|| error.into())
}
