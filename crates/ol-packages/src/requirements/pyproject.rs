//! `[project] dependencies` of a pyproject.toml (PEP 621): the same requirements, one per string.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;

use super::entry::{self, Requirement};
use super::fault::{Fault, RequirementsError};
use super::lines::{Bounds, text};
use crate::pin::shown;

/// The parts of the file that are read here; the rest is for other tools.
#[derive(Deserialize)]
struct Pyproject {
    project: Option<Project>,
}

#[derive(Deserialize)]
struct Project {
    #[serde(default)]
    dependencies: Vec<Spanned<String>>,
    #[serde(default)]
    dynamic: Vec<Spanned<String>>,
}

/// The dependencies in `file`, in the order written.
pub(super) fn entries(file: &[u8], bounds: &Bounds) -> Result<Vec<Requirement>, RequirementsError> {
    let text = text(file, bounds)?;
    if text.lines().count() > bounds.lines {
        return Err(RequirementsError::Lines(bounds.lines));
    }
    let line = |at: usize| 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
    let parsed = toml::from_str(text);
    let parsed: Pyproject = parsed.map_err(|error: toml::de::Error| RequirementsError::Toml {
        line: line(error.span().map_or(0, |span| span.start)),
        what: shown(error.message()),
    })?;
    let Some(project) = parsed.project else {
        return Ok(Vec::new());
    };
    if let Some(dynamic) = project
        .dynamic
        .iter()
        .find(|field| *field.get_ref() == "dependencies")
    {
        return Err(RequirementsError::Line {
            line: line(dynamic.span().start),
            fault: Fault::Dynamic,
        });
    }
    if project.dependencies.len() > bounds.entries {
        return Err(RequirementsError::Entries(bounds.entries));
    }
    let parsed = project.dependencies.iter().map(|dependency| {
        let fault = match requirement(dependency.get_ref()) {
            Ok(requirement) => return Ok(requirement),
            Err(fault) => fault,
        };
        Err(RequirementsError::Line {
            line: line(dependency.span().start),
            fault,
        })
    });
    parsed.collect()
}

fn requirement(text: &str) -> Result<Requirement, Fault> {
    super::lines::readable(text)?;
    entry::parse(text, BTreeSet::new())
}
