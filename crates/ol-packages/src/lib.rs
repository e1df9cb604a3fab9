//! Packages: what a function asks for, what exactly that is, and where it lies once it is installed.
//!
//! ```text
//!   requirements.txt, pyproject.toml ─▶ Requirements ─▶ (a resolver) ─▶ Lock: NAME==VERSION and hashes
//!                                                                        │ each Pin
//!                                                                        ▼
//!                                             Store: NAME==VERSION/files ◀─ a tar (an installer)
//! ```
//!
//! - [`requirements`]: what a file asks for, validated; all that reaches out of the index is refused by name
//! - [`lock`]: what it became, for one Python and platform
//! - [`pin`]: one package's exact version, which names its directory
//! - [`store`]: the directory; a package is there whole or not at all, and stays while it is leased
//! - [`modules`]: what can be imported from an installed package
//!
//! Nothing here runs a program or knows of sandboxes, functions or HTTP.

pub mod lock;
pub mod modules;
pub mod pin;
pub mod requirements;
pub mod store;
