//! Prepares the packages of one version of a function: locked, in the store, leased.

use super::Packages;
use super::failure::Failure;
use super::install::install;
use super::prepared::Prepared;
use super::resolve::resolve;
use ol_model::FunctionName;
use ol_packages::lock::Lock;
use ol_packages::requirements::Requirements;
use std::sync::Arc;

/// Gets the packages that `wanted` asks for; reports progress to `says`.
///
/// # Errors
/// When no set of packages satisfies `wanted`, or one of them can't be installed.
pub async fn prepare(
    packages: &Arc<Packages>,
    name: &FunctionName,
    wanted: &Requirements,
    says: &(dyn Fn(String) + Sync),
) -> Result<Prepared, Failure> {
    let question = packages.question(wanted);
    let known = {
        let (packages, name, question) = (Arc::clone(packages), name.clone(), question.clone());
        tokio::task::spawn_blocking(move || packages.kept.of(&name, &question))
            .await
            .unwrap_or_default()
    };
    let (lock, held, is_new) = match known {
        Some(lock) => {
            let held = install(packages, name.as_str(), &lock, says).await?;
            (Arc::new(lock), held, false)
        }
        None => {
            says("finding out which packages are needed".to_owned());
            let lock = resolve(packages, &question, wanted).await?;
            // The index's answer is kept only once the packages could be installed: it may have named a broken file, which
            // will then be replaced.
            let held = install(packages, name.as_str(), &lock, says)
                .await
                .inspect_err(|_| packages.resolving.forget(&question))?;
            (lock, held, true)
        }
    };
    Ok(Prepared { lock, held, is_new })
}

/// Keeps `lock`, which answers what `wanted` asks, for a restart.
///
/// Not for a version that was replaced or deleted while its packages were being installed: its lock would replace its successor's.
///
/// # Errors
/// When it can't be written to this worker's disk.
pub async fn keep(
    packages: &Arc<Packages>,
    name: &FunctionName,
    wanted: &Requirements,
    lock: &Arc<Lock>,
) -> Result<(), Failure> {
    let (question, lock) = (packages.question(wanted), Arc::clone(lock));
    let (packages, name) = (Arc::clone(packages), name.clone());
    let kept = tokio::task::spawn_blocking(move || packages.kept.keep(&name, &question, &lock));
    kept.await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| {
            tracing::error!("a lock can't be kept: {error}");
            Failure(
                "what was found out can't be kept on this worker's disk; its log says more\n"
                    .to_owned(),
            )
        })
}
