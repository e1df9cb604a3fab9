//! `ol admin …`: functions on their way into a worker.
//!
//! ```text
//!   pack::Bundle::collect ─► check ─► pack::Bundle::write ─► POST /registry/NAME
//!    which files, by name     entry file, ol.yaml   tar.gz
//! ```

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::out::Out;

mod check;
mod install;
mod pack;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pack a directory and upload it as a function
    Install(install::Install),
}

impl Command {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        match self {
            Self::Install(command) => command.run(out),
        }
    }
}
