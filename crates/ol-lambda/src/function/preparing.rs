//! The progress of one attempt: its version is unpacked, gets its packages and is tried, in a task of its own.
//!
//! Calls that need the new version wait here, or go on with the previous version.
//!
//! ```text
//!   call or upload ──begin──▶ Working ──▶ Done(Ok): in service
//!                               │            └─ Done(Err): the previous version stays
//!                               └─ another bundle came meanwhile: the result of this attempt is discarded
//! ```

use crate::invoke::InvokeError;
use crate::registry::Stamp;
use crate::version::VersionError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long a call waits for the new version if the previous one works, and how long an upload waits for its result.
///
/// Usually enough if the packages are there already.
pub(super) const HURRY: Duration = Duration::from_secs(2);

/// How far the attempt is.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// It is at this step.
    Working(PreparationStep),
    /// The version is in service, or the reason why it can't be.
    Done(Result<(), PrepareError>),
}

/// Why an attempt brings no version into service.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// No version could be made of the bundle.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The version's packages can't be resolved or installed; says why, with the installer's own words.
    #[error("{0}")]
    Packages(String),
    /// The version can't be started; says why, as a call of it would be told.
    #[error("{0}")]
    Trial(InvokeError),
    /// The bundle changed again, and another attempt took the place of this one.
    #[error("another version came meanwhile")]
    Superseded,
    /// The function was deleted meanwhile.
    #[error("it was deleted")]
    Vanished,
}

impl PrepareError {
    /// This host failed; `why` is for the operator.
    pub(super) fn host(why: impl Into<String>) -> Self {
        Self::Version(VersionError::Host(why.into()))
    }

    /// What the function's owner is told of the error; `None` if the error doesn't concern the owner.
    pub(super) fn for_owner(&self) -> Option<String> {
        match self {
            Self::Version(VersionError::Bundle(why)) | Self::Packages(why) => Some(why.clone()),
            Self::Trial(error) => Some(error.to_string()),
            Self::Version(VersionError::Host(_)) | Self::Superseded | Self::Vanished => None,
        }
    }
}

/// One of the steps of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct PreparationStep {
    /// Counts from 0, the unpacking.
    pub number: u64,
    /// The step in words.
    pub what: String,
}

/// One attempt at a version.
#[derive(Debug)]
pub(crate) struct Preparing {
    /// The bundle that the version is made of.
    pub(super) stamp: Stamp,
    /// When the look at the registry began that found the bundle, or the upload of the bundle.
    pub(super) begun: Instant,
    progress: watch::Sender<Progress>,
}

impl Preparing {
    pub(super) fn new(stamp: Stamp, begun: Instant) -> Self {
        let (progress, _) = watch::channel(Progress::Working(PreparationStep {
            number: 0,
            what: "unpacking".to_owned(),
        }));
        Self {
            stamp,
            begun,
            progress,
        }
    }

    /// Reports the step that begins now.
    pub(crate) fn says(&self, what: String) {
        self.progress.send_if_modified(|progress| match progress {
            Progress::Working(step) if step.what != what => {
                step.number += 1;
                step.what = what;
                true
            }
            _ => false,
        });
    }

    /// Ends the attempt with `why`, unless it is over: its version is no longer wanted.
    pub(super) fn give_up(&self, why: PrepareError) {
        if !self.is_over() {
            self.done(Err(why));
        }
    }

    pub(super) fn done(&self, result: Result<(), PrepareError>) {
        self.progress.send_replace(Progress::Done(result));
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Is this the attempt in `slot`? If not, another has taken its place, or the function is gone.
    pub(super) fn is_in(&self, slot: &Option<Arc<Self>>) -> bool {
        slot.as_ref()
            .is_some_and(|attempt| std::ptr::eq(&raw const **attempt, self))
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Done(_))
    }

    /// Waits until the attempt is past step `number`, or over.
    pub(crate) async fn past(&self, number: u64) {
        let mut progress = self.progress.subscribe();
        let is_past = |progress: &Progress| match progress {
            Progress::Working(step) => step.number > number,
            Progress::Done(_) => true,
        };
        // An error would mean that the sender is gone, but `self` holds it.
        let _ = progress.wait_for(is_past).await;
    }

    /// Waits a moment for the end, unless packages are being got; returns how far the attempt is then.
    pub(crate) async fn soon(&self) -> Progress {
        let _ = timeout(HURRY, async {
            tokio::select! {
                _ = self.outcome() => {}
                () = self.past(0) => {}
            }
        })
        .await;
        self.progress()
    }

    /// Waits for the end of the attempt.
    pub(super) async fn outcome(&self) -> Result<(), PrepareError> {
        let mut progress = self.progress.subscribe();
        let over = progress.wait_for(|progress| matches!(progress, Progress::Done(_)));
        match over.await.as_deref() {
            Ok(Progress::Done(result)) => result.clone(),
            // Can't happen, since `self` holds the sender.
            _ => Err(PrepareError::host("its preparation was given up")),
        }
    }
}

/// Reports an end even if the task is dropped or panics; otherwise those who wait would wait for ever.
pub(super) struct Reporting(pub(super) Arc<Preparing>);

impl Drop for Reporting {
    fn drop(&mut self) {
        if !self.0.is_over() {
            self.0
                .done(Err(PrepareError::host("its preparation was cut short")));
        }
    }
}
