//! Where packages come from: the index that this host is set up for, and how it is reached.
//!
//! An operator has said once, to pip or uv, which index to use, through which proxy and whose certificates to trust.
//! Saying it again to the worker would be one more thing to forget, so it is read from there:
//!
//! ```text
//!   pip_mirror (config.json) ─┐
//!   PIP_*, UV_* variables     ├─▶ choose ─▶ Index ─┬─▶ Client      asks for pages and files from outside a sandbox
//!   pip.conf · uv.toml        │   (pure)           ├─▶ destinations ─▶ proxy   what an installer may reach
//!   .netrc · *_PROXY · certs ─┘                    └─▶ urls, certificates ─▶ inside
//! ```
//!
//! - [`host`]: the variables and files of this machine; the only part that reads anything
//! - [`location`]: an index's URL, whose password is never printed
//! - [`destination`]: a host and port that an installer may reach, and whether it may lie in a private network
//! - [`upstream`]: the proxy through which this host reaches others
//! - [`page`]: what an index says of a project's files (PEP 503, PEP 691)
//! - [`client`]: asks the index, with all of the above; `guard` says where names may lead

pub mod client;
pub mod destination;
pub mod host;
pub mod location;
pub mod page;
pub mod upstream;

mod certificates;
mod choose;
mod error;
mod guard;
mod netrc;
mod pip_conf;
mod uv_toml;

pub use certificates::Certificates;
pub use choose::{Index, Wanted};
pub use client::{Client, ClientError};
pub use destination::{Destination, Reach};
pub use error::IndexError;
pub use host::Host;
pub use location::{IndexUrl, masked};
pub use page::{FileLink, Page};
pub use upstream::{ProxyAddress, Upstream};
