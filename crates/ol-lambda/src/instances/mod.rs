//! The instances of the version that serves, and the calls that wait for an instance.
//!
//! ```text
//!   acquire ─▶ an idle one? ──▶ Lease ──drop──▶ give_back ─▶ the first waiting call, else idle
//!      └─▶ wait (bounded), start what is missing ──ready──▶ give_back
//! ```
//! This module looks at no registry and prepares no version: its owner provides a version. A function replaces the version now and then;
//! an installer has one version from the beginning to the end.
//!
//! - [`table`]: the instances there are
//! - [`lease`]: the right to call an instance, from the wait for it to its return
//! - [`provision`]: backs a new instance with a sandbox
//! - [`queue`]: calls that wait
//! - [`scaling`]: how the number of instances follows the load

mod lease;
mod provision;
mod queue;
mod scaling;
mod table;

pub(crate) use lease::Lease;
pub(crate) use provision::{Demand, refused};
pub(crate) use table::Instances;
