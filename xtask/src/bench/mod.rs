//! `cargo xtask bench [NAME]`: the worker against the least that any design could cost, in one run.
//!
//! How to run these and how to read them: `docs/contributing/benchmarks.md`.
//!
//! | file | what it holds |
//! |---|---|
//! | `warm` | `bench warm`: what is measured, in which order, against which goals |
//! | `pauses` | the part of `bench warm` about pausing |
//! | `cold` | `bench cold`: first calls of functions |
//! | `holders`, `whole_python` | the parts of `bench cold` about memory and about whole Pythons |
//! | `churn` | `bench churn`: sandboxes made and destroyed |
//! | `burst` | `bench burst`: many first callers at once |
//! | `density` | `bench density`: sandboxes that only wait |
//! | `packages` | `bench packages`: installing functions' packages |
//! | `floods` | `bench floods`: a warm function while strangers flood the worker |
//! | `against` | `bench against`: this build compared with another one |
//! | `tail` | `bench tail`: a warm function while sandboxes are made and destroyed |
//! | `session` | the common begin and end of every benchmark |
//! | `worker` | the worker under test, used from outside |
//! | `floor_http`, `floor.py` | the floor of an HTTP call |
//! | `floor_fork`, `floor_fork.py` | the floor of a start by fork |
//! | `floor_create` | the floor of making a sandbox |
//! | `fleet` | many functions, each recognised by its answers |
//! | `timing` | how a call got its sandbox |
//! | `client`, `crowd` | load: one blocking client for latency, one epoll loop for throughput |
//! | `correctness` | many clients, each expecting a different answer |
//! | `wire` | the HTTP that both kinds of client use |
//! | `tied` | children that end with the benchmark |
//! | `child`, `process_tree` | starting, reliably ending, and weighing a server's processes |
//! | `printed_address` | finds the address of a server that chose its own port |
//! | `pair` | the worker and the floor by turns |
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
    /// Calls of a function whose sandbox exists: latency, throughput, CPU, pauses; start and memory
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
