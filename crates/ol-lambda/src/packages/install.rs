//! Installs what of a lock isn't in the store yet: each package once, whoever wants it, a few at a time.
//!
//! Each in a sandbox of its own, which is never used again: the hashes are checked inside, so one that a package took over could
//! hand out anything as the next one.

use super::failure::Failure;
use super::job::{Job, Tar};
use crate::shared::Shared;
use futures_util::{StreamExt, TryStreamExt, stream};
use ol_packages::lock::Lock;
use ol_packages::pin::Pin;
use ol_packages::store::{Filled, Lease, Partial};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Packages at once of one function.
const AT_ONCE: usize = super::JOBS;

/// Leases all packages of `lock` for `holder`; `says` is told how far it is.
pub(super) async fn install(
    shared: &Arc<Shared>,
    holder: &str,
    lock: &Lock,
    says: &(dyn Fn(String) + Sync),
) -> Result<Vec<Lease>, Failure> {
    let (done, all) = (AtomicUsize::new(0), lock.pins().len());
    let new = AtomicBool::new(false);
    let one = |pin: Pin| {
        let (done, new) = (&done, &new);
        async move {
            let store = &shared.packages.settings.store;
            let lease = store
                .get_or_install(&pin, holder, |partial| {
                    new.store(true, Ordering::Relaxed);
                    says(format!(
                        "installing {pin} ({} of {all})",
                        done.load(Ordering::Relaxed) + 1
                    ));
                    run(shared, partial)
                })
                .await
                .map_err(|error| Failure::store(&error))?;
            done.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Failure>(lease)
        }
    };
    let leases = stream::iter(lock.pins().to_vec())
        .map(one)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await;
    if new.load(Ordering::Relaxed) {
        // The store has grown; what is leased stays. After a failure too, for others may have been installed before it.
        let shared = Arc::clone(shared);
        tokio::task::spawn_blocking(move || shared.packages.collect());
    }
    leases
}

async fn run(shared: &Arc<Shared>, partial: Partial) -> Result<Filled, Failure> {
    let mut job = Job::begin(shared).await?;
    let doing = format!("installing {}", partial.pin());
    match job.order_tar("/install", &doing, order(&partial)).await {
        Ok((tar, moving)) => fill(&doing, partial, tar, moving).await,
        Err(failure) if shared.packages.settings.allow_sdist => {
            drop(job);
            tracing::debug!("{}: {failure}", partial.pin());
            build(shared, partial).await
        }
        Err(failure) => Err(failure),
    }
}

/// From sources: their author's program runs, so once everything is fetched it has no way out.
async fn build(shared: &Arc<Shared>, partial: Partial) -> Result<Filled, Failure> {
    let mut job = Job::begin(shared).await?;
    let doing = format!("building {}", partial.pin());
    job.order("/fetch", &doing, order(&partial)).await?;
    job.close();
    let mut order = order(&partial);
    order["fetched"] = true.into();
    let (tar, moving) = job.order_tar("/install", &doing, order).await?;
    fill(&doing, partial, tar, moving).await
}

fn order(partial: &Partial) -> serde_json::Value {
    let pin = partial.pin();
    let hashes: Vec<String> = pin
        .hashes()
        .iter()
        .map(|hash| format!("sha256:{hash}"))
        .collect();
    serde_json::json!({ "pin": pin.to_string(), "hashes": hashes })
}

async fn fill(
    doing: &str,
    partial: Partial,
    tar: Tar,
    moving: impl Future<Output = ()>,
) -> Result<Filled, Failure> {
    let filling = tokio::task::spawn_blocking(move || partial.fill(tar));
    let ((), filled) = tokio::join!(moving, filling);
    filled
        .map_err(|error| Failure(format!("{doing}: {error}\n")))?
        .map_err(|error| Failure::store(&error))
}
