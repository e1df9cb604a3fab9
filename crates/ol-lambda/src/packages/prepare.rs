//! Prepares the packages of one version: locked, in the store, leased.

use super::Packages;
use super::failure::Failure;
use super::install::install;
use super::resolve::resolve;
use crate::package_set::PackageSet;
use crate::view::View;
use ol_model::FunctionName;
use ol_packages::lock::Lock;
use ol_packages::requirements::Requirements;
use std::sync::Arc;

/// Gets the packages that `wanted` asks for; reports progress to `says`.
pub(crate) async fn prepare(
    packages: &Arc<Packages>,
    name: &FunctionName,
    wanted: &Requirements,
    says: &(dyn Fn(String) + Sync),
) -> Result<PackageSet, Failure> {
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
    let view = lay_out(packages, &lock).await?;
    Ok(PackageSet::new(lock, held, view, is_new))
}

async fn lay_out(packages: &Arc<Packages>, lock: &Arc<Lock>) -> Result<View, Failure> {
    let (code, lock) = (packages.resources.settings.code.clone(), Arc::clone(lock));
    let laying = tokio::task::spawn_blocking(move || {
        let entries = lock.pins().iter().map(|pin| format!("{pin}/files"));
        View::lay_out(&code, entries)
    });
    laying
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| {
            tracing::error!("packages can't be laid out: {error}");
            Failure(
                "its packages can't be laid out on this worker's disk; its log says more\n"
                    .to_owned(),
            )
        })
}

/// Keeps the lock of `set`, which answers what `wanted` asks, for a restart.
///
/// Not for a version that was replaced or deleted while its packages were being installed: its lock would replace its successor's.
pub(crate) async fn keep(
    packages: &Arc<Packages>,
    name: &FunctionName,
    wanted: &Requirements,
    set: &PackageSet,
) -> Result<(), Failure> {
    if !set.is_new {
        return Ok(());
    }
    let (question, lock) = (packages.question(wanted), Arc::clone(set.lock()));
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
