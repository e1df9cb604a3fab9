//! `ol completions SHELL`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell to complete in
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        // By way of a buffer: the generator panics when its writer fails.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "ol", &mut script);
        out.bytes(&script);
        Ok(ExitCode::SUCCESS)
    }
}
