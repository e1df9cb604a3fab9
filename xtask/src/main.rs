//! The project's own tasks: `cargo xtask …`.
//!
//! This file is only the table of subcommands; each has a module that says why it exists.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task talks to the person who runs it"
)]

mod bench;
mod cargo;
mod check;
mod cycles;
mod deps;
mod docs;
mod find_unsafe;
mod supervise;
mod test;
mod test_v2;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Check formatting, lints, layers and documentation
    Check,
    /// Check that no dependency between our crates points up
    Deps,
    /// Check that what pages point to is there
    Docs,
    /// Run all tests with cargo nextest, and report the skipped ones
    Test {
        /// Passed on to `cargo nextest run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    TestV2(test_v2::TestV2Args),
    Vm(vm::VmArgs),
    /// Measure the worker against the least that any design could cost
    #[command(subcommand)]
    Bench(bench::Bench),
    /// The floor of `bench warm`, a process of its own
    #[command(name = "__floor-http", hide = true)]
    FloorHttp {
        pythons: usize,
    },
    /// The floor of `bench churn`, a process of its own
    #[command(name = "__floor-create", hide = true)]
    FloorCreate(bench::FloorCreateArgs),
    /// Becomes PROGRAM, which the kernel ends with this process's parent
    #[command(name = "__child", hide = true)]
    Child {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<String>,
    },
}

fn main() -> ExitCode {
    run(Task::parse()).unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match task {
        Task::Check => check::run().map(done),
        Task::Deps => deps::run().map(done),
        Task::Docs => docs::run().map(done),
        Task::Test { args } => test::run(&args),
        Task::TestV2(args) => test_v2::run(&args),
        Task::Vm(args) => vm::vm(args),
        Task::Bench(bench) => bench::run(&bench).map(done),
        Task::FloorHttp { pythons } => bench::serve_floor_http(pythons).map(done),
        Task::FloorCreate(args) => bench::run_floor_create(&args).map(done),
        Task::Child { program } => bench::become_program(&program).map(done),
    }
}
