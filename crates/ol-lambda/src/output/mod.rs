//! What functions print.
//!
//! - [`outlet`]: the pipe of one sandbox; which invocation a line belongs to
//! - [`log`]: the function's file, rotated, and how fast it may grow
//! - [`line`]: one line of it as text

mod line;
mod log;
mod outlet;

pub(crate) use log::{Log, Retention};
pub(crate) use outlet::Outlet;
