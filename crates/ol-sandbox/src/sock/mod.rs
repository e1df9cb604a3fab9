//! SOCK sandboxes, which the warden makes; the worker asks for them over the warden's socket.
//!
//! - `link`: the one task that speaks with the warden; keeps each sandbox's memory reserved until the sandbox is gone
//! - `freezer`: pausing by a write to a file that the warden opened for the worker, without any message
//! - `handle`: what [`Running`](crate::Running) and [`Paused`](crate::Paused) control a SOCK sandbox by
//! - `wire`: translates this crate's types into those of the warden's protocol
//! - `pool`: the [`Pool`](crate::Pool) of SOCK sandboxes

mod freezer;
mod handle;
mod link;
mod pool;
mod wire;

pub use pool::SockPool;
