//! A bundle on its way in: streamed to a file of its own, which is gone when the request is, however it ends.

use crate::respond::Problem;
use futures_util::StreamExt;
use http::StatusCode;
use ol_model::MiB;
use std::path::Path;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

/// Is the version to serve whether it can be started or not? `?force=1` says so.
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
            // As every other route does.
            _ => {}
        }
    }
    Ok(forced)
}

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
    let file = match NamedTempFile::new_in(folder) {
        // Somebody removed it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder).and_then(|()| NamedTempFile::new_in(folder))
        }
        made => made,
    };
    let file = file.map_err(failed)?;
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
