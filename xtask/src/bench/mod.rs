//! `cargo xtask bench [NAME]`: ours against the least that any design could cost, in one run.
//!
//! How to run these and how to read them: `docs/contributing/benchmarks.md`.
//!
//! | file | what it holds |
//! |---|---|
//! | `warm` | the plan of `bench warm`: what is measured, in which order, against which goal |
//! | `pauses` | its part about pausing |
//! | `cold` | `bench cold`: first calls of functions |
//! | `holders`, `whole_python` | its parts about memory and about whole Pythons |
//! | `churn` | `bench churn`: sandboxes made and destroyed |
//! | `burst` | `bench burst`: many first callers at once |
//! | `density` | `bench density`: sandboxes that only wait |
//! | `packages` | `bench packages`: what functions need, installed |
//! | `floods` | `bench floods`: a warm function beside strangers who flood the worker |
//! | `against` | `bench against`: this build beside another one |
//! | `tail` | `bench tail`: a warm function beside churn |
//! | `session` | what every benchmark begins and ends with |
//! | `worker` | the worker under test, from outside |
//! | `floor_http`, `floor.py` | the floor of an HTTP call |
//! | `floor_fork`, `floor_fork.py` | the floor of a start by fork |
//! | `floor_create` | the floor of making a sandbox |
//! | `fleet` | many functions, each known by its answers |
//! | `timing` | by which way a call got its sandbox |
//! | `client`, `crowd` | load: one blocking client for latency, one epoll loop for throughput |
//! | `correctness` | many clients, every answer different |
//! | `wire` | the HTTP that both speak |
//! | `tied` | children that end with the benchmark |
//! | `child`, `process_tree` | starting, surely ending, and weighing a server's processes |
//! | `printed_address` | where a server that chose its own port listens |
//! | `pair` | ours and the floor by turns |
//! | `interrupt` | Ctrl-C as an ordinary error |
//! | `summary` | medians, ratios, the table, the JSON |

mod against;
mod burst;
mod child;
mod churn;
mod client;
mod cold;
mod correctness;
mod crowd;
mod density;
mod fleet;
mod floods;
mod floor_create;
mod floor_fork;
mod floor_http;
mod holders;
mod interrupt;
mod packages;
mod pair;
mod pauses;
mod printed_address;
mod process_tree;
mod session;
mod summary;
mod tail;
mod tied;
mod timing;
mod warm;
mod whole_python;
mod wire;
mod worker;

use anyhow::Result;
use clap::Subcommand;

pub(crate) use floor_create::{Args as FloorCreateArgs, run as run_floor_create};
pub(crate) use floor_http::serve as serve_floor_http;
pub(crate) use tied::become_program;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Calls of a function whose sandbox is there: latency, throughput, CPU, pauses; start and memory
    Warm(warm::Args),
    /// First calls of functions: what a cold start adds, by each way to start
    Cold(cold::Args),
    /// Sandboxes made and destroyed, per second
    Churn(churn::Args),
    /// A hundred callers at once of a function that has no sandbox yet
    Burst(burst::Args),
    /// Sandboxes that only wait: what one weighs, and whether a thousand slow others down
    Density(density::Args),
    /// Packages of functions, against `uv pip install`
    Packages(packages::Args),
    /// Calls of a warm function while a stranger floods the worker
    Floods(floods::Args),
    /// Calls of a warm function while other sandboxes come and go
    Tail(tail::Args),
    /// This build of the worker beside another one, by turns
    Against(against::Args),
}

/// Runs the named benchmark.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Warm(args) => warm::run(args),
        Bench::Cold(args) => cold::run(args),
        Bench::Churn(args) => churn::run(args),
        Bench::Burst(args) => burst::run(args),
        Bench::Density(args) => density::run(args),
        Bench::Packages(args) => packages::run(args),
        Bench::Floods(args) => floods::run(args),
        Bench::Tail(args) => tail::run(args),
        Bench::Against(args) => against::run(args),
    }
}
