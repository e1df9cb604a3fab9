//! `ol doctor`: what this machine offers, and what to do about what is missing. Exit code 0 only if a worker could run.
//!
//! `host` examines the machine, `directory` the worker directory, if there is one, and `programs` optional programs.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::at::At;
use crate::out::Out;

mod directory;
mod host;
mod programs;

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    at: At,
}

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// A worker can run without it.
    Optional,
    /// A worker can't run.
    Missing,
}

/// One thing that was checked.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do; empty if nothing is needed.
    remedy: String,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            found: found.into(),
            remedy: String::new(),
        }
    }

    fn missing(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Missing,
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    fn optional(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Optional,
            ..Self::missing(name, found, remedy)
        }
    }

    /// A finding with the text `found`; without `good`, it is missing and has the remedy.
    fn judge(name: &'static str, good: bool, found: impl Into<String>, remedy: &str) -> Self {
        if good {
            Self::ok(name, found)
        } else {
            Self::missing(name, found, remedy)
        }
    }

    fn line(&self) -> String {
        let mark = match self.verdict {
            Verdict::Ok => '✓',
            Verdict::Optional => '–',
            Verdict::Missing => '✗',
        };
        let mut line = format!("{mark} {:<16} {}", self.name, self.found);
        if !self.remedy.is_empty() {
            line += &format!(": {}", self.remedy);
        }
        line
    }
}

impl Doctor {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let (base, of_directory) = directory::look(&self.at);
        let mut findings = host::look(&base);
        findings.extend(of_directory);
        let missing = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Missing)
            .count();
        let lines: Vec<String> = findings.iter().map(Finding::line).collect();
        out.result(&findings, lines.join("\n"));
        if missing == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        out.note(format_args!(
            "error: a worker can't run here; see the {missing} marked ✗"
        ));
        Ok(ExitCode::FAILURE)
    }
}
