//! The root file system that a sandbox sees, as data (`plan`), then as mounts (`apply`).
//!
//! The warden builds one *template* in a mount namespace of its own, read-only and the same for all sandboxes; each
//! shell's mount namespace begins as a copy of it, to which only its own scratch, shm and proc are added. The host's
//! mount table never changes.

mod apply;
mod plan;

pub(crate) use apply::build;
pub use plan::{Base, OURS, PYTHONS, Runtime};
pub(crate) use plan::{INNER_KEEPER, INNER_LEAF, SHM_BYTES};
