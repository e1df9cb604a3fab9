//! How sandboxes reach a network, and which addresses none of them can reach.
//!
//! ```text
//!   sandbox 1: eth0 ──────── s1 ┐   the router: a namespace of this worker's own, with all its rules made once     the host
//!   sandbox 2: eth0 ──────── s2 ┼─▶ no other sandbox, nothing private, no forged source ─▶ up ────────── ol-XXXXXXXX: nothing
//!   sandbox 3: eth0 ──────── s3 ┘   a socket of the worker's answers questions of names                 of the host's; masqueraded
//! ```
//! - [`plan`](Plan): addresses as numbers
//! - `rules`: what may pass, as text for `nft`
//! - `netlink`: interfaces, addresses and routes, synchronously
//! - `router`: the router's namespace and its uplink, and their removal
//! - `link`: the interface or socket that one sandbox gets
//!
//! IPv6 is blocked entirely: it is switched off in the router and on every interface, and the rules drop it.
//!
//! Failure: without nft, or without the kernel features that it needs, there is no router; the worker is told why, and only
//! `Egress` is missing. A warden that is killed leaves one table of rules for an interface that is gone; [`remove_all`] removes it.

mod link;
mod netlink;
mod plan;
mod router;
mod rules;

pub(crate) use link::{Networking, SandboxNetwork};
pub use plan::{Net, Plan};
pub use router::{NFT_MISSING, find_nft, remove_all};
