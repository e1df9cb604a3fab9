//! Events in, invocations out: HTTP today, more triggers later.
//!
//! ```text
//!   TCP ────▶ server ─┬─ /run/… ─▶ api::run ─▶ Target::invoke         hyper alone: the hot path
//!   ol.sock ─▶        └─ the rest ─▶ api::control (axum)              registry, status, stats, debug
//! ```
//!
//! - [`server`]: which connections are accepted; `service`: what answers a request; `connection`: one connection and its end
//! - `crowd`: the limits on how many connections or uploads there are at once, in all and from one address
//! - `wire`: a connection's bytes; `heads`: memory for heads that haven't arrived whole; `head`: which rules every head must keep
//! - `exchange`: how far a connection is with its current request; `discard`: reads and throws away what nobody wants of a request
//! - `api`: the routes
//! - `guard`: refuses requests that a browser may have been tricked into, and those for a host name that isn't the worker's
//! - `metrics`: the document at `/metrics`
//! - `respond`: the only place where an error becomes a status, a code and a text
//! - `date`: the `Date` header of answers
//! - `incoming`: request bodies; `body`: response bodies
//! - `seldom`: warns of the same thing at most once a minute; `sparing`: bounds how many refusals a second are explained
//!
//! Failure: when a request breaks off, its future is dropped, and with it its place in the queue. This crate keeps nothing for
//! function names that nobody registered.

mod api;
mod body;
mod connection;
mod crowd;
mod date;
mod discard;
mod exchange;
mod guard;
mod head;
mod heads;
mod incoming;
mod metrics;
mod respond;
mod seldom;
pub mod server;
mod service;
mod sparing;
mod wire;

pub use api::upload::UploadLimits;
pub use server::{Listeners, Server};
pub use service::RequestLimits;
