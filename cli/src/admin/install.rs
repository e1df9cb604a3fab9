//! `ol admin install`: packs a function and uploads it to the running worker.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, value_parser};
use ol_model::FunctionName;
use serde_json::json;
use ureq::http::Method;

use super::archive::Archive;
use super::check::{Files as _, check};
use super::git::Checkout;
use super::pack::Bundle;
use super::source::Source;
use super::wait::{Outcome, wait};
use crate::at::At;
use crate::client::{Client, error_text};
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// A directory or tar.gz that holds the function, or a git URL, as in
    /// https://host/repo.git#BRANCH-TAG-OR-COMMIT:DIRECTORY (what follows # may be left out)
    #[arg(value_name = "PATH_or_GIT_URL")]
    source: PathBuf,
    /// Use this file as its ol.yaml
    #[arg(short, long, value_name = "OL_YAML")]
    config: Option<PathBuf>,
    /// Use this file as its requirements.txt
    #[arg(short, long, value_name = "REQUIREMENTS_TXT")]
    requirements: Option<PathBuf>,
    /// Name of the function [default: the directory's, archive's or repository's]
    #[arg(short, long)]
    name: Option<FunctionName>,
    /// How many seconds fetching from git may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Return once it is uploaded, without waiting until it is ready
    #[arg(long)]
    no_wait: bool,
    /// Serve it even if it can't be started; without this, the version before it stays in service
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    at: At,
}

/// A packed function, ready to be uploaded.
struct Packed {
    bytes: Vec<u8>,
    files: usize,
}

impl Install {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let source = Source::find(&self.source)?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => source.name()?,
        };
        // First of all, so that a missing worker is reported before a large repository is fetched.
        let client = Client::new(self.at.open()?)?;
        let packed = self.pack(out, &source)?;
        let mut answer = client.send(
            Method::POST,
            &format!(
                "/registry/{name}{}",
                if self.force { "?force=1" } else { "" }
            ),
            &[("content-type", "application/gzip")],
            &packed.bytes[..],
        )?;
        if !answer.status().is_success() {
            let status = answer.status();
            bail!(
                "the worker refused {name}: {status}: {}",
                error_text(&mut answer)
            );
        }
        let url = format!("{}/run/{name}", client.url());
        let (files, bytes) = (packed.files, packed.bytes.len());
        let mut value = json!({"name": name, "files": files, "bytes": bytes, "url": url});
        if self.no_wait {
            value["state"] = "uploaded".into();
            let text = format!(
                "uploaded {name} ({files} files, {} packed): {url}",
                size(bytes)
            );
            out.result(&value, text);
            return Ok(ExitCode::SUCCESS);
        }
        match wait(out, &client, &name)? {
            Outcome::Ready { packages, untried } => {
                if let Some(why) = untried {
                    out.note(format_args!(
                        "warning: {name} serves, but could not be tried before: {why}"
                    ));
                }
                value["state"] = "ready".into();
                value["packages"] = json!(packages);
                let with = match packages.len() {
                    0 => String::new(),
                    1 => ", 1 package".to_owned(),
                    count => format!(", {count} packages"),
                };
                let text = format!(
                    "installed {name} ({files} files, {} packed{with}): {url}",
                    size(bytes)
                );
                out.result(&value, text);
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Failed { why, before } => {
                value["state"] = "failed".into();
                value["error"] = why.as_str().into();
                value["version_before_in_service"] = before.into();
                out.result(&value, "");
                let stays = if before {
                    "; the version before it stays in service"
                } else {
                    ""
                };
                bail!("{name} is uploaded but can't be used{stays}: {why}")
            }
        }
    }

    fn pack(&self, out: Out, source: &Source) -> Result<Packed> {
        match source {
            Source::Directory(path) => self.bundle(out, Bundle::collect(path)?),
            Source::Git(url) => {
                let checkout = Checkout::fetch(url, Duration::from_secs(self.timeout))?;
                let packed = self.bundle(out, Bundle::collect(checkout.function())?)?;
                checkout.remove()?;
                Ok(packed)
            }
            Source::Archive(path) => {
                if self.config.is_some() || self.requirements.is_some() {
                    bail!(
                        "{} is packed already; to use -c or -r, unpack it and give the directory",
                        path.display()
                    );
                }
                let archive = Archive::read(path)?;
                warn(out, &check(&archive)?);
                Ok(Packed {
                    files: archive.files(),
                    bytes: archive.into_bytes(),
                })
            }
        }
    }

    fn bundle(&self, out: Out, mut bundle: Bundle) -> Result<Packed> {
        let given = [
            ("ol.yaml", &self.config),
            ("requirements.txt", &self.requirements),
        ];
        let mut notes = Vec::new();
        for (name, file) in given {
            let Some(file) = file else { continue };
            if bundle.has_file(name) {
                let file = file.display();
                notes.push(format!(
                    "note: {file} takes the place of the function's own {name}"
                ));
            }
            bundle.replace(name, file)?;
        }
        // Errors come before notes and warnings: those are printed only if everything else is right.
        let warnings = check(&bundle)?;
        notes.iter().for_each(|note| out.note(note));
        warn(out, &warnings);
        Ok(Packed {
            bytes: bundle.write()?,
            files: bundle.files(),
        })
    }
}

fn warn(out: Out, warnings: &[String]) {
    for warning in warnings {
        out.note(format_args!("warning: {warning}"));
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}
