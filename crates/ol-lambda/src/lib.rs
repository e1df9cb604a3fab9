//! Functions: which code, how many instances, who waits, who is refused.
//!
//! ```text
//!   Lambdas::target ─▶ Target::invoke ─▶ Function ── version: pulled from the registry, unpacked, reference-counted
//!                         │
//!                         ├─ idle instance? ──▶ Lease ──▶ call ──▶ Answer
//!                         └─ none: queue (bounded) while one is provisioned through the Pool
//! ```
//!
//! - [`lambdas`]: the door: all functions of a worker, uploads, shutdown
//! - `functions`: the table of them; `resources`: what sandboxes are made with; `settings`: what all of it goes by
//! - [`invocation`]: what goes in; [`invoke`]: what comes out, and every way it can fail
//! - [`target`]: the function that an event is for, as it is when the event comes
//! - [`announce`]: which functions serve, for triggers
//! - `function`: one function: its versions, its queue, its instances
//! - `instance`: a serving slot backed by a sandbox; paused when idle, gone when its sandbox is
//! - `backing`: that sandbox, running or paused, until it is given up
//! - `provision`: how it gets that; `starting`: what its guest says until it serves
//! - `autoscale`: how many instances a function should have; pure
//! - `binding`: what a guest is told of the function that it is to be
//! - `call`: one exchange with an instance, with its time limit
//! - `guest`: frames and the connection they travel on
//! - `pauser`: the one task that freezes what has been idle
//! - `output`: what functions print
//! - `in_flight`: how many calls are being made
//! - `phases`: where a call's time went
//! - [`direct`]: sandboxes without functions, driven one by one
//! - `zygote`: what instances are forked from
//! - [`registry`]: where bundles live and how they become files
//!
//! Failure: a sandbox that dies takes only the calls it was serving (502); the next call gets another. An invocation that
//! is dropped gives up its place in the queue; if it is being served, the answer is awaited in the background.

pub mod announce;
pub mod direct;
pub mod invocation;
pub mod invoke;
pub mod lambdas;
pub mod registry;
pub mod target;

mod autoscale;
mod backing;
mod binding;
mod call;
mod chain;
mod death;
mod function;
mod functions;
mod gauges;
mod guest;
mod in_flight;
mod instance;
mod instances;
mod numbered;
mod output;
mod package_set;
mod packages;
mod pauser;
mod phases;
mod resources;
mod settings;
mod starting;
mod version;
mod view;
mod zygote;

pub use announce::{Change, Changes};
pub use direct::{Direct, DirectError, Order};
pub use function::{FunctionState, Preparation, Serving};
pub use gauges::Gauges;
pub use invocation::{Body, Headers, HttpRequest, Invocation, InvocationId, Source};
pub use invoke::{Answer, AnswerBody, AnswerStream, InvokeError};
pub use lambdas::{Lambdas, UploadError, Uploaded};
pub use ol_packages::pin::Pin as PackagePin;
pub use ol_packages::store::StoreError;
pub use packages::{PackagesSettings, StoredPackage};
pub use phases::Phases;
pub use settings::Settings;
pub use target::Target;
