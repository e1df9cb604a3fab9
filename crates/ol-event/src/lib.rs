//! Events in, invocations out: HTTP today, more triggers later.
//!
//! ```text
//!   TCP ────▶ server ─┬─ /run/… ─▶ api::run ─▶ Lambdas::invoke        hyper alone: the hot path
//!   ol.sock ─▶        └─ the rest ─▶ api::control (axum)              registry, status, stats, debug
//! ```
//!
//! - [`server`]: connections, their limits and their end
//! - `api`: the routes
//! - `guard`: which requests a browser may have been tricked into, and which names the worker has
//! - `respond`: the only place where an error becomes a status, a code and a text
//! - `date`: the time that answers bear
//! - `incoming`: request bodies; `body`: response bodies
//!
//! Failure: a request that breaks off drops its future, and with it its place in the queue. Nothing here is kept for a
//! name that nobody registered.

mod api;
mod body;
mod date;
mod guard;
mod incoming;
mod respond;
pub mod server;

pub use server::{Limits, Listeners, Server};
