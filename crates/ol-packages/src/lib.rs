//! Packages: what functions import and don't bring along. Knows nothing of functions or sandboxes.

pub mod index;
pub mod inside;
pub mod proxy;
pub mod tool;
