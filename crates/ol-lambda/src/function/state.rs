//! What a function is now, for its owner: the configuration that serves, the packages that it has, and how far a newer version is.

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
    /// By its `ol.yaml`.
    pub config: FunctionConfig,
    /// What it was granted.
    pub limits: Limits,
    /// Its lock, in the form that is documented for locks; `None` if it asks for no packages.
    pub lock: Option<serde_json::Value>,
}

/// How far the newest version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// It serves.
    Ready,
    /// It serves, and was not tried before; why not.
    Untried(String),
    /// It is being made.
    Preparing {
        /// Grows with every step.
        number: u64,
        /// What is being done, in words.
        step: String,
    },
    /// It can't be used; why, for its owner.
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
    /// What it is now. A bundle that is new in the registry begins to be prepared, but its packages aren't waited for.
    pub(crate) async fn state(self: &Arc<Self>) -> Result<FunctionState, InvokeError> {
        let mut broken = None;
        match self.look().await? {
            Looked::There(_) => {}
            Looked::Broken(error) => broken = Some(error),
            // What needs no packages is there in a moment.
            Looked::Coming(preparing) => drop(timeout(HURRY, preparing.past(0)).await),
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
            // Deleted in the same moment.
            return Err(InvokeError::NotFound(self.name.clone()));
        }
        Ok(FunctionState {
            serving,
            preparation,
        })
    }

    /// What of it is the owner's affair; the rest is an error, unless a version serves.
    fn failed_with(&self, error: PrepareError) -> Result<Preparation, InvokeError> {
        if let Some(why) = error.for_owner() {
            return Ok(Preparation::Failed(why));
        }
        self.version_before(error).map(|_| {
            Preparation::Failed("its code can't be fetched; the worker's log says why\n".to_owned())
        })
    }

    /// Waits until a preparation that is at step `seen`, or before it, goes on or ends. At once if there is none.
    pub(crate) async fn moves_on(&self, seen: u64, patience: Duration) {
        let preparing = self.preparing().clone();
        if let Some(preparing) = preparing {
            let _ = timeout(patience, preparing.past(seen)).await;
        }
    }
}
