//! Events in, invocations out: HTTP today, more triggers later.
//!
//! ```text
//!   TCP ────▶ server ─┬─ /run/… ─▶ api::run ─▶ Lambdas::invoke        hyper alone: the hot path
//!   ol.sock ─▶        └─ the rest ─▶ api::control (axum)              registry, status, stats, debug
//! ```
//!
//! - [`server`]: who is let in; `service`: what answers a request; `connection`: one connection and its end; `crowd`: so many in all, and so many from one address
//! - `wire`: its bytes; `heads`: the room for half of a head; `head`: what a head must be like
//! - `exchange`: the request that a connection is at; `discard`: what nobody wants of it
//! - `api`: the routes
//! - `guard`: which requests a browser may have been tricked into, and which names the worker has
//! - `metrics`: what `/metrics` says
//! - `respond`: the only place where an error becomes a status, a code and a text
//! - `date`: the time that answers bear
//! - `incoming`: request bodies; `body`: response bodies
//! - `seldom`: one line in the log for what happens, not one for each attempt; `sparing`: a bounded number of explanations a second
//!
//! Failure: a request that breaks off drops its future, and with it its place in the queue. Nothing here is kept for a
//! name that nobody registered.

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
pub use service::Limits;
