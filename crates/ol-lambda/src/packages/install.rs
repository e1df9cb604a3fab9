//! Installs what of a lock isn't in the store yet: each package once, whoever wants it, a few at a time.
//!
//! The worker fetches a wheel and checks its hash; a sandbox without any network unpacks it. Each in a sandbox of its own, which is
//! never used again: one that a package took over could hand out anything as the next one.

use super::failure::Failure;
use super::job::{Job, Tar};
use crate::lambdas::Shared;
use futures_util::{StreamExt, TryStreamExt, stream};
use ol_packages::lock::Lock;
use ol_packages::pin::Pin;
use ol_packages::store::{Filled, Lease, Partial};
use ol_packages::wheels::{Wheel, WheelError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Packages of one function that are fetched at once; sandboxes wait for their turn.
const AT_ONCE: usize = 8;

/// Where sandboxes see the folder of [`Wheels`](ol_packages::wheels::Wheels).
const WHEELS: &str = "/packages/.wheels";

/// Leases all packages of `lock` for `holder`; `says` is told how far it is.
pub(super) async fn install(
    shared: &Arc<Shared>,
    holder: &str,
    lock: &Lock,
    says: &(dyn Fn(String) + Sync),
) -> Result<Vec<Lease>, Failure> {
    let (done, all) = (AtomicUsize::new(0), lock.pins().len());
    let one = |pin: Pin| {
        let done = &done;
        async move {
            let store = &shared.packages.settings.store;
            let lease = store
                .get_or_install(&pin, holder, |partial| {
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
    stream::iter(lock.pins().to_vec())
        .map(one)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn run(shared: &Arc<Shared>, partial: Partial) -> Result<Filled, Failure> {
    let doing = format!("installing {}", partial.pin());
    let wheel = match fetch(shared, partial.pin()).await? {
        Ok(wheel) => wheel,
        Err(WheelError::NoWheel { .. }) if shared.packages.settings.allow_sdist => {
            return build(shared, partial).await;
        }
        Err(error) => return Err(Failure::wheel(&doing, &error)),
    };
    let mut job = Job::offline(shared).await?;
    let mut order = order(&partial);
    order["wheels"] = format!("{WHEELS}/{}", wheel.folder()).into();
    let (tar, moving) = job.order_tar("/install", &doing, order).await?;
    fill(&doing, partial, tar, moving).await
}

/// Has the wheel of `pin` at hand. The outer error is that nothing can be fetched at all.
async fn fetch(shared: &Arc<Shared>, pin: &Pin) -> Result<Result<Wheel, WheelError>, Failure> {
    let packages = &shared.packages;
    let tools = packages.bench.tools(shared).await?;
    let within = packages.settings.limits.runtime;
    let (wheels, pin) = (packages.settings.wheels.clone(), pin.clone());
    let fetched = tokio::task::spawn_blocking(move || {
        wheels.get(&pin, &tools.interpreter.tags, &tools.client, within)
    });
    fetched
        .await
        .map_err(|error| Failure(format!("a wheel can't be fetched: {error}\n")))
}

/// From sources: their author's program runs, so once everything is fetched it has no way out.
async fn build(shared: &Arc<Shared>, partial: Partial) -> Result<Filled, Failure> {
    let mut job = Job::online(shared).await?;
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
