//! Sandboxes for the installers of packages: `ol_install` says what runs in them, and this module makes them.
//!
//! An installer is an instance like a function's, but without a function: made, limited, logged and ended in the same way.

use crate::call::{CallError, call};
use crate::instances::Instances;
use crate::invocation::{Invocation, InvocationId, Source};
use crate::invoke::{Answer, AnswerBody, InvokeError};
use crate::phases::Phases;
use crate::resources::Resources;
use crate::version::Version;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ol_install::{Blueprint, Cause, Installer, Pending, Program, Reply, Trouble, Workshop};
use ol_model::FunctionName;
use ol_sandbox::Network;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Makes sandboxes for installers.
pub(crate) struct Installers(pub(crate) Arc<Resources>);

/// A program of installers.
struct LaidOut {
    resources: Arc<Resources>,
    version: Arc<Version>,
}

/// An installer at work; there is at most one instance.
struct AtWork(Arc<Instances>);

impl Workshop for Installers {
    fn lay_out(&self, program: &Blueprint<'_>) -> io::Result<Arc<dyn Program>> {
        let network = if program.gate {
            Network::Gate
        } else {
            Network::None
        };
        let version = Version::of_ours(
            &self.0.settings,
            program.limits.clone(),
            (network, program.sees),
            program.files,
            program.programs,
        )?;
        Ok(Arc::new(LaidOut {
            resources: Arc::clone(&self.0),
            version: Arc::new(version),
        }))
    }
}

impl Program for LaidOut {
    fn start(&self) -> io::Result<Box<dyn Installer>> {
        let (resources, version) = (Arc::clone(&self.resources), Arc::clone(&self.version));
        let instances = Instances::of_ours(name(), resources, version)?;
        Ok(Box::new(AtWork(instances)))
    }
}

impl AtWork {
    async fn call(
        &self,
        path: &str,
        body: Bytes,
        gate: &mut (dyn FnMut(TcpListener) + Send),
    ) -> Result<Answer, InvokeError> {
        let mut phases = Phases::default();
        let lease = self.0.acquire(&mut phases).await?;
        if let Some(new) = lease.instance().take_gate() {
            gate(new);
        }
        let length = body.len().to_string();
        let invocation = Invocation {
            id: InvocationId { run: 0, number: 0 },
            source: Source::Other { path },
            headers: &[("content-length", &*length)],
        };
        match call(lease, &invocation, &body, &mut None, &mut phases).await {
            Ok(answer) => Ok(answer),
            Err(CallError::Failed(error)) => Err(error),
            Err(CallError::Stale) => Err(InvokeError::Died {
                reason: "it ended while it was idle".to_owned(),
            }),
        }
    }
}

impl Installer for AtWork {
    fn order<'a>(
        &'a mut self,
        path: &'a str,
        body: Bytes,
        gate: &'a mut (dyn FnMut(TcpListener) + Send),
    ) -> Pending<'a, Result<Reply, Trouble>> {
        Box::pin(async move {
            let answer = self.call(path, body, gate).await;
            let answer = answer.map_err(|error| trouble(&error))?;
            Ok(Reply {
                status: answer.status,
                body: match answer.body {
                    AnswerBody::Whole(bytes) => Box::pin(stream::iter([Ok(bytes)])),
                    AnswerBody::Stream(parts) => {
                        Box::pin(parts.map(|part| part.map_err(|error| trouble(&error))))
                    }
                },
            })
        })
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn trouble(error: &InvokeError) -> Trouble {
    let cause = match error {
        InvokeError::TimeLimit { .. } => Cause::Time,
        InvokeError::Died { .. } | InvokeError::NoMemory(_) => Cause::Memory,
        _ => Cause::Other,
    };
    let text = error.to_string();
    Trouble { text, cause }
}

/// The name of installers in their log.
fn name() -> FunctionName {
    FunctionName::parse("installer").expect("letters make a name")
}
