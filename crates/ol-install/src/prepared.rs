//! Packages that are ready to be used.

use ol_packages::lock::Lock;
use ol_packages::store::PackageLease;
use std::sync::Arc;
use std::time::Duration;

/// A package that is in the store, and stays there as long as this lives.
#[derive(Debug)]
pub struct Held {
    /// The package's lease.
    pub lease: PackageLease,
    /// How long was waited for it: its fetch and installation, or a look into the store.
    pub took: Duration,
}

/// Packages that are ready to be used.
#[derive(Debug)]
pub struct Prepared {
    /// Which packages these are.
    pub lock: Arc<Lock>,
    /// The packages.
    pub held: Vec<Held>,
    /// The lock was found now, and isn't saved to disk yet; [`keep`] does that.
    pub is_new: bool,
}
