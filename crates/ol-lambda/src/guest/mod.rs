//! Speaking with the program inside a sandbox (docs/guest-protocol.md).
//!
//! - [`frame`]: headers and payloads as bytes
//! - [`channel`]: one connection, shared by the calls in flight on it

pub(crate) mod channel;
pub(crate) mod frame;

pub(crate) use channel::{Channel, ChannelError};
pub(crate) use frame::{Frame, Kind};
