//! `ol admin …`: packs functions and uploads them to a worker.
//!
//! ```text
//!   source ─┬ directory ──────────────► pack ──┐
//!           ├ URL ─► git_url ─► git ──► pack ──┼─► check ─► POST /registry/NAME ─► wait
//!           └ tar.gz ─────────────────► archive┘   entry file, ol.yaml, .env, requirements.txt
//! ```

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::out::Out;

mod archive;
mod check;
mod git;
mod git_url;
mod install;
mod pack;
mod source;
mod wait;

pub(crate) use pack::Bundle;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pack a directory, or fetch a git repository, and upload it as a function
    Install(install::Install),
}

impl Command {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        match self {
            Self::Install(command) => command.run(out),
        }
    }
}
