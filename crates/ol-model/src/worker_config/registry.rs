//! Where the registry is. The setting is a path, or a URL `file://PATH` as the original writes it.

use std::path::PathBuf;

use super::error::WorkerConfigError;

/// Schemes that are recognised, and will be supported in a later version.
const LATER: &[&str] = &["s3", "gs", "azblob", "az"];

/// The folder that `registry` names. A relative path stays relative to the process's working
/// directory, as in the original.
pub(super) fn registry_path(registry: &str) -> Result<PathBuf, WorkerConfigError> {
    let unusable = |problem| WorkerConfigError::RegistryUnusable {
        registry: registry.to_owned(),
        problem,
    };
    let path = match registry.split_once("://") {
        None => registry.to_owned(),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => {
            // The original's storage library takes options as a query; none has a meaning here.
            let path = rest.split_once('?').map_or(rest, |(path, _)| path);
            let path = match path.strip_prefix("localhost") {
                Some(after) if after.starts_with('/') => after,
                _ => path,
            };
            if !path.starts_with('/') {
                return Err(unusable("names a host where a path from the root belongs"));
            }
            percent_decoded(path).ok_or(unusable("does not decode to text"))?
        }
        Some((scheme, _)) if LATER.iter().any(|later| later.eq_ignore_ascii_case(scheme)) => {
            return Err(WorkerConfigError::RegistryLater {
                registry: registry.to_owned(),
            });
        }
        Some(_) => return Err(unusable("has a scheme that no registry is served by")),
    };
    if path.is_empty() {
        return Err(unusable("is empty"));
    }
    if path.contains('\0') {
        return Err(unusable("holds NUL"));
    }
    Ok(PathBuf::from(path))
}

/// Decodes percent-encoded bytes such as `%20`.
///
/// A percent sign that begins no such sequence stands for itself: the original writes paths into the URL without encoding them.
fn percent_decoded(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = (byte == b'%')
            .then(|| path.get(at + 1..at + 3))
            .flatten()
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(code.unwrap_or(byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).ok()
}
