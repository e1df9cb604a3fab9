//! `ol`: the worker's command line. There is one file per subcommand, and four that they share:
//!
//! | file | holds |
//! |---|---|
//! | `out` | text or JSON output, and readers that leave early |
//! | `at` | `-p`: the worker directory |
//! | `client` | HTTP to the worker of that directory |
//! | `process` | finding that worker's process, and signalling it |
//!
//! Failure: a subcommand returns an error, which is printed here, once, as one sentence with its
//! causes. Exit codes: 0 done, 1 failed, 2 used wrongly.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod admin;
mod at;
mod bench;
mod client;
mod completions;
mod doctor;
mod invoke;
mod logs;
mod ls;
mod man;
mod out;
mod packages;
mod private_socket;
mod process;
#[cfg(test)]
mod reference;
mod rm;
mod worker;

use out::{Format, Out};

/// Runs serverless functions on this machine.
#[derive(Parser)]
#[command(name = "ol", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Format of the output
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t
    )]
    output: Format,
}

#[derive(Subcommand)]
enum Command {
    /// Make, start and stop a worker
    #[command(subcommand)]
    Worker(worker::Command),
    /// Install functions
    #[command(subcommand)]
    Admin(admin::Command),
    /// List and remove installed packages
    #[command(subcommand)]
    Packages(packages::Command),
    /// Measure how many calls a worker serves
    #[command(subcommand)]
    Bench(bench::Command),
    /// Call a function
    Invoke(invoke::Invoke),
    /// List the functions
    Ls(ls::Ls),
    /// Remove functions
    Rm(rm::Rm),
    /// Show what a function wrote
    Logs(logs::Logs),
    /// Check what this machine offers
    Doctor(doctor::Doctor),
    /// Print the completions for a shell
    Completions(completions::Completions),
    /// Write the manual pages into a directory
    Man(man::Man),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Out::new(&cli.output);
    match run(cli.command, out) {
        Ok(code) => code,
        Err(error) => {
            out.error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, out: Out) -> Result<ExitCode> {
    match command {
        Command::Worker(command) => command.run(out),
        Command::Admin(command) => command.run(out),
        Command::Packages(command) => command.run(out),
        Command::Bench(command) => command.run(out),
        Command::Invoke(command) => command.run(out),
        Command::Ls(command) => command.run(out),
        Command::Rm(command) => command.run(out),
        Command::Logs(command) => command.run(out),
        Command::Doctor(command) => command.run(out),
        Command::Completions(command) => command.run(out),
        Command::Man(command) => command.run(out),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
