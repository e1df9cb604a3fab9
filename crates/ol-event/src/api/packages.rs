//! The package store over HTTP: lists its packages and removes them.

use super::control::{Context, Refusal, refuse};
use crate::respond::Problem;
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::IntoResponse;
use http::{HeaderMap, StatusCode};
use ol_lambda::{PackagePin, StoreError, StoredPackage};
use serde_json::{Value, json};
use std::time::UNIX_EPOCH;

pub(super) async fn list(
    State(context): State<Context>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let packages = context.lambdas.packages().await;
    let packages = packages.map_err(|error| failed(&error, headers))?;
    Ok(Json(packages.iter().map(described).collect::<Value>()))
}

fn described(package: &StoredPackage) -> Value {
    let last_used = package.last_used.duration_since(UNIX_EPOCH);
    json!({
        "name": package.pin.name().as_str(),
        "version": package.pin.version().as_str(),
        "bytes": package.bytes,
        "files": package.files,
        "last_used": last_used.unwrap_or_default().as_secs(),
        "in_use": package.in_use,
    })
}

pub(super) async fn remove(
    State(context): State<Context>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let Some(pin) = PackagePin::of_directory(&name) else {
        let text = "a package is named NAME==VERSION, as GET /packages shows it";
        let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-name", text);
        return Err(refuse(problem, headers));
    };
    let text = format!("{pin} is removed\n");
    match context.lambdas.remove_package(pin).await {
        Ok(true) => Ok(text),
        Ok(false) => {
            let text =
                format!("no package {name} is installed; GET /packages lists those that are");
            let problem = Problem::new(StatusCode::NOT_FOUND, "unknown-package", text);
            Err(refuse(problem, headers))
        }
        Err(error) => Err(failed(&error, headers)),
    }
}

/// Removes unused packages until the store fits into `?quota_mb=MIB`, or into the configured quota.
pub(super) async fn collect(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let Ok(quota) = quota(query.as_deref().unwrap_or_default()) else {
        let text = "quota_mb in the query is no whole number of MiB; write quota_mb=NUMBER";
        let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-request", text);
        return Err(refuse(problem, headers));
    };
    let removed = context.lambdas.collect_packages(quota).await;
    let removed = removed.map_err(|error| failed(&error, headers.clone()))?;
    let left = context.lambdas.packages().await;
    let left = left.map_err(|error| failed(&error, headers))?;
    let removed: Vec<String> = removed.iter().map(ToString::to_string).collect();
    let bytes: u64 = left.iter().map(|package| package.bytes).sum();
    Ok(Json(
        json!({"removed": removed, "left": left.len(), "bytes": bytes}),
    ))
}

/// The query's quota in bytes.
fn quota(query: &str) -> Result<Option<u64>, std::num::ParseIntError> {
    let mut pairs = query.split('&');
    let number = pairs.find_map(|pair| pair.strip_prefix("quota_mb="));
    let number = number.map(str::parse::<u32>).transpose()?;
    Ok(number.map(|mib| u64::from(mib) << 20))
}

fn failed(error: &StoreError, headers: HeaderMap) -> Refusal {
    let (status, code) = match error {
        StoreError::Held { .. } => (StatusCode::CONFLICT, "in-use"),
        _ => {
            tracing::error!("{error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "internal")
        }
    };
    refuse(Problem::new(status, code, error.to_string()), headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_is_in_mib() {
        assert_eq!(quota(""), Ok(None));
        assert_eq!(quota("x=1&quota_mb=3"), Ok(Some(3 << 20)));
        assert_eq!(quota("quota_mb=0"), Ok(Some(0)));
        assert!(quota("quota_mb=").is_err() && quota("quota_mb=-1").is_err());
    }
}
