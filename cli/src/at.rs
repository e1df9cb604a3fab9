//! `-p`: the worker directory that a subcommand works on.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use ol_model::HostFacts;
use ol_worker::directory::{Directory, host_facts};

#[derive(Debug, Args)]
pub(crate) struct At {
    /// The worker directory
    #[arg(short, long, value_name = "DIR", default_value = "default-ol")]
    pub(crate) path: PathBuf,
}

impl At {
    /// The directory, which must be a worker's.
    pub(crate) fn open(&self) -> Result<Directory> {
        Ok(Directory::open(&self.path)?)
    }
}

/// The facts about this machine that the configuration's defaults depend on.
pub(crate) fn facts() -> Result<HostFacts> {
    host_facts().context("failed to read what this machine has from /proc; is it mounted?")
}
