//! The only network access of a sandbox that installs: an HTTP proxy on its loopback address, served by the worker.
//!
//! The sandbox has no network; the worker listens on 127.0.0.1 inside it. An installer asks for `CONNECT HOST:443` (TLS is then between the
//! installer and the index) or, if the index has no TLS, for `GET http://HOST/…`:
//!
//! ```text
//!   sandbox                worker
//!   uv ──▶ 127.0.0.1:3128 ─accept─▶ request ─▶ ProxyRules::judge ──403, noted in the report
//!                                                            │ a destination
//!                                                            ▼
//!                                  dial: resolve, refuse addresses of the wrong kind, or ask the host's own proxy
//!                                                            │
//!                          Metered ◀── bytes ──▶ Metered ──▶ index
//! ```
//!
//! - [`rules`]: which hosts and ports, and all limits
//! - [`target`]: strict parsing of what a request asks for
//! - [`dial`]: a connection to a destination
//! - [`metered`]: a stream that counts its bytes, and ends when idle or over the limit
//! - [`plain`]: forwards a `GET`, without hop-by-hop headers
//! - [`report`]: what was refused or failed, so that an error can say more than "connection failed"
//! - [`serve`]: accepts, and answers each request
//!
//! Failure paths: a refused request gets 403 with the reason and the connection goes on; an index that can't be reached gets 502
//! with the reason; a limit closes the connection and is in the report; dropping [`Proxy`] closes everything.

mod dial;
mod metered;
mod plain;
mod report;
mod rules;
mod serve;
mod target;

pub use report::{ProxyReport, Refusal, Trouble};
pub use rules::{ProxyLimits, ProxyRules};
pub use serve::{Proxy, serve};
