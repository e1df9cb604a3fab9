//! Wheels, fetched and their hashes checked outside of any sandbox: `FOLDER/PID-NUMBER/FILE.whl` while they are being installed.
//!
//! ```text
//!   Pin, Tags ─▶ index pages ─▶ choose (hashes, names) ─▶ download ─▶ Wheel: a folder with the one file
//! ```
//!
//! An installer sandbox gets one such folder and needs no network and no password of the index then. Nothing of a wheel is looked
//! at here but its name and its hash.
//!
//! - [`tags`]: which wheels an interpreter can use; pure
//! - [`choose`]: which file of a page it is; pure
//! - `fetch`: its bytes
//! - `folder`: [`Wheels`], the door
//! - `error`: why there is none

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
