//! The instances of the version that serves, and the calls that wait for one.
//!
//! ```text
//!   acquire ─▶ an idle one? ──▶ Lease ──drop──▶ give_back ─▶ the first who waits, else idle
//!      └─▶ wait (bounded), start what is missing ──ready──▶ give_back
//! ```
//! They look at no registry and prepare nothing: whoever has a version and wants it called has them. A function replaces the version
//! now and then; an installer has one from the beginning to the end.
//!
//! - [`table`]: those there are
//! - [`lease`]: the right to call one, from the waiting for it to its return
//! - [`queue`]: calls that wait
//! - [`scaling`]: how they follow the load

mod lease;
mod provision;
mod queue;
mod scaling;
mod table;

pub(crate) use lease::Lease;
pub(crate) use provision::{Demand, refused};
pub(crate) use table::Instances;
