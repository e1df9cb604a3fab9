//! What functions print, in files of bounded size.
//!
//! - [`outlet`]: one sandbox's pipe
//! - `backlog`: what came out of it and isn't written yet
//! - `owner`: whose line is whose
//! - [`allowance`]: how fast it is written
//! - [`log`]: one function's file, and its predecessors
//! - [`line`]: how a line looks

mod allowance;
mod backlog;
mod line;
mod log;
mod outlet;
mod owner;

pub(crate) use allowance::Allowance;
pub(crate) use log::{Log, Retention};
pub(crate) use outlet::Outlet;

/// What may be written of all functions' output, by cost and second (see `backlog`).
pub(crate) const RATE_OF_ALL: u32 = 16 << 20;
