//! `ol worker status`: whether a worker runs and serves. Exit code 0 only if both.

use std::fs;
use std::io;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use ol_worker::directory::Directory;
use serde_json::json;
use ureq::http::Method;

use crate::at::{At, facts};
use crate::client::{Client, error_text};
use crate::out::Out;
use crate::private_socket::ask_socket;
use crate::process;

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    at: At,
}

/// The state of a worker.
enum WorkerState {
    Stopped,
    Ready {
        url: String,
    },
    /// A worker runs but doesn't serve.
    Unready {
        why: String,
    },
}

impl Status {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let directory = self.at.open()?;
        let root = directory.root().display();
        let state = state(&directory)?;
        let pid = match state {
            WorkerState::Stopped => None,
            _ => pid(&directory),
        };
        let (word, url, why) = match &state {
            WorkerState::Stopped => ("stopped", None, None),
            WorkerState::Ready { url } => ("ready", Some(url), None),
            WorkerState::Unready { why } => ("unready", None, Some(why)),
        };
        let base = base(&directory);
        let value = json!({
            "state": word, "directory": directory.root(), "base": base, "pid": pid, "url": url, "why": why,
        });
        let whom = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        match &state {
            WorkerState::Ready { url } => {
                out.result(&value, format_args!("ready at {url}{whom}"));
                return Ok(ExitCode::SUCCESS);
            }
            _ if out.is_json() => out.result(&value, ""),
            WorkerState::Stopped => {
                bail!("no worker runs in {root}; start one with `ol worker up -d -p {root}`")
            }
            WorkerState::Unready { why } => {
                bail!("the worker in {root}{whom} does not serve: {why}")
            }
        }
        Ok(ExitCode::FAILURE)
    }
}

fn state(directory: &Directory) -> Result<WorkerState> {
    if !process::is_running(directory)? {
        return Ok(WorkerState::Stopped);
    }
    // The operator's socket gives more details, but only root may open it.
    match ask_socket(directory, "/readyz") {
        // The public address is not asked as well: it may have no connection left.
        Ok((200, _)) => {
            let url = Client::new(directory.clone())?.url().to_owned();
            return Ok(WorkerState::Ready { url });
        }
        Ok((_, why)) if !why.is_empty() => return Ok(WorkerState::Unready { why }),
        Ok((status, _)) => {
            let why = format!("it answers {status} on {}", directory.socket().display());
            return Ok(WorkerState::Unready { why });
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = format!(
                "it is still starting, or stopping, or {} was removed",
                directory.socket().display()
            );
            return Ok(WorkerState::Unready { why });
        }
        Err(error) => {
            let why = format!(
                "its socket {} does not answer ({error})",
                directory.socket().display()
            );
            return Ok(WorkerState::Unready { why });
        }
    }
    let client = Client::new(directory.clone())?;
    let why = match client.ask(Method::GET, "/status") {
        Ok(answer) if answer.status().is_success() => {
            let url = client.url().to_owned();
            return Ok(WorkerState::Ready { url });
        }
        Ok(mut answer) => format!("{}: {}", answer.status(), error_text(&mut answer)),
        Err(error) => format!("{error:#}"),
    };
    Ok(WorkerState::Unready { why })
}

/// The base image as written after `-i`, if known.
fn base(directory: &Directory) -> Option<String> {
    let (config, _) = directory.load(&[], &facts().ok()?).ok()?;
    Some(directory.base(&config).ok()?.source)
}

/// The pid in the pid file, only to show it; nothing is done to the process.
fn pid(directory: &Directory) -> Option<i32> {
    let text = fs::read_to_string(directory.pid_file()).ok()?;
    text.trim().parse().ok()
}
