//! Wheels fetched outside of any sandbox, with their hashes checked: `FOLDER/PID-NUMBER/FILE.whl` while they are being installed.
//!
//! ```text
//!   Pin, Tags ─▶ index pages ─▶ choose (hashes, names) ─▶ download ─▶ Wheel: a folder with the one file
//! ```
//!
//! An installer sandbox gets one such folder and then needs neither a network nor a password of the index. Of a wheel, only its name and
//! its hash are examined here.
//!
//! - [`tags`]: which wheels an interpreter can use; pure
//! - [`choose`]: which file of a page is taken; pure
//! - `fetch`: downloads it
//! - `folder`: [`Wheels`], the entry point
//! - `error`: why a wheel can't be fetched

mod choose;
mod error;
mod fetch;
mod folder;
mod tags;
#[cfg(test)]
mod tests;

pub use error::WheelError;
pub use folder::{Wheel, WheelLimits, Wheels};
pub use tags::{Fit, Libc, Tags, WheelName};
