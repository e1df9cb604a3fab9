//! The package index that this host is configured for, and how to reach it.
//!
//! An operator has already configured pip or uv: which index, through which proxy, trusting whose certificates. Configuring the worker
//! separately would be one more thing to forget, thus these settings are read:
//!
//! ```text
//!   pip_mirror (config.json) ─┐
//!   PIP_*, UV_* variables     ├─▶ choose ─▶ Index ─┬─▶ Client      asks for pages and files from outside a sandbox
//!   pip.conf · uv.toml        │   (pure)           ├─▶ destinations ─▶ proxy   what an installer may reach
//!   .netrc · *_PROXY · certs ─┘                    └─▶ urls, certificates ─▶ inside
//! ```
//!
//! - [`host`]: this machine's variables and files; the only part that reads them
//! - [`location`]: an index's URL, whose password is never printed
//! - [`destination`]: a host and port that an installer may reach, and whether it may lie in a private network
//! - [`upstream`]: the proxy through which this host reaches others
//! - [`page`]: an index's list of a project's files (PEP 503, PEP 691)
//! - [`client`]: asks the index, using all of the above; `guard` limits which addresses names may resolve to

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
