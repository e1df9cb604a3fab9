//! `ol bench …`: the benchmarks of the original worker's command line, with its names and flags, so that scripts for it work here too.
//!
//! ```text
//!   init ──► registry: bench-py-N, bench-pd-N
//!   py64-seq … pd64k-par (workload) ──┐
//!   play (a trace) ───────────────────┴─► load ──► outcome: JSON on standard output, and in a file
//! ```

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::out::Out;

mod init;
mod load;
mod names;
mod outcome;
mod play;
mod workload;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put the functions that are called by the benchmarks into the registry
    Init(init::Init),
    /// Call functions in the order of a trace, over and over
    Play(play::Play),
    #[command(flatten)]
    Workload(workload::Command),
}

impl Command {
    pub(crate) fn run(self, out: Out) -> Result<ExitCode> {
        match self {
            Self::Init(command) => command.run(out),
            Self::Play(command) => command.run(out),
            Self::Workload(command) => command.run(out),
        }
    }
}
