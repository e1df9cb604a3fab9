//! Installs the packages of a lock that aren't in the store yet: each package once, for all who want it, a few at a time.
//!
//! The worker fetches a wheel and checks its hash. A sandbox without any network unpacks and compiles it, and its answer is
//! kept packed for the next time. Each package gets a sandbox of its own, which is never used again: a sandbox that a package took over
//! could hand out anything as the next package.

use super::Packages;
use super::failure::Failure;
use super::job::Tar;
use super::prepared::Held;
use super::tools::Tools;
use futures_util::{StreamExt, TryStreamExt, stream};
use ol_packages::lock::Lock;
use ol_packages::packed::Packing;
use ol_packages::pin::{Pin, Sha256};
use ol_packages::store::{Filled, Partial, StoreError};
use ol_packages::wheels::{Tags, Wheel, WheelError, WheelLimits};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::time::Instant;

/// How many packages of one function are fetched at once; sandboxes wait for their turn.
const AT_ONCE: usize = 8;

/// Where sandboxes see the folder of [`Wheels`](ol_packages::wheels::Wheels).
const WHEELS: &str = "/packages/.wheels";

/// Leases all packages of `lock` for `holder`; reports progress to `says`.
pub(super) async fn install(
    packages: &Arc<Packages>,
    holder: &str,
    lock: &Lock,
    says: &(dyn Fn(String) + Sync),
) -> Result<Vec<Held>, Failure> {
    let (done, all) = (AtomicUsize::new(0), lock.pins().len());
    let new = AtomicBool::new(false);
    let one = |pin: Pin| {
        let (done, new) = (&done, &new);
        async move {
            let store = &packages.settings.store;
            let begun = Instant::now();
            let lease = store
                .get_or_install(&pin, holder, |partial| {
                    new.store(true, Ordering::Relaxed);
                    says(format!(
                        "installing {pin} ({} of {all})",
                        done.load(Ordering::Relaxed) + 1
                    ));
                    run(packages, partial)
                })
                .await
                .map_err(|error| Failure::store(&error))?;
            done.fetch_add(1, Ordering::Relaxed);
            let took = begun.elapsed();
            Ok::<_, Failure>(Held { lease, took })
        }
    };
    let held = stream::iter(lock.pins().to_vec())
        .map(one)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await;
    if new.load(Ordering::Relaxed) {
        // The store has grown; leased packages stay. Done after a failure too, for other packages may have been installed before it.
        let packages = Arc::clone(packages);
        tokio::task::spawn_blocking(move || packages.collect());
    }
    held
}

async fn run(packages: &Arc<Packages>, partial: Partial) -> Result<Filled, Failure> {
    let tools = packages.tools.get(packages).await?;
    let doing = format!("installing {}", partial.pin());
    let partial = match unpack(packages, &tools, &doing, partial).await? {
        Ok(filled) => return Ok(filled),
        Err(partial) => partial,
    };
    // Held until the package is installed, so that few wheels lie on the disk at once.
    let fetching = packages.fetching.acquire().await;
    let _fetching = fetching.map_err(|_| Failure("this worker is stopping\n".to_owned()))?;
    let wheel = match fetch(packages, &tools, partial.pin()).await? {
        Ok(wheel) => wheel,
        Err(WheelError::NoWheel { .. }) if packages.settings.allow_sdist => {
            return build(packages, partial).await;
        }
        Err(error) => return Err(Failure::wheel(&doing, &error)),
    };
    let mut job = packages.offline().await?;
    let mut order = order(&partial);
    order["wheels"] = format!("{WHEELS}/{}", wheel.folder()).into();
    let ([tar, copied], moving) = job.order_tar("/install", &doing, order).await?;
    let packing = pack(packages, &tools, wheel.hash(), copied);
    let (filled, packed) = tokio::join!(fill(&doing, partial, tar, moving), packing);
    let filled = filled?;
    if let Some(packed) = packed {
        // In the background, and a failure only gives a warning: the package itself is complete.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = packed.keep() {
                tracing::warn!("no copy of a package is kept: {error}");
            }
        });
    }
    Ok(filled)
}

