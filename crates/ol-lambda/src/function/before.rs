//! What served before an upload is kept until the new version works, so that a worker which is started meanwhile, or after a
//! version that can't be started, still has it.

use super::attempt::Made;
use super::current::Function;
use super::preparing::Preparing;
use super::trial::Trial;
use crate::registry::Bundle;
use std::sync::Arc;

impl Function {
    /// A bundle is about to take the place of the stored one. To be called by who changes the registry.
    pub(super) async fn keep_before(&self) {
        let registry = &self.common.registry;
        let stored = registry.look(&self.name).await.ok().flatten();
        let done = match self.working_stamp() {
            Some(stamp) if stored.as_ref() == Some(&stamp) => {
                registry.keep_before(&self.name).await
            }
            // What lies there doesn't serve; what does was kept when it was replaced, if at all.
            Some(_) => Ok(()),
            None => registry.forget_before(&self.name).await,
        };
        if let Err(error) = done {
            let name = &self.name;
            tracing::warn!("{name}: a restart won't know the version before the next: {error}");
        }
    }

    /// The newest version works: what was kept is of no more use, unless another upload has begun.
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

    /// A version of what was kept, if that can be started. For a worker in which nothing works.
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
