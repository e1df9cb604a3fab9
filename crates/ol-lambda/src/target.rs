//! The function that an event is for, as it is when the event comes. Between finding it and calling it lies what only the event's source
//! knows: whether the function may be called in this way, and the body.

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

/// How long the first part of a streamed body is waited for before the call begins without it.
const FIRST_PART: Duration = Duration::from_millis(20);

/// A function with a version to call, from [`crate::Lambdas::target`].
pub struct Target<'a> {
    pub(crate) common: &'a Common,
    /// The worker takes no new calls.
    pub(crate) draining: &'a AtomicBool,
    pub(crate) function: Arc<Function>,
    pub(crate) version: Arc<Version>,
    /// How long the registry was looked at for it.
    pub(crate) looked: Option<Duration>,
}

impl Target<'_> {
    /// The `ol.yaml` of the version to call: a source finds there how it may be called.
    #[must_use]
    pub fn config(&self) -> &FunctionConfig {
        &self.version.config
    }

    /// Would a call be taken now? For a source that would wait for the body in vain. A call that is taken later may be refused all the same.
    ///
    /// # Errors
    /// Those of [`Self::invoke`] that need no body.
    pub fn has_room(&self, invocation: &Invocation<'_>) -> Result<(), InvokeError> {
        let room = self.function.instances.has_room();
        room.map_err(|error| told(&self.common.resources, &self.function, invocation.id, error))
    }

    /// Calls the function, and notes in `phases` where the time goes. Dropping the future gives up: a call in the queue leaves it, and
    /// one that runs finishes unheard.
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
        // The body may have taken long.
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
            packages.used(&common.packages.settings.store);
        }
        // Its code goes with the last who uses it, and another may serve by the time an instance is free.
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

/// The first part of a body, which travels with the call itself, and the rest.
async fn beginning(body: Body) -> Result<(Bytes, Option<Rest>), InvokeError> {
    match body {
        Body::Whole(bytes) => Ok((bytes, None)),
        Body::Stream(mut stream) => match timeout(FIRST_PART, stream.next()).await {
            Ok(None) => Ok((Bytes::new(), None)),
            Ok(Some(first)) => Ok((first?, Some(stream))),
            // A web app may have something to say before its caller has.
            Err(_elapsed) => Ok((Bytes::new(), Some(stream))),
        },
    }
}

/// `error` as callers of `function` are told it: whole, or that the function's log says why under the invocation `id`.
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