fn tags(tools: &Tools) -> &Tags {
    &tools.interpreter.tags
}

/// Installs from the packed copy of an earlier installation. `Err(partial)` if there is no good copy.
async fn unpack(
    packages: &Arc<Packages>,
    tools: &Arc<Tools>,
    doing: &str,
    partial: Partial,
) -> Result<Result<Filled, Partial>, Failure> {
    let (packed, tools) = (packages.settings.packed.clone(), Arc::clone(tools));
    let unpacking = tokio::task::spawn_blocking(move || {
        let pin = partial.pin().clone();
        let Some(copy) = packed.find(&pin, tags(&tools)) else {
            return Ok(Err(partial));
        };
        let spare = partial.another()?;
        match partial.fill(copy) {
            Ok(filled) => Ok(Ok(filled)),
            Err(error @ StoreError::Host { .. }) => Err(error),
            Err(error) => {
                tracing::warn!("the copy of {pin} is damaged, so it is installed anew: {error}");
                packed.forget(&pin, tags(&tools));
                Ok(Err(spare))
            }
        }
    });
    let unpacked = unpacking.await;
    unpacked
        .map_err(|error| Failure(format!("{doing}: {error}\n")))?
        .map_err(|error| Failure::store(&error))
}

/// Copies a package while it is unpacked. If that fails, the installed package is still good.
async fn pack(
    packages: &Arc<Packages>,
    tools: &Arc<Tools>,
    hash: Sha256,
    tar: Tar,
) -> Option<Packing> {
    let packed = packages.settings.packed.clone();
    if packed.quota() == 0 {
        return None;
    }
    let tools = Arc::clone(tools);
    let packing = tokio::task::spawn_blocking(move || packed.pack(&hash, tags(&tools), tar));
    let failed =
        |error: &dyn std::fmt::Display| tracing::warn!("no copy of a package is kept: {error}");
    packing
        .await
        .inspect_err(|error| failed(error))
        .ok()?
        .inspect_err(|error| failed(error))
        .ok()
}

/// Ends a fetch when it is dropped: nobody waits for the fetch any more.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Fetches the wheel of `pin`, unless it is there. The outer error means that nothing can be fetched at all.
async fn fetch(
    packages: &Arc<Packages>,
    tools: &Arc<Tools>,
    pin: &Pin,
) -> Result<Result<Wheel, WheelError>, Failure> {
    let settings = &packages.settings;
    let stop = Stop::default();
    let limits = WheelLimits {
        within: settings.limits.runtime,
        // A wheel as large as a sandbox's memory can't be unpacked in it.
        bytes: u64::from(settings.limits.mem.0) << 20,
        stop: Arc::clone(&stop.0),
    };
    let (wheels, tools, pin) = (settings.wheels.clone(), Arc::clone(tools), pin.clone());
    let fetched = tokio::task::spawn_blocking(move || {
        wheels.fetch(&pin, tags(&tools), &tools.client, &limits)
    });
    fetched
        .await
        .map_err(|error| Failure(format!("a wheel can't be fetched: {error}\n")))
}

/// Builds a package from sources. Its author's program runs, so once everything is fetched the sandbox loses its way to the index.
async fn build(packages: &Arc<Packages>, partial: Partial) -> Result<Filled, Failure> {
    let mut job = packages.online().await?;
    let doing = format!("building {}", partial.pin());
    job.order("/fetch", &doing, order(&partial)).await?;
    job.close();
    let mut order = order(&partial);
    order["fetched"] = true.into();
    // A build's result is not kept packed: another build may give another result.
    let ([tar, _], moving) = job.order_tar("/install", &doing, order).await?;
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
