//! The function that an event is for, as it is when the event comes.
//!
//! Between finding it and calling it, the event's source does what only the source can: it decides whether the function may be called in
//! this way, and provides the body.

use crate::call::{CallError, Rest, call};
use crate::function::{Common, Function};
use crate::invocation::{Body, Invocation, InvocationId};
use crate::invoke::{Answer, InvokeError};
use crate::phases::Phases;
use crate::resources::Resources;
use crate::version::Version;
use bytes::Bytes;
use futures_util::StreamExt;
use ol_model::{ErrorDetail, FunctionConfig, steps};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How often a call is tried again when its instance turns out to have died while idle.
const TRIES: usize = 3;

/// How long to wait for the first part of a streamed body before the call begins without it.
const FIRST_PART: Duration = Duration::from_millis(20);

/// A function with a version to call, from [`crate::Lambdas::target`].
pub struct Target<'a> {
    pub(crate) common: &'a Common,
    /// The worker takes no new calls.
    pub(crate) draining: &'a AtomicBool,
    pub(crate) function: Arc<Function>,
    pub(crate) version: Arc<Version>,
    /// How long the look at the registry took, if there was one.
    pub(crate) looked: Option<Duration>,
}

impl Target<'_> {
    /// The `ol.yaml` of the version to call; it tells a source how the function may be called.
    #[must_use]
    pub fn config(&self) -> &FunctionConfig {
        &self.version.config
    }

    /// Would a call be accepted now? Lets a source avoid receiving a body in vain; the call itself may still be refused later.
    ///
    /// # Errors
    /// Those of [`Self::invoke`] that need no body.
    pub fn has_room(&self, invocation: &Invocation<'_>) -> Result<(), InvokeError> {
        let room = self.function.instances.has_room();
        room.map_err(|error| told(&self.common.resources, &self.function, invocation.id, error))
    }

    /// Calls the function, and notes in `phases` where the time goes.
    ///
    /// Dropping the future gives up: a waiting call leaves the queue; a running call finishes, and its answer is discarded.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn invoke(
        self,
        invocation: &Invocation<'_>,
        body: Body,
        phases: &mut Phases,
    ) -> Result<Answer, InvokeError> {
        let _flight = self.common.in_flight.begin();
        // The body may have taken long to arrive.
        if self.draining.load(Ordering::Acquire) {
            return Err(InvokeError::Draining);
        }
        let Self {
            common,
            function,
            version,
            looked,
            ..
        } = self;
        if let Some(looked) = looked {
            phases.looked(looked);
        }
        if let Some(packages) = version.packages.get() {
            packages.used(&common.packages.settings().store);
        }
        // A version's directory goes with its last user, and by the time an instance is free another version may serve.
        drop(version);
        let answered = answer(&function, invocation, body, phases, looked).await;
        answered.map_err(|error| told(&common.resources, &function, invocation.id, error))
    }
}

async fn answer(
    function: &Function,
    invocation: &Invocation<'_>,
    body: Body,
    phases: &mut Phases,
    looked: Option<Duration>,
) -> Result<Answer, InvokeError> {
    let begun = Instant::now();
    let instances = &function.instances;
    let (first, mut rest) = beginning(body).await?;
    for _ in 0..TRIES {
        let lease = instances
            .acquire(phases)
            .await
            .inspect_err(|error| instances.note(invocation.id, error))?;
        match call(lease, invocation, &first, &mut rest, phases).await {
            Ok(answer) => {
                steps::INVOKE.record(begun.elapsed() + looked.unwrap_or_default());
                return Ok(answer);
            }
            Err(CallError::Failed(error)) => {
                instances.note(invocation.id, &error);
                return Err(error);
            }
            Err(CallError::Stale) => {}
        }
    }
    Err(InvokeError::Died {
        reason: "its instances end as soon as they are idle".to_owned(),
    })
}

/// Splits a body into its first part, which travels with the call itself, and the rest.
async fn beginning(body: Body) -> Result<(Bytes, Option<Rest>), InvokeError> {
    match body {
        Body::Whole(bytes) => Ok((bytes, None)),
        Body::Stream(mut stream) => match timeout(FIRST_PART, stream.next()).await {
            Ok(None) => Ok((Bytes::new(), None)),
            Ok(Some(first)) => Ok((first?, Some(stream))),
            // A web app may want to answer before its caller has sent anything.
            Err(_elapsed) => Ok((Bytes::new(), Some(stream))),
        },
    }
}

/// `error` as callers of `function` are told it: in full, or as a hint to the function's log under the invocation `id`.
pub(crate) fn told(
    resources: &Resources,
    function: &Function,
    id: InvocationId,
    error: InvokeError,
) -> InvokeError {
    let version = function.known_version();
    let detail = version.and_then(|version| version.config.errors);
    let detail = detail.unwrap_or(resources.settings.errors);
    if detail == ErrorDetail::Full {
        return error;
    }
    let why = format!("its log says why, under invocation {id}\n");
    match error {
        InvokeError::Raised(_) => {
            InvokeError::Raised(format!("the function raised an error: {why}"))
        }
        InvokeError::CannotStart(_) => {
            InvokeError::CannotStart(format!("the function can't be started: {why}"))
        }
        InvokeError::BadAnswer(_) => {
            InvokeError::BadAnswer(format!("the function's answer can't be sent: {why}"))
        }
        InvokeError::BadBundle { name, .. } | InvokeError::NoPackages { name, .. } => {
            InvokeError::CannotStart(format!("{name} can't be used: its owner is told why\n"))
        }
        other => other,
    }
}
