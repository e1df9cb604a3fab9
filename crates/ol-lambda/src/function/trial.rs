//! A version is tried before it serves: a sandbox is bound to it, which runs its import and a web app's startup code.
//!
//! That sandbox then becomes the version's first instance, so nothing is done twice.
//!
//! ```text
//!   bound ────────────▶ Works: it serves, with this instance
//!   raised, died, …  ─▶ Fails: the previous version stays; where there is none, this one serves, and its calls say why
//!   no memory, or no trial asked for ─▶ Skipped: it serves, for that is not its fault
//! ```

use super::current::Function;
use super::preparing::{HURRY, PrepareError, Preparing};
use crate::instance::Instance;
use crate::instances::Demand;
use crate::invoke::InvokeError;
use crate::version::Version;
use std::sync::Arc;
use std::time::Duration;

/// How a trial went.
pub(super) enum Trial {
    Works(Arc<Instance>),
    /// The error, as a call would be told it.
    Fails(InvokeError),
    /// No trial was asked for, or it could not be made, and then why.
    Skipped(Option<String>),
}

impl Function {
    /// Tries `version`, unless it is no longer wanted.
    pub(super) async fn try_out(
        &self,
        version: &Arc<Version>,
        preparing: &Preparing,
    ) -> Result<Trial, PrepareError> {
        // Without a version that works there is nothing to protect, and calls wait for memory themselves.
        let patience = if self.works() {
            self.common.resources.settings.queue_wait
        } else {
            Duration::ZERO
        };
        let trying = self
            .instances
            .start_one(Arc::clone(version), Demand::Trial { patience });
        tokio::pin!(trying);
        let tried = tokio::select! {
            biased;
            given_up = preparing.outcome() => {
                return Err(given_up.err().unwrap_or(PrepareError::Superseded));
            }
            tried = &mut trying => tried,
            // A longer wait must be explained: report it as a step of its own.
            () = tokio::time::sleep(HURRY) => {
                preparing.says("starting it".to_owned());
                tokio::select! {
                    biased;
                    given_up = preparing.outcome() => {
                        return Err(given_up.err().unwrap_or(PrepareError::Superseded));
                    }
                    tried = trying => tried,
                }
            }
        };
        match tried {
            Ok(Some(instance)) => Ok(Trial::Works(instance)),
            Ok(None) => Ok(Trial::Skipped(None)),
            Err(InvokeError::NoMemory(why)) => Ok(Trial::Skipped(Some(why))),
            Err(
                error @ (InvokeError::Internal(_) | InvokeError::Ending | InvokeError::Draining),
            ) => {
                if self.works() {
                    Err(PrepareError::host(error.to_string()))
                } else {
                    Ok(Trial::Skipped(Some(error.to_string())))
                }
            }
            Err(error) => Ok(Trial::Fails(error)),
        }
    }
}
