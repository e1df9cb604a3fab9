//! The installer program: `uv`, found on this host or fetched from the index.
//!
//! ```text
//!   PATH ──a native uv of the supported series──▶ Uv
//!     │ none
//!   DIR/uv-VERSION/uv ──runs──▶ Uv
//!     │ none
//!   index: page of `uv` ─▶ newest wheel for this machine ─▶ hash checked ─▶ one member unpacked ─▶ fsync, rename ─▶ Uv
//! ```
//!
//! pip isn't needed: a wheel is a zip archive, and the index says what its hash must be.
//!
//! - [`release`]: which series of uv is supported, and which wheel fits this machine
//! - [`fetch`]: downloads one
//! - [`find`]: looks for an installed one

mod error;
mod fetch;
mod find;
mod release;

pub use error::ToolError;
pub use find::{Progress, Uv};
pub use release::{Release, SERIES};
