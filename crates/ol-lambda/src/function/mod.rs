//! One function: which version of it serves, and how a new version gets there.
//!
//! - [`current`]: which version serves now, and when to look again
//! - [`attempt`]: from a new bundle to a version in service, or to the reason why it can't serve
//! - [`trial`]: whether a version can be started, found out before it serves
//! - [`before`]: keeps the version that served before, for a worker that starts and finds a newest version that can't be started
//! - [`preparing`]: how far an attempt is, for calls and uploads that wait
//! - [`state`]: what a function is now, for people
//! - [`common`]: what all functions share

mod attempt;
mod before;
mod common;
mod current;
mod preparing;
mod state;
mod trial;

pub(crate) use attempt::UploadFailed;
pub(crate) use common::Common;
pub(crate) use current::Function;
pub(crate) use preparing::Progress;
pub use state::{FunctionState, Preparation, Serving};
