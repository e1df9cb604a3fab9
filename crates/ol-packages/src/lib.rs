//! A function's packages: what it asks for, which exact versions that becomes, how they are fetched, and where they are stored.
//!
//! ```text
//!   requirements.txt, pyproject.toml ─▶ Requirements ─▶ (resolver, in a sandbox) ─▶ Lock: NAME==VERSION and hashes
//!                                                                        │ each Pin
//!                                                                        ▼
//!                           Store: NAME==VERSION/files ◀─ a tar ◀─ (installer, in a sandbox) ◀─ proxy ◀─ index
//! ```
//!
//! - [`requirements`]: what a file asks for, validated; a line that needs anything but the index is refused, with the reason
//! - [`lock`]: the exact versions that requirements were resolved to, for one Python and platform
//! - [`pin`]: one package's exact version, which names its directory
//! - [`store`]: the directory; a package is there whole or not at all, and stays while it is leased
//! - [`packed`]: packed copies of installed packages, to reinstall them faster
//! - [`modules`]: what can be imported from an installed package
//! - [`index`]: which package index this host uses, and the way to it
//! - [`proxy`]: a sandbox's only way to the index, which limits what it can reach
//! - [`wheels`]: files of the index whose hashes were checked, for sandboxes without a network
//! - [`tool`]: uv, found or fetched
//! - [`inside`]: the program that resolves and installs in a sandbox
//!
//! Nothing here knows of sandboxes or functions.

pub mod index;
pub mod inside;
pub mod lock;
pub mod modules;
pub mod packed;
pub mod pin;
pub mod proxy;
pub mod requirements;
pub mod store;
pub mod tool;
pub mod wheels;
