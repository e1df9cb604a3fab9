//! SOCK sandboxes: made by the warden, reached over its socket.
//!
//! - `link`: the one task that speaks with the warden; keeps each sandbox's reservation until it is gone
//! - `freezer`: pausing by a write to a file that the warden opened for us, with no message at all
//! - `handle`: one sandbox, as its owner holds it
//! - `wire`: the door's words as the warden's
//! - `pool`: the [`Pool`](crate::Pool) made of them

mod freezer;
mod handle;
mod link;
mod pool;
mod wire;

pub use pool::SockPool;
