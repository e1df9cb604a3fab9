//! The vocabulary of an OpenLambda worker: names, units, limits and the configuration files.
//!
//! Nothing here does I/O. Texts are parsed into validated values, which the layers above use without checking them again.
//!
//! ```text
//!   ol.yaml ──► function_config ──┐ LimitsRequest
//!                                 ├──► Limits::resolve ──► Limits (what a sandbox gets)
//!   config.json ─► worker_config ─┘ defaults, MaxLimits
//!      -o k=v ───────┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`name`] | [`FunctionName`]: a name that is valid in a URL and as a bundle's file name |
//! | [`units`] | [`MiB`] and [`CpuPercent`] |
//! | [`limits`] | [`Limits`], what a function may ask for, and the arithmetic between the two |
//! | [`function_config`] | `ol.yaml` |
//! | [`dotenv`] | `.env`, the environment of a function whose `ol.yaml` sets none |
//! | [`worker_config`] | `config.json` and its `-o` overrides |
//! | [`kinds`] | how sandboxes were started and what served calls, which `/metrics` counts |
//! | [`steps`] | what `/stats` counts and times |
//! | [`visible`] | makes untrusted text safe for a terminal |
//! | [`warnings`] | what is odd in a configuration file, but no error |
//!
//! Failure: every parser returns its module's error enum, whose `Display` is one sentence with the remedy. What is odd but no error is
//! returned as a [`Warning`] beside the value.

pub mod dotenv;
pub mod function_config;
pub mod kinds;
pub mod limits;
pub mod name;
pub mod steps;
pub mod units;
pub mod visible;
pub mod warnings;
pub mod worker_config;

mod chain;
mod nearest;
mod text_enum;

pub use chain::chain;
pub use dotenv::DotenvError;
pub use function_config::{
    ErrorDetail, FunctionConfig, FunctionConfigError, Instances, Network, OomScope, Triggers,
};
pub use limits::{LimitError, Limits, LimitsRequest, MaxLimits};
pub use name::{FunctionName, NameError};
pub use units::{CpuPercent, MiB};
pub use warnings::Warning;
pub use worker_config::{
    CodeStorage, HostFacts, ImportCache, ImportCacheTree, Port, RootStorage, SandboxKind,
    ScratchStorage, ServerMode, WorkerConfig, WorkerConfigError,
};
