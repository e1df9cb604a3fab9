//! One function: its versions, its queue, its instances.
//!
//! - [`version`]: one immutable unpacked copy of its code
//! - [`current`]: which version serves now, and when to look again
//! - [`instances`]: idle ones, waiting calls, and the leases between them

mod current;
mod instances;
mod version;

pub(crate) use current::{Function, UploadFailed};
pub(crate) use instances::Lease;
pub(crate) use version::{Compiled, PrepareError, Version, chain};
