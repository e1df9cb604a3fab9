//! The lambda layer: which version of a function serves, how many instances it has, which calls wait and which are refused.
//!
//! ```text
//!   Lambdas::target ─▶ Target::invoke ─▶ Function ── version: pulled from the registry, unpacked, reference-counted
//!                         │
//!                         ├─ idle instance? ──▶ Lease ──▶ call ──▶ Answer
//!                         └─ none: queue (bounded) while one is provisioned through the Pool
//! ```
//!
//! - [`lambdas`]: the entrance to this crate: all functions of a worker, uploads, shutdown
//! - `functions`: the table of functions; `resources`: what sandboxes are made with; `settings`: the configuration of this layer
//! - [`invocation`]: what goes in; [`invoke`]: what comes out, and every way in which a call can fail
//! - [`target`]: the function that an event is for, as it is when the event comes
//! - [`announce`]: tells triggers which functions serve
//! - `function`: one function: its versions, and which of them serves
//! - `instances`: the instances of one function, the queue of calls that wait for them, and how sandboxes become instances
//! - `instance`: a serving slot backed by a sandbox; paused when idle, gone when its sandbox is gone
//! - `backing`: the sandbox of an instance, running or paused, until it is given up
//! - `starting`: what a guest says from its start until it can serve
//! - `autoscale`: how many instances a function should have; pure
//! - `binding`: what tells a guest which function it becomes
//! - `version`: one unpacked copy of a function's code; `numbered`: the directory that it lies in
//! - `package_set`: the packages of one version; `view`: which of the store's packages a sandbox sees; `installers`: the sandboxes in which
//!   `ol_install` installs packages
//! - `call`: one exchange with an instance, with its time limit
//! - `guest`: frames and the connection they travel on
//! - `pauser`: the task that freezes instances which have been idle
//! - `output`: what functions print
//! - `in_flight`: how many calls are running
//! - `phases`: where a call's time went; `gauges`: how many sandboxes and waiting calls there are
//! - [`direct`]: sandboxes without functions, made and driven one by one (sock mode)
//! - `zygote`: what instances are forked from
//! - [`registry`]: where bundles are stored and how they are read
//! - `death`: deaths in words
//!
//! Failure: a sandbox that dies takes only the calls it was serving (502); the next call gets another sandbox. An invocation that
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
mod death;
mod function;
mod functions;
mod gauges;
mod guest;
mod in_flight;
mod installers;
mod instance;
mod instances;
mod numbered;
mod output;
mod package_set;
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
pub use ol_install::{PackagesSettings, StoredPackage};
pub use ol_packages::pin::Pin as PackagePin;
pub use ol_packages::store::StoreError;
pub use phases::Phases;
pub use settings::Settings;
pub use target::Target;
