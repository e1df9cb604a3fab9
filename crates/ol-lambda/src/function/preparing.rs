//! A version on its way into service: unpacked, its packages got, and tried, in a task of its own. Who asks for it waits here, or goes
//! on with the version before.
//!
//! ```text
//!   call or upload ──begin──▶ Working ──▶ Done(Ok): in service
//!                               │            └─ Done(Err): the version before stays
//!                               └─ another bundle came meanwhile: what comes of this one is dropped
//! ```

use crate::invoke::InvokeError;
use crate::registry::Stamp;
use crate::version::VersionError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long a call waits for the new version when it could have the one before, and an upload for what becomes of it: what is at hand
/// is there by then.
pub(super) const HURRY: Duration = Duration::from_secs(2);

/// How far it has come.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// What is being done.
    Working(Step),
    /// It is in service, or why it can't be.
    Done(Result<(), PrepareError>),
}

/// Why an attempt brings no version into service.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// There is no version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Its packages can't be had; why, with the installer's own words.
    #[error("{0}")]
    Packages(String),
    /// It can't be started; why, as a call of it would be told.
    #[error("{0}")]
    Trial(InvokeError),
    /// Its bundle changed again, and another attempt took the place of this one.
    #[error("another version came meanwhile")]
    Superseded,
    /// It was deleted meanwhile.
    #[error("it was deleted")]
    Vanished,
}

impl PrepareError {
    /// This host failed; `why` is for the operator.
    pub(super) fn host(why: impl Into<String>) -> Self {
        Self::Version(VersionError::Host(why.into()))
    }

    /// What its owner is told of it, if it is the owner's affair.
    pub(super) fn for_owner(&self) -> Option<String> {
        match self {
            Self::Version(VersionError::Bundle(why)) | Self::Packages(why) => Some(why.clone()),
            Self::Trial(error) => Some(error.to_string()),
            Self::Version(VersionError::Host(_)) | Self::Superseded | Self::Vanished => None,
        }
    }
}

/// One of the things that are done for a version.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Counts from 0, the unpacking.
    pub number: u64,
    /// It in words.
    pub what: String,
}

/// One attempt at a version.
#[derive(Debug)]
pub(crate) struct Preparing {
    /// The bundle that it is made of.
    pub(super) stamp: Stamp,
    pub(super) begun: Instant,
    progress: watch::Sender<Progress>,
}

impl Preparing {
    pub(super) fn new(stamp: Stamp) -> Self {
        let (progress, _) = watch::channel(Progress::Working(Step {
            number: 0,
            what: "unpacking".to_owned(),
        }));
        Self {
            stamp,
            begun: Instant::now(),
            progress,
        }
    }

    /// Says what is being done now.
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

    /// Ends it, unless it is over, since nobody wants its version any more.
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

    /// Is it the one in `slot`? If not, another has taken its place, or the function is gone.
    pub(super) fn is_in(&self, slot: &Option<Arc<Self>>) -> bool {
        slot.as_ref()
            .is_some_and(|attempt| std::ptr::eq(&raw const **attempt, self))
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Done(_))
    }

    /// Waits until it is past step `number`, or over.
    pub(crate) async fn past(&self, number: u64) {
        let mut progress = self.progress.subscribe();
        let is_past = |progress: &Progress| match progress {
            Progress::Working(step) => step.number > number,
            Progress::Done(_) => true,
        };
        // An error would mean that the sender is gone, which we hold ourselves.
        let _ = progress.wait_for(is_past).await;
    }

    /// Waits a moment for its end, unless packages are got for it, and says how far it is then.
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

    /// Waits for its end.
    pub(super) async fn outcome(&self) -> Result<(), PrepareError> {
        let mut progress = self.progress.subscribe();
        let over = progress.wait_for(|progress| matches!(progress, Progress::Done(_)));
        match over.await.as_deref() {
            Ok(Progress::Done(result)) => result.clone(),
            // We hold the sender ourselves.
            _ => Err(PrepareError::host("its preparation was given up")),
        }
    }
}

/// Reports an end in every way that a task can have: dropped or panicking too, or those who wait would do so for ever.
pub(super) struct Reporting(pub(super) Arc<Preparing>);

impl Drop for Reporting {
    fn drop(&mut self) {
        if !self.0.is_over() {
            self.0
                .done(Err(PrepareError::host("its preparation was cut short")));
        }
    }
}
