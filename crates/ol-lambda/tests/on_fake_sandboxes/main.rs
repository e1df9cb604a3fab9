//! The lambda layer over sandboxes that are tasks of this process, under a clock that stands still until everybody waits: who waits is
//! answered, nobody twice, all memory comes back, and no wait is longer than it may be.

mod guest;
mod world;

mod calls;
mod limits;
mod random;
mod registries;
mod subscribers;
