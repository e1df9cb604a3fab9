//! Receives a bundle: streams it to a file of its own, which is removed when the request ends, however it ends.
//!
//! How many bundles arrive at once, and how much disk they hold together, is bounded.

use crate::crowd::{Crowd, Full};
use crate::incoming::BodyError;
use crate::respond::Problem;
use crate::seldom::Seldom;
use axum::body::{Body, HttpBody as _};
use futures_util::StreamExt;
use http::StatusCode;
use ol_lambda::InvokeError;
use ol_model::MiB;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

/// Does the query say `force=1`: is the version to serve even if it can't be started?
pub(crate) fn forced(query: &str) -> Result<bool, Problem> {
    let mut forced = false;
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("force", "1" | "true") => forced = true,
            ("force", "0" | "false") => forced = false,
            ("force", _) => {
                let text = "force in the query is 1 or 0; write force=1 to have a version served that can't be started";
                return Err(Problem::new(StatusCode::BAD_REQUEST, "bad-request", text));
            }
            // Unknown keys are ignored, as on every other route.
            _ => {}
        }
    }
    Ok(forced)
}

/// How large uploads may be, and how many there may be at once.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// The largest bundle.
    pub each: MiB,
    /// The most that all arriving bundles may hold together.
    pub together: MiB,
    /// How many may arrive at once; half of them from one address.
    pub count: usize,
}

/// The uploads that are in progress.
pub(crate) struct Uploads {
    folder: PathBuf,
    limits: UploadLimits,
    crowd: Arc<Crowd>,
    /// Bytes that all uploads hold together.
    bytes: AtomicU64,
    failing: Seldom,
}

/// A bundle that is arriving, or has arrived.
pub(crate) struct Upload {
    uploads: Arc<Uploads>,
    file: NamedTempFile,
    bytes: u64,
}

impl Upload {
    /// The path of the bundle's file.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    fn makes_room(&mut self, bytes: u64) -> Result<(), Problem> {
        self.bytes += bytes;
        let together = self.uploads.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let limits = &self.uploads.limits;
        if self.bytes > limits.each.bytes() {
            return Err(self.uploads.too_large());
        }
        if together > limits.together.bytes() {
            let text = format!(
                "the uploads on their way hold as much as they may together ({} MiB, max_uploads_mb): try again later",
                limits.together.0
            );
            return Err(full(text));
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.uploads.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Uploads {
    /// Begins without uploads; their files are kept in `folder`.
    pub(crate) fn new(folder: PathBuf, limits: UploadLimits) -> Arc<Self> {
        Arc::new(Self {
            folder,
            limits,
            crowd: Crowd::new(limits.count, limits.count.div_ceil(2)),
            bytes: AtomicU64::new(0),
            failing: Seldom::default(),
        })
    }

    /// Writes `body`, which a client at `from` sends, to a new file.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        body: Body,
        from: Option<IpAddr>,
    ) -> Result<Upload, Problem> {
        if body.size_hint().lower() > self.limits.each.bytes() {
            return Err(self.too_large());
        }
        let place = self.crowd.enter(from).map_err(|refused| {
            full(match refused {
                Full::All => format!(
                    "as many uploads are on their way as may be ({}, max_uploads): try again later",
                    self.limits.count
                ),
                Full::Each => format!(
                    "your address has {} uploads on their way, half of all that may be (max_uploads): try again later",
                    self.crowd.each()
                ),
            })
        })?;
        let failed = |error| self.failed(&error);
        let file = match NamedTempFile::new_in(&self.folder) {
            // Something removed the folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = std::fs::create_dir_all(&self.folder);
                made.and_then(|()| NamedTempFile::new_in(&self.folder))
            }
            made => made,
        };
        let file = file.map_err(failed)?;
        let mut writer = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
        let mut upload = Upload {
            uploads: Arc::clone(self),
            file,
            bytes: 0,
        };
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| broke_off(&error))?;
            upload.makes_room(part.len() as u64)?;
            writer.write_all(&part).await.map_err(failed)?;
        }
        writer.flush().await.map_err(failed)?;
        // The bundle has arrived. Preparing it may take a while, which must not keep others from uploading.
        drop(place);
        Ok(upload)
    }

    fn too_large(&self) -> Problem {
        let text = format!(
            "the bundle is larger than this worker takes ({} MiB, max_body_mb)",
            self.limits.each.0
        );
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text)
    }

    fn failed(&self, error: &io::Error) -> Problem {
        self.failing.warn(format_args!(
            "an upload can't be kept in {}: {error}",
            self.folder.display()
        ));
        let text = "the upload can't be kept: the worker's disk is full or not writable";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text)
    }
}

fn full(text: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "uploads-full", text).later()
}

/// The error for a body that didn't arrive whole.
pub(super) fn broke_off(error: &axum::Error) -> Problem {
    let body = error
        .source()
        .and_then(|source| source.downcast_ref::<BodyError>());
    let text = body.map_or_else(
        || format!("the request body broke off: {error}"),
        ToString::to_string,
    );
    InvokeError::BadRequest(text).into()
}

#[cfg(test)]
mod tests {
    use super::forced;

    #[test]
    fn only_who_says_so_forces() {
        for (query, want) in [
            ("", Some(false)),
            ("x=1&y", Some(false)),
            ("force=1", Some(true)),
            ("x&force=true", Some(true)),
            ("force=0", Some(false)),
            ("force", None),
            ("force=yes", None),
        ] {
            assert_eq!(forced(query).ok(), want, "{query}");
        }
    }
}
