//! A bundle on its way in: streamed to a file of its own, which is gone when the request is, however it ends.

use crate::respond::Problem;
use futures_util::StreamExt;
use http::StatusCode;
use ol_model::MiB;
use std::path::Path;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

/// Writes `body` to a new file in `folder`.
pub(crate) async fn receive(
    folder: &Path,
    body: axum::body::Body,
    max: MiB,
) -> Result<NamedTempFile, Problem> {
    let failed = |error: std::io::Error| {
        tracing::error!("an upload can't be kept in {}: {error}", folder.display());
        let text = "the upload can't be kept: the worker's disk is full or not writable";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text)
    };
    let file = NamedTempFile::new_in(folder).map_err(failed)?;
    let mut writer = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
    let mut left = max.bytes();
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "bad-request",
                format!("the upload broke off: {error}"),
            )
        })?;
        left = left.checked_sub(part.len() as u64).ok_or_else(|| {
            let text = format!(
                "the bundle is larger than this worker takes ({} MiB, max_body_mb)",
                max.0
            );
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text)
        })?;
        writer.write_all(&part).await.map_err(failed)?;
    }
    writer.flush().await.map_err(failed)?;
    Ok(file)
}
