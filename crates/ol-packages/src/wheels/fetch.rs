//! Downloads a wheel from the index into a file, computing its hash on the way.

use std::fs::{OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256 as Hasher};

use crate::index::{Client, FileLink, Page};
use crate::pin::{Pin, Sha256};

use super::choose::{Choice, choose};
use super::error::WheelError;
use super::folder::WheelLimits;
use super::tags::Tags;

const STEP: usize = 256 << 10;

/// The limits of one fetch, with the time when it must end.
#[derive(Debug)]
pub(super) struct Bounds<'a> {
    limits: &'a WheelLimits,
    until: Instant,
}

impl<'a> Bounds<'a> {
    pub(super) fn of(limits: &'a WheelLimits) -> Self {
        let until = Instant::now() + limits.within;
        Self { limits, until }
    }

    /// The time left for `file`; an error if the fetch was stopped or none is left.
    fn left(&self, file: &str) -> Result<Duration, WheelError> {
        if self.limits.stop.load(Ordering::Relaxed) {
            return Err(WheelError::Stopped);
        }
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WheelError::TooSlow {
                file: file.to_owned(),
                seconds: self.limits.within.as_secs(),
            });
        }
        Ok(left)
    }

    /// Fails if a file of `bytes` bytes is too long.
    fn length(&self, file: &str, bytes: u64) -> Result<(), WheelError> {
        if bytes > self.limits.bytes {
            return Err(WheelError::TooLong {
                file: file.to_owned(),
                mib: self.limits.bytes >> 20,
            });
        }
        Ok(())
    }
}

/// Looks for the wheel of `pin` in all indexes, in order; the first acceptable one is taken.
pub(super) fn find(
    client: &Client,
    pin: &Pin,
    tags: &Tags,
    bounds: &Bounds<'_>,
) -> Result<FileLink, WheelError> {
    let (mut other, mut instead, mut asked) = (None, Vec::new(), Vec::new());
    for index in client.indexes() {
        let project = pin.name().as_str();
        let left = bounds.left(&format!("the page of {project}"))?;
        let page: Option<Page> = client
            .page_of(index, project, left)
            .map_err(|error| slow(error, project, bounds))?;
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

/// Downloads `file` into `to`, synced to disk; returns its hash, which is one of those of `pin`.
pub(super) fn download(
    client: &Client,
    file: &FileLink,
    pin: &Pin,
    to: &Path,
    bounds: &Bounds<'_>,
) -> Result<Sha256, WheelError> {
    let name = &file.filename;
    let (mut body, length) = client
        .file(file, bounds.left(name)?)
        .map_err(|error| slow(error, name, bounds))?;
    bounds.length(name, length.unwrap_or(0))?;
    let disk = WheelError::disk(to);
    let mut options = OpenOptions::new();
    let mut out = options
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(to)
        .map_err(&disk)?;
    // Sandboxes read the file, thus its mode must not depend on the umask.
    out.set_permissions(Permissions::from_mode(0o444))
        .map_err(&disk)?;
    let (mut hasher, mut bytes, mut buffer) = (Hasher::new(), 0, vec![0; STEP]);
    loop {
        let read = body.read(&mut buffer).map_err(|error| {
            // If no time is left, that is the cause, whatever the error says.
            bounds.left(name).err().unwrap_or(WheelError::BrokeOff {
                file: name.clone(),
                bytes,
                why: error.to_string(),
            })
        })?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        bounds.length(name, bytes)?;
        bounds.left(name)?;
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

/// The error of a client call, or [`WheelError::TooSlow`] if no time is left: the client gives up then.
fn slow(error: crate::index::ClientError, file: &str, bounds: &Bounds<'_>) -> WheelError {
    bounds.left(file).err().unwrap_or_else(|| error.into())
}
