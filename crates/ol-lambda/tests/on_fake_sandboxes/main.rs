//! Runs the lambda layer over sandboxes that are tasks of this process, under a clock that advances only when every task waits.
//!
//! Checks that each waiting call is answered exactly once, that all memory comes back, and that no wait is longer than allowed.

mod guest;
mod world;

mod calls;
mod limits;
mod random;
mod registries;
mod subscribers;
