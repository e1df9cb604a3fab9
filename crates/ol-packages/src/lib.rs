//! Packages: what a function asks for, what exactly that is, how it is got, and where it lies then.
//!
//! ```text
//!   requirements.txt, pyproject.toml ─▶ Requirements ─▶ (resolver, in a sandbox) ─▶ Lock: NAME==VERSION and hashes
//!                                                                        │ each Pin
//!                                                                        ▼
//!                           Store: NAME==VERSION/files ◀─ a tar ◀─ (installer, in a sandbox) ◀─ proxy ◀─ index
//! ```
//!
//! - [`requirements`]: what a file asks for, validated; all that reaches out of the index is refused by name
//! - [`lock`]: what it became, for one Python and platform
//! - [`pin`]: one package's exact version, which names its directory
//! - [`store`]: the directory; a package is there whole or not at all, and stays while it is leased
//! - [`packed`]: packed copies of what was in it, for the next time
//! - [`modules`]: what can be imported from an installed package
//! - [`index`]: which package index this host uses, and the way to it
//! - [`proxy`]: what a sandbox may reach of it
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
