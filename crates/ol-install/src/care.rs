//! What the store holds, how it stays within its quota, and how it learns that packages are used.

use super::Packages;
use ol_model::chain;
use ol_packages::pin::Pin;
use ol_packages::store::StoreError;
use std::sync::{PoisonError, Weak};
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
    pub fn collect(&self) {
        if let Err(error) = self.collect_to(self.settings.quota) {
            tracing::error!(
                "the package store can't be kept within packages.quota_mb: {}",
                chain(&error)
            );
        }
    }

    /// Like [`Self::collect`], to `quota` bytes each for packages and for packed copies; returns the packages removed. Blocking.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub fn collect_to(&self, quota: u64) -> Result<Vec<Pin>, StoreError> {
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
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn list(&self) -> Result<Vec<StoredPackage>, StoreError> {
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
    ///
    /// # Errors
    /// When a function holds the package, or the store can't be written.
    pub fn remove(&self, pin: &Pin) -> Result<bool, StoreError> {
        let removed = self.settings.store.remove(pin)?;
        if removed {
            tracing::info!("removed {pin}, as it was asked");
        }
        Ok(removed)
    }
}

/// Touches the packages that calls have used, and collects unused ones, from time to time, until the worker ends.
///
/// `touch` marks the packages in the store that calls have used since it was called last; it may block.
pub async fn care(packages: Weak<Packages>, touch: impl Fn() + Clone + Send + 'static) {
    let mut ticks = tokio::time::interval(TOUCH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    for turn in 1_u32.. {
        ticks.tick().await;
        let (Some(packages), touch) = (packages.upgrade(), touch.clone()) else {
            return;
        };
        let work = tokio::task::spawn_blocking(move || {
            touch();
            if turn.is_multiple_of(COLLECT) {
                packages.collect();
            }
        });
        // A panic is in the log already; the next round comes anyway.
        let _ = work.await;
    }
}
