//! Wheels whose hashes were checked here, outside of any sandbox: `FOLDER/SHA256/FILE.whl`, kept for the next time.
//!
//! ```text
//!   Pin, Tags ─▶ Wheels::get ──kept──────────────────────────────▶ Wheel (a lease on its folder)
//!                     │ not there                                     ▲
//!                     ▼                                               │ renamed
//!               index pages ─▶ choose (hashes, names) ─▶ download ─▶ .partial-… whose SHA-256 is a wanted one
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

pub use error::WheelError;
pub use folder::{Wheel, Wheels};
pub use tags::{Fit, Libc, Tags, WheelName};
