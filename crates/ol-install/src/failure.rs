//! Why packages can't be had: what the installer said, and what would help.

use crate::workshop::{Cause, Trouble};
use ol_packages::proxy::ProxyReport;
use ol_packages::store::StoreError;
use ol_packages::wheels::WheelError;
use std::fmt::Write as _;

/// Why the packages of a function can't be resolved or installed. `Display` is for the function's owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// An installer's answer when it failed.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Said {
    /// One of the codes in [`remedy`].
    pub code: String,
    /// The words of the installer, or of the code that fetches.
    pub words: String,
}

impl Failure {
    /// `doing` failed, and the installer said why; `report` is what its proxy saw.
    pub(super) fn of(doing: &str, said: &Said, report: Option<&ProxyReport>) -> Self {
        let (what, remedy) = remedy(&said.code);
        let mut text = format!("{doing}: {what}; {remedy}");
        for refusal in report.iter().flat_map(|report| &report.refused) {
            let _ = write!(
                text,
                "\nrefused: {refusal} (packages.hosts in config.json would permit it)"
            );
        }
        for trouble in report.iter().flat_map(|report| &report.troubles) {
            let _ = write!(text, "\n{trouble}");
        }
        if !said.words.trim().is_empty() {
            let _ = write!(text, "\nThe installer says:\n{}", said.words.trim_end());
        }
        text.push('\n');
        Self(text)
    }

    /// The sandbox itself failed.
    pub(super) fn sandbox(doing: &str, error: &Trouble) -> Self {
        let remedy = match error.cause {
            Cause::Time => " (installer_limits.runtime_sec)",
            Cause::Memory => " (installer_limits.mem_mb, installer_limits.scratch_mb)",
            Cause::Other => "",
        };
        Self(format!("{doing}: {error}{remedy}\n"))
    }

    /// No wheel can be had.
    pub(super) fn wheel(doing: &str, error: &WheelError) -> Self {
        if let Some(place) = error.place() {
            tracing::error!("{doing}: {}: {error}", place.display());
        }
        let said = Said {
            code: error.code().to_owned(),
            words: error.to_string(),
        };
        Self::of(doing, &said, None)
    }

    pub(super) fn store(error: &StoreError) -> Self {
        match error {
            StoreError::Installer { package, source } => match source.downcast_ref::<Self>() {
                Some(failure) => failure.clone(),
                None => Self(format!("{package} can't be installed: {source}\n")),
            },
            StoreError::Host { .. } | StoreError::Open { .. } => {
                tracing::error!("{}", ol_model::chain(error));
                Self(format!("{error}\n"))
            }
            other => Self(format!("{other}\n")),
        }
    }
}

/// What a code of the installer means, and what helps.
fn remedy(code: &str) -> (&'static str, &'static str) {
    match code {
        "index-unreachable" => (
            "the package index can't be reached",
            "try again later, or see to the worker's network, pip_mirror or proxy",
        ),
        "garbage-index" => (
            "what answers is no package index",
            "see to the URL in pip_mirror; it often ends in /simple",
        ),
        "unsatisfiable" => (
            "no set of packages satisfies the requirements",
            "change what the words below name",
        ),
        "no-matching-wheel" => (
            "there is no wheel for this Python and machine",
            "ask for another version, or have the operator set allow_sdist to build it from sources",
        ),
        "bad-requirement" => ("a requirement isn't understood", "correct it"),
        "hash-mismatch" => (
            "the index's file is not the one that was locked or listed",
            "correct the --hash, or delete the function and install it anew; if it stays, mistrust the index",
        ),
        "bad-wheel" | "bad-sources" => (
            "the file is broken",
            "ask for another version of the package",
        ),
        "build-failed" => (
            "it can't be built from its sources",
            "ask for a version that has a wheel",
        ),
        "too-large" => (
            "it is larger than an installer may unpack",
            "the operator can raise installer_limits.scratch_mb",
        ),
        "timeout" => (
            "it took longer than an installer may",
            "the operator can raise installer_limits.runtime_sec",
        ),
        "killed" => (
            "the installer ran out of memory",
            "the operator can raise installer_limits.mem_mb",
        ),
        "too-many-processes" => (
            "the installer started more processes than it may",
            "the operator can raise installer_limits.procs",
        ),
        _ => ("the installer failed", "its words say how"),
    }
}
