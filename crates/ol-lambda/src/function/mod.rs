//! One function: its versions, its queue, its instances.
//!
//! - [`version`]: one immutable unpacked copy of its code
//! - [`current`]: which version serves now, and when to look again
//! - [`attempt`]: from a new bundle to a version in service, or to why not
//! - [`trial`]: whether it can be started, found out before it serves
//! - [`before`]: what served before, for a worker that starts and finds only what can't be started
//! - [`preparing`]: how far that is, for those who wait
//! - [`state`]: what a function is now, for people
//! - [`instances`]: what calls run in; an installer has them too, without a function

mod attempt;
mod before;
mod current;
mod instances;
mod preparing;
mod state;
mod trial;
mod version;

pub(crate) use attempt::UploadFailed;
pub(crate) use current::Function;
pub(crate) use instances::{Instances, Lease};
pub(crate) use preparing::Progress;
pub use state::{FunctionState, Preparation, Serving};
pub(crate) use version::{Compiled, Numbered, Version, VersionError, chain};
