//! What functions print, in files of bounded size.
//!
//! - [`outlet`]: one sandbox's pipe
//! - `backlog`: what was printed and isn't written yet
//! - `owner`: which call a line belongs to
//! - [`allowance`]: how fast output is written
//! - [`log`]: one function's log file, and its predecessors
//! - [`line`]: the format of a line

mod allowance;
mod backlog;
mod line;
mod log;
mod outlet;
mod owner;

pub(crate) use allowance::Allowance;
pub(crate) use log::{Log, Retention};
pub(crate) use outlet::Outlet;

/// How fast the output of all functions together may be written, in cost per second (see `backlog`).
pub(crate) const RATE_OF_ALL: u32 = 16 << 20;
