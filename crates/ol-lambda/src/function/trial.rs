//! A version is tried before it serves: a sandbox is bound to it, which runs its import and a web app's startup. That sandbox is then
//! its first instance, so nothing is done twice.
//!
//! ```text
//!   bound ────────────▶ Works: it serves, with this instance
//!   raised, died, …  ─▶ Fails: the version before stays; where there is none, it serves, and its calls say why
//!   no memory, or none asked for ─▶ Skipped: it serves, for that is not its fault
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
    /// Why, as a call would be told.
    Fails(InvokeError),
    /// It was not to be tried, or could not be, and then why.
    Skipped(Option<String>),
}

impl Function {
    /// Tries `version`, unless nobody wants it any more.
    pub(super) async fn try_out(
        &self,
        version: &Arc<Version>,
        preparing: &Preparing,
    ) -> Result<Trial, PrepareError> {
        // Where nothing works there is nothing to protect, and the calls themselves wait for memory.
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
            // Nobody waits for more than that without being told what for.
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
