//! What the store holds, how it stays within its quota, and how it learns that packages are used.

use super::Packages;
use crate::chain::chain;
use crate::package_set::PackageSet;
use crate::version::Version;
use ol_packages::pin::Pin;
use ol_packages::store::StoreError;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, SystemTime};
use tokio::time::MissedTickBehavior;

/// How often packages that calls use are touched; the store doesn't know their last use more exactly than this.
const TOUCH: Duration = Duration::from_secs(60);

/// After how many rounds of [`TOUCH`] packages are collected even if nothing asked for it.
const COLLECT: u32 = 10;

/// A package in the store.
#[derive(Clone, Debug)]
pub struct StoredPackage {
    /// The package's name and version.
    pub pin: Pin,
    /// The total length of its files.
    pub bytes: u64,
    /// How many files the package has.
    pub files: u64,
    /// When the package was last used, to within a minute.
    pub last_used: SystemTime,
    /// The functions that hold the package, sorted.
    pub in_use: Vec<String>,
}

impl Packages {
    /// Removes unused packages until the store is within its quota, the longest unused first. Blocking.
    pub(crate) fn collect(&self) {
        if let Err(error) = self.collect_to(self.settings.quota) {
            tracing::error!(
                "the package store can't be kept within packages.quota_mb: {}",
                chain(&error)
            );
        }
    }

    /// Like [`Self::collect`], to `quota` bytes each for packages and for packed copies; returns the packages removed. Blocking.
    pub(crate) fn collect_to(&self, quota: u64) -> Result<Vec<Pin>, StoreError> {
        let _alone = self
            .collecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let removed = self.settings.store.collect(quota)?;
        let packed = &self.settings.packed;
        if let Err(error) = packed.collect(packed.quota().min(quota)) {
            tracing::error!("packed copies of packages can't be removed: {error}");
        }
        for pin in &removed {
            tracing::info!(
                "removed {pin}, which nobody uses: the packages were over {} MiB",
                quota >> 20
            );
        }
        Ok(removed)
    }

    /// The installed packages, sorted. Blocking.
    pub(crate) fn list(&self) -> Result<Vec<StoredPackage>, StoreError> {
        let store = &self.settings.store;
        let installed = store.list()?.into_iter();
        let described = installed.map(|package| StoredPackage {
            in_use: store.holders(&package.pin),
            pin: package.pin,
            bytes: package.bytes,
            files: package.files,
            last_used: package.last_used,
        });
        Ok(described.collect())
    }

    /// Removes a package; returns false if it isn't there. Blocking.
    pub(crate) fn remove(&self, pin: &Pin) -> Result<bool, StoreError> {
        let removed = self.settings.store.remove(pin)?;
        if removed {
            tracing::info!("removed {pin}, as it was asked");
        }
        Ok(removed)
    }
}

/// Touches the packages that calls have used, and collects unused ones, from time to time, until the worker ends.
///
/// `versions` returns the versions that serve.
pub(crate) async fn care(
    packages: Weak<Packages>,
    versions: impl Fn() -> Vec<Arc<Version>> + Clone + Send + 'static,
) {
    let mut ticks = tokio::time::interval(TOUCH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    for turn in 1_u32.. {
        ticks.tick().await;
        let (Some(packages), versions) = (packages.upgrade(), versions.clone()) else {
            return;
        };
        let work = tokio::task::spawn_blocking(move || {
            touch(&versions());
            if turn.is_multiple_of(COLLECT) {
                packages.collect();
            }
        });
        // A panic is in the log already; the next round comes anyway.
        let _ = work.await;
    }
}

fn touch(versions: &[Arc<Version>]) {
    let packages = versions.iter().filter_map(|version| version.packages.get());
    packages
        .filter(|packages| packages.take_recently())
        .for_each(PackageSet::touch);
}
