//! The vocabulary of an OpenLambda worker: names, units, limits and the configuration files.
//!
//! Nothing here does I/O. Text comes in, validated values come out, and the layers above pass
//! those values on without looking at them twice.
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
//! | [`name`] | [`FunctionName`]: what may stand in a URL and name a bundle |
//! | [`units`] | [`MiB`] and [`CpuPercent`] |
//! | [`limits`] | [`Limits`], what a function may ask for, and the arithmetic between the two |
//! | [`function_config`] | `ol.yaml` |
//! | [`dotenv`] | `.env`, the environment of a function whose `ol.yaml` sets none |
//! | [`worker_config`] | `config.json` and its `-o` overrides |
//! | [`kinds`] | how sandboxes began, what served calls: what `/metrics` counts |
//! | [`steps`] | what `/stats` counts and times |
//! | [`visible`] | text of others, fit for a terminal |
//! | [`warnings`] | what was odd but not fatal in any of them |
//!
//! Failure paths: every parser returns its module's error enum, whose `Display` is one sentence
//! with the remedy; what can be survived is a [`Warning`] beside the value.

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

mod nearest;
mod text_enum;

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
