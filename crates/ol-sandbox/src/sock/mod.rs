//! SOCK sandboxes: made by the warden, reached over its socket.
//!
//! - `link`: the one task that speaks with the warden; keeps each sandbox's reservation until it is gone
//! - `freezer`: pausing by a write to a file that the warden opened for us, with no message at all
//! - `pool`: the [`Pool`](crate::Pool) made of both

mod freezer;
mod link;
mod pool;

pub(crate) use freezer::Freezer;
pub(crate) use link::{Link, Warden};
pub use pool::{Egress, SockPool};
