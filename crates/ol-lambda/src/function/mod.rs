//! One function: which version of it serves, and how another comes to.
//!
//! - [`current`]: which version serves now, and when to look again
//! - [`attempt`]: from a new bundle to a version in service, or to why not
//! - [`trial`]: whether it can be started, found out before it serves
//! - [`before`]: what served before, for a worker that starts and finds only what can't be started
//! - [`preparing`]: how far that is, for those who wait
//! - [`state`]: what a function is now, for people
//! - [`common`]: what all functions work with

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
