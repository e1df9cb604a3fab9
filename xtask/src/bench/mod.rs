//! `cargo xtask bench [NAME]`: ours against the least that any design could cost, in one run.
//!
//! How to run these and how to read them: `docs/benchmarks.md`.
//!
//! | file | what it holds |
//! |---|---|
//! | `warm` | the plan of `bench warm`: what is measured, in which order, against which goal |
//! | `pauses` | its part about pausing |
//! | `worker` | the worker under test, from outside |
//! | `floor_http`, `floor.py` | the floor of an HTTP call |
//! | `client`, `crowd` | load: one blocking client for latency, one epoll loop for throughput |
//! | `correctness` | many clients, every answer different |
//! | `wire` | the HTTP that both speak |
//! | `child`, `process_tree` | starting, surely ending, and weighing a server's processes |
//! | `printed_address` | where a server that chose its own port listens |
//! | `pair` | ours and the floor by turns |
//! | `interrupt` | Ctrl-C as an ordinary error |
//! | `summary` | medians, ratios, the table, the JSON |

mod child;
mod client;
mod correctness;
mod crowd;
mod floor_http;
mod interrupt;
mod pair;
mod pauses;
mod printed_address;
mod process_tree;
mod summary;
mod warm;
mod wire;
mod worker;

use anyhow::Result;
use clap::Subcommand;

pub(crate) use child::become_program;
pub(crate) use floor_http::serve as serve_floor_http;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Calls of a function whose sandbox is there: latency, throughput, CPU, pauses; start and memory
    Warm(warm::Args),
}

/// Runs the named benchmark.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Warm(args) => warm::run(args),
    }
}
