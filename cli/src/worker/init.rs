//! `ol worker init`: makes a worker directory. In an existing one it stops the worker, keeps what took work to make, and writes a new
//! configuration.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use ol_worker::directory::{BaseChoice, Directory, DirectoryError, InitReport};
use serde_json::json;

use super::down::drain;
use crate::at::{At, facts};
use crate::out::Out;
use crate::process;

#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    at: At,
    /// Base image: `host`, `debian[:SUITE]`, `tar:PATH` (or .tar.gz) or `dir:PATH` of a root file
    /// system, `docker:IMAGE` [default: host]
    #[arg(short = 'i', long = "image", value_name = "BASE")]
    base: Option<BaseChoice>,
    /// Make the base image anew: again from the same source, or from the one given with -i
    #[arg(short = 'b', long)]
    rebuild: bool,
}

impl Init {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let there = Directory::open(&self.at.path);
        let recorded = there.as_ref().ok().and_then(Directory::recorded_base);
        // With -b but without -i, the same base image is made again.
        let again = recorded.filter(|_| self.rebuild);
        let base = self.base.or(again).unwrap_or(BaseChoice::Host);
        // Checked first: a typing mistake must not stop a running worker.
        base.check()?;
        match there {
            Ok(directory) => {
                if let Some(pid) = process::stop(&directory, drain(&directory)?)? {
                    out.note(format_args!("stopped the worker (pid {pid})"));
                }
            }
            // Either there is no worker directory, or `init` itself decides.
            Err(
                DirectoryError::Absent { .. }
                | DirectoryError::Unconfigured { .. }
                | DirectoryError::NotOurs { .. },
            ) => {}
            Err(error) => return Err(error.into()),
        }
        let (directory, report) = Directory::init(&self.at.path, &base, self.rebuild, &facts()?)?;
        notes(out, &report);
        out.result(&as_json(&directory, &report), as_text(&directory, &report));
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes the directory that `up` found missing, and reports it on standard error.
pub(super) fn on_the_way(out: Out, path: &Path, base: Option<&BaseChoice>) -> Result<Directory> {
    let base = base.unwrap_or(&BaseChoice::Host);
    let (directory, report) = Directory::init(path, base, false, &facts()?)?;
    notes(out, &report);
    out.note(as_text(&directory, &report));
    Ok(directory)
}

fn notes(out: Out, report: &InitReport) {
    for note in &report.notes {
        out.note(format_args!("note: {note}"));
    }
}

fn as_text(directory: &Directory, report: &InitReport) -> String {
    let verb = if report.created { "made" } else { "renewed" };
    let kept = if report.base_kept { ", kept" } else { "" };
    let mut text = format!(
        "{verb} the worker directory {} (base image {}{kept}; Python {})",
        directory.root().display(),
        report.base,
        report.python
    );
    if let Some(backup) = &report.backup {
        text += &format!("\nthe configuration before it is in {}", backup.display());
    }
    text
}

fn as_json(directory: &Directory, report: &InitReport) -> serde_json::Value {
    json!({
        "directory": directory.root(),
        "created": report.created,
        "base": report.base,
        "base_kept": report.base_kept,
        "python": report.python.to_string(),
        "backup": report.backup,
        "notes": report.notes,
    })
}
