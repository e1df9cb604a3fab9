//! `ol rm NAME…`: removes functions from the worker's registry.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use ol_model::FunctionName;
use serde_json::json;
use ureq::http::Method;

use crate::at::At;
use crate::client::{Client, error_text};
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The functions to remove
    #[arg(required = true, value_name = "NAME")]
    names: Vec<FunctionName>,
    #[command(flatten)]
    at: At,
}

impl Rm {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        let client = Client::new(self.at.open()?)?;
        let mut failed = 0;
        for name in &self.names {
            let mut answer = client.ask(Method::DELETE, &format!("/registry/{name}"))?;
            if answer.status().is_success() {
                out.result(&json!({"removed": name}), format_args!("removed {name}"));
            } else {
                let (status, text) = (answer.status(), error_text(&mut answer));
                out.note(format_args!(
                    "error: {name} was not removed: {status}: {text}"
                ));
                failed += 1;
            }
        }
        match failed {
            0 => Ok(ExitCode::SUCCESS),
            // The reason was printed already.
            _ if self.names.len() == 1 => Ok(ExitCode::FAILURE),
            _ => bail!(
                "{failed} of {} functions were not removed",
                self.names.len()
            ),
        }
    }
}
