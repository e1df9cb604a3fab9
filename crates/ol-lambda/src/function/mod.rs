//! One function: its versions, its queue, its instances.
//!
//! - [`version`]: one immutable unpacked copy of its code
//! - [`current`]: which version serves now, and when to look again
//! - [`preparing`]: a version on its way into service
//! - [`state`]: what a function is now, for people
//! - [`instances`]: what calls run in; an installer has them too, without a function

mod current;
mod instances;
mod preparing;
mod state;
mod version;

pub(crate) use current::{Function, UploadFailed};
pub(crate) use instances::{Instances, Lease};
pub use state::{FunctionState, Preparation, Serving};
pub(crate) use version::{Compiled, Version, VersionError, chain};
