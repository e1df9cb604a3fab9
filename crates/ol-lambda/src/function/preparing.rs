//! A version on its way into service: unpacked, and its packages got, in a task of its own. Who asks for it waits here, or goes on
//! with the version before.
//!
//! ```text
//!   call or upload ──begin──▶ Working ──▶ Done(Ok): in service
//!                               │            └─ Done(Err): the version before stays
//!                               └─ another bundle came meanwhile: what comes of this one is dropped
//! ```

use super::version::PrepareError;
use crate::registry::Stamp;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a call waits for the new version when it could have the one before: what is at hand is there by then.
pub(super) const HURRY: Duration = Duration::from_secs(2);

/// How far it has come.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// What is being done, in words.
    Working(String),
    /// It is in service, or why it can't be.
    Done(Result<(), PrepareError>),
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
        let (progress, _) = watch::channel(Progress::Working("unpacking".to_owned()));
        Self {
            stamp,
            begun: Instant::now(),
            progress,
        }
    }

    /// Says what is being done now.
    pub(crate) fn says(&self, what: String) {
        self.progress.send_replace(Progress::Working(what));
    }

    pub(super) fn done(&self, result: Result<(), PrepareError>) {
        self.progress.send_replace(Progress::Done(result));
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Done(_))
    }

    /// Waits for its end.
    pub(super) async fn outcome(&self) -> Result<(), PrepareError> {
        let mut progress = self.progress.subscribe();
        let over = progress.wait_for(|progress| matches!(progress, Progress::Done(_)));
        match over.await.as_deref() {
            Ok(Progress::Done(result)) => result.clone(),
            // We hold the sender ourselves.
            _ => Err(PrepareError::Host(
                "its preparation was given up".to_owned(),
            )),
        }
    }
}

/// Reports an end in every way that a task can have: dropped or panicking too, or those who wait would do so for ever.
pub(super) struct Reporting(pub(super) std::sync::Arc<Preparing>);

impl Drop for Reporting {
    fn drop(&mut self) {
        if !self.0.is_over() {
            self.0.done(Err(PrepareError::Host(
                "its preparation was cut short".to_owned(),
            )));
        }
    }
}
