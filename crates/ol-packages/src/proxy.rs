//! The only way out of a sandbox that installs: an HTTP proxy on its loopback address, served from outside.
//!
//! The sandbox has no network; what listens on 127.0.0.1 in it is the worker's socket. An installer asks for `CONNECT HOST:443`
//! (and keeps TLS with the index to itself) or, of an index without TLS, for `GET http://HOST/…`:
//!
//! ```text
//!   sandbox                worker
//!   uv ──▶ 127.0.0.1:3128 ─accept─▶ request ─▶ Policy::judge ──403, noted in the report
//!                                                   │ a destination
//!                                                   ▼
//!                                  dial: resolve, refuse addresses of the wrong kind, or ask the host's own proxy
//!                                                   │
//!                          Metered ◀── bytes ──▶ Metered ──▶ index
//! ```
//!
//! - [`policy`]: which hosts and ports, and all limits
//! - [`target`]: what a request asks for, taken apart strictly
//! - [`dial`]: a connection to a destination
//! - [`metered`]: a stream that counts, and ends when idle or when enough is enough
//! - [`plain`]: a `GET` passed on, without what belongs to one hop
//! - [`report`]: what was refused or went wrong, so that an error can say more than "connection failed"
//! - [`serve`]: accepts, and answers each request
//!
//! Failure paths: a refused request gets 403 with the reason and the connection goes on; an index that can't be reached gets 502
//! with the reason; a limit closes the connection and is in the report; dropping [`Proxy`] closes everything.

mod dial;
mod metered;
mod plain;
mod policy;
mod report;
mod serve;
mod target;

pub use policy::{Limits, Policy};
pub use report::{Refusal, Report, Trouble};
pub use serve::{Proxy, serve};
