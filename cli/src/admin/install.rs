//! `ol admin install`: packs a directory and uploads it to the running worker.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ol_model::FunctionName;
use serde_json::json;
use ureq::http::Method;

use super::check;
use super::pack::Bundle;
use crate::at::At;
use crate::client::{Client, error_text};
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// The directory that holds the function
    #[arg(value_name = "DIRECTORY")]
    source: PathBuf,
    /// Use this as its ol.yaml
    #[arg(short, long, value_name = "OL_YAML")]
    config: Option<PathBuf>,
    /// Use this as its requirements.txt
    #[arg(short, long, value_name = "REQUIREMENTS_TXT")]
    requirements: Option<PathBuf>,
    /// Name of the function [default: the directory's]
    #[arg(short, long)]
    name: Option<FunctionName>,
    /// Return once it is uploaded, without waiting for its packages
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    at: At,
}

impl Install {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        refuse_git(&self.source)?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => name_of(&self.source)?,
        };
        let mut bundle = Bundle::collect(&self.source)?;
        if let Some(config) = &self.config {
            bundle.replace("ol.yaml", config)?;
        }
        if let Some(requirements) = &self.requirements {
            bundle.replace("requirements.txt", requirements)?;
        }
        for warning in check::check(&bundle)? {
            out.note(format_args!("warning: {warning}"));
        }
        if bundle.has_file("requirements.txt") {
            out.note(format_args!(
                "warning: requirements.txt is kept with the function, but packages are not installed yet"
            ));
        }
        let packed = bundle.write()?;
        let client = Client::new(self.at.open()?)?;
        let mut answer = client.send(
            Method::POST,
            &format!("/registry/{name}"),
            Some("application/gzip"),
            &packed[..],
        )?;
        if !answer.status().is_success() {
            let status = answer.status();
            bail!(
                "the worker refused {name}: {status}: {}",
                error_text(&mut answer)
            );
        }
        let url = format!("{}/run/{name}", client.url());
        let value =
            json!({"name": name, "files": bundle.files(), "bytes": packed.len(), "url": url});
        let text = format!(
            "installed {name} ({} files, {} packed): {url}",
            bundle.files(),
            size(packed.len())
        );
        out.result(&value, text);
        Ok(ExitCode::SUCCESS)
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

fn refuse_git(source: &Path) -> Result<()> {
    let text = source.to_string_lossy();
    let remote = text.contains("://") || text.starts_with("git@") || text.ends_with(".git");
    if remote && !source.exists() {
        bail!("installing from a git URL comes later; clone {text} and give its directory");
    }
    Ok(())
}

/// The name of the directory itself, whichever way it was written (`.`, `x/..`).
fn name_of(source: &Path) -> Result<FunctionName> {
    let full = source.canonicalize();
    let full = full.with_context(|| {
        format!(
            "failed to find the directory {}; check its name",
            source.display()
        )
    })?;
    let last = full.file_name().unwrap_or_default().to_string_lossy();
    FunctionName::parse(&last)
        .with_context(|| format!("{last:?} can't be the function's name; give it one with -n NAME"))
}
