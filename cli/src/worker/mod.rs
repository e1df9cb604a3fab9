//! `ol worker …`: the life of a worker, one file per verb.
//!
//! ```text
//!   init ──► up ──► (serving) ──► down
//!             │         └ crash ──► force-cleanup
//!             └ -d: detach, the same in the background
//! ```

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::out::Out;

mod detach;
mod down;
mod force_cleanup;
mod init;
mod status;
mod up;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a worker directory, or renew an existing one (registry, packages and base image stay)
    Init(init::Init),
    /// Start the worker
    Up(up::Up),
    /// Is the worker reachable and healthy?
    Status(status::Status),
    /// Stop the worker, after running calls have finished
    Down(down::Down),
    /// End a worker that can't be stopped, and remove what a crashed one left
    ForceCleanup(force_cleanup::ForceCleanup),
}

impl Command {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        match self {
            Self::Init(command) => command.run(out),
            Self::Up(command) => command.run(out),
            Self::Status(command) => command.run(out),
            Self::Down(command) => command.run(out),
            Self::ForceCleanup(command) => command.run(out),
        }
    }
}
