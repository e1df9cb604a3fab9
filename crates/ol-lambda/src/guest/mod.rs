//! Talks to the program inside a sandbox (docs/reference/guest-protocol.md).
//!
//! - [`frame`]: headers and payloads as bytes
//! - [`channel`]: one connection, shared by the calls in flight on it
//! - [`mailbox`]: frames for a call that isn't reading
//! - [`head`]: what a function is told of a request

pub(crate) mod channel;
pub(crate) mod frame;
pub(crate) mod head;
mod mailbox;

pub(crate) use channel::{Channel, ChannelError};
pub(crate) use frame::{Frame, FrameKind};
