//! `ol ls`: the functions in the worker's registry.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ureq::http::Method;

use crate::at::At;
use crate::client::{Client, error_text};
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    at: At,
}

impl Ls {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let client = Client::new(self.at.open()?)?;
        let mut answer = client.ask(Method::GET, "/registry/")?;
        if !answer.status().is_success() {
            let status = answer.status();
            bail!(
                "failed to list the functions: {status}: {}",
                error_text(&mut answer)
            );
        }
        let text = answer.body_mut().read_to_string();
        let text = text.context("failed to read the list of functions; try again")?;
        let names: Vec<String> = serde_json::from_str(&text)
            .context("the worker's list of functions is no JSON list")?;
        out.result(&names, names.join("\n"));
        Ok(ExitCode::SUCCESS)
    }
}
