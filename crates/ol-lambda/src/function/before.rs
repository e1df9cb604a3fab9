//! Keeps the version that served before an upload until the new one works.
//!
//! Thus a worker that is started meanwhile, or whose newest version can't be started, still has a version that works.

use super::attempt::Made;
use super::current::Function;
use super::preparing::Preparing;
use super::trial::Trial;
use crate::registry::Bundle;
use std::sync::Arc;

impl Function {
    /// Keeps the stored bundle, which is about to be replaced. To be called by whatever changes the registry.
    pub(super) async fn keep_before(&self) {
        let registry = &self.common.registry;
        let stored = registry.look(&self.name).await.ok().flatten();
        let done = match self.working_stamp() {
            Some(stamp) if stored.as_ref() == Some(&stamp) => {
                registry.keep_before(&self.name).await
            }
            // The stored bundle doesn't serve; the one that serves was kept when it was replaced, if at all.
            Some(_) => Ok(()),
            None => registry.forget_before(&self.name).await,
        };
        if let Err(error) = done {
            let name = &self.name;
            tracing::warn!("{name}: a restart won't know the version before the next: {error}");
        }
    }

    /// The newest version works: removes the kept bundle, unless another upload has begun.
    pub(super) fn forget_before(self: &Arc<Self>) {
        let function = Arc::clone(self);
        tokio::spawn(async move {
            let _once = function.changing.lock().await;
            if function.preparing().is_some() {
                return;
            }
            if let Err(error) = function.common.registry.forget_before(&function.name).await {
                tracing::warn!("{}: an old bundle stays: {error}", function.name);
            }
        });
    }

    /// A version made of the kept bundle, if it can be started. For a worker in which no version works.
    pub(super) async fn version_kept(&self, preparing: &Preparing) -> Option<Made> {
        let kept = self.common.registry.read_before(&self.name).await;
        let Bundle { stamp, content } = kept.ok().flatten()?;
        let version = self.make_version(content, drop).await.ok()?.0.ok()?;
        self.get_packages(&version, preparing).await.ok()?;
        let trial = self.try_out(&version, preparing).await.ok()?;
        (!matches!(trial, Trial::Fails(_))).then_some(Made {
            version,
            stamp,
            trial,
        })
    }
}
