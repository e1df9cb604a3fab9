//! What a function is now, for its owner: the serving configuration, its packages, and how far a newer version is.

use super::current::{Function, Looked};
use super::preparing::{HURRY, PrepareError, Progress};
use crate::invoke::InvokeError;
use crate::package_set::PackageSet;
use crate::version::Version;
use ol_model::{FunctionConfig, Limits};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A function as its owner sees it.
#[derive(Debug)]
pub struct FunctionState {
    /// The version in service; `None` as long as there is none.
    pub serving: Option<Serving>,
    /// How far the newest version is.
    pub preparation: Preparation,
}

/// A version in service.
#[derive(Debug)]
pub struct Serving {
    /// The configuration in its `ol.yaml`.
    pub config: FunctionConfig,
    /// The limits that the version was granted.
    pub limits: Limits,
    /// The lock in its documented form; `None` if the version asks for no packages.
    pub lock: Option<serde_json::Value>,
}

/// How far the newest version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// The newest version serves.
    Ready,
    /// The newest version serves and was not tried first; says why not.
    Untried(String),
    /// The newest version is being made.
    Preparing {
        /// Grows with every step.
        number: u64,
        /// What is being done, in words.
        step: String,
    },
    /// The newest version can't be used; says why, for the function's owner.
    Failed(String),
}

impl Serving {
    fn of(version: &Version) -> Self {
        let lock = version.packages.get().map(PackageSet::lock);
        Self {
            config: version.config.clone(),
            limits: version.limits.clone(),
            lock: lock.and_then(|lock| serde_json::from_str(&lock.to_json()).ok()),
        }
    }
}

impl Function {
    /// What the function is now. If the registry has a new bundle, an attempt begins, but its packages aren't waited for.
    pub(crate) async fn state(self: &Arc<Self>) -> Result<FunctionState, InvokeError> {
        let mut broken = None;
        match self.look().await? {
            Looked::There(_) => {}
            Looked::Broken { why, .. } => broken = Some(why),
            // A version that needs no packages is ready in a moment.
            Looked::Coming { preparing, .. } => drop(timeout(HURRY, preparing.past(0)).await),
        }
        let preparation = match self.progress() {
            Some(Progress::Working(step)) => Preparation::Preparing {
                number: step.number,
                step: step.what,
            },
            Some(Progress::Done(Err(error))) => self.failed_with(error)?,
            Some(Progress::Done(Ok(()))) | None => match (broken, self.untried()) {
                (Some(error), _) => self.failed_with(error)?,
                (None, Some(why)) => Preparation::Untried(why),
                (None, None) => Preparation::Ready,
            },
        };
        let works = self.known_version().filter(|_| self.works());
        let serving = works.as_deref().map(Serving::of);
        if serving.is_none() && preparation == Preparation::Ready {
            // The function was deleted at the same moment.
            return Err(InvokeError::NotFound(self.name.clone()));
        }
        Ok(FunctionState {
            serving,
            preparation,
        })
    }

    /// The part of `error` that concerns the function's owner; anything else is returned as an error, unless a version serves.
    fn failed_with(&self, error: PrepareError) -> Result<Preparation, InvokeError> {
        if let Some(why) = error.for_owner() {
            return Ok(Preparation::Failed(why));
        }
        if !self.serves() {
            return Err(self.without_version(error));
        }
        let why = "its code can't be fetched; the worker's log says why\n";
        Ok(Preparation::Failed(why.to_owned()))
    }

    /// Waits until an attempt at step `seen` or before goes on or ends. Returns at once if there is no attempt.
    pub(crate) async fn moves_on(&self, seen: u64, patience: Duration) {
        let preparing = self.preparing().clone();
        if let Some(preparing) = preparing {
            let _ = timeout(patience, preparing.past(seen)).await;
        }
    }
}
