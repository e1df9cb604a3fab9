//! One installer sandbox and orders to the program in it. It has no network, or only the worker's proxy to the package index.
//!
//! It is an instance like a function's, but without a function: made, limited, logged and ended in the same way.

use super::Packages;
use super::failure::{Failure, Said};
use super::tools::Base;
use crate::call::{CallError, call};
use crate::instances::Instances;
use crate::invocation::{Invocation, InvocationId, Source};
use crate::invoke::{Answer, AnswerBody, InvokeError};
use crate::phases::Phases;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use ol_model::FunctionName;
use ol_packages::proxy::{self, Proxy};
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::{SemaphorePermit, mpsc};

/// The longest answer that isn't a tar, in bytes: enough for a lock of a thousand packages with all their hashes.
const LONGEST: usize = 16 << 20;

/// One installer sandbox at work.
pub(super) struct Job<'a> {
    instances: Arc<Instances>,
    base: Base,
    proxy: Option<Proxy>,
    /// The way to the index was taken away.
    closed: bool,
    /// The job's place among those that run at once; kept until the end.
    turn: Option<SemaphorePermit<'a>>,
}

impl<'a> Job<'a> {
    /// A job that reaches the index. Waits for its turn; the sandbox is made with the first order.
    pub(super) async fn online(packages: &'a Arc<Packages>) -> Result<Self, Failure> {
        let tools = packages.tools.get(packages).await?;
        Self::in_turn(packages, tools.online.clone()).await
    }

    /// Like [`Self::online`], but without any network.
    pub(super) async fn offline(packages: &'a Arc<Packages>) -> Result<Self, Failure> {
        let tools = packages.tools.get(packages).await?;
        Self::in_turn(packages, tools.offline.clone()).await
    }

    async fn in_turn(packages: &'a Arc<Packages>, base: Base) -> Result<Self, Failure> {
        let turn = packages.jobs.acquire().await;
        let turn = turn.map_err(|_| Failure("this worker is stopping\n".to_owned()))?;
        let mut job = Self::of(packages, base)?;
        job.turn = Some(turn);
        Ok(job)
    }

    /// A job that waits for no turn, for the very first one.
    pub(super) fn of(packages: &Arc<Packages>, base: Base) -> Result<Self, Failure> {
        let version = Arc::clone(&base.version);
        let instances = Instances::of_ours(name(), Arc::clone(&packages.resources), version)
            .map_err(|error| Failure(format!("the installer can't be started: {error}\n")))?;
        Ok(Self {
            instances,
            base,
            proxy: None,
            closed: false,
            turn: None,
        })
    }

    /// Takes the way to the index away, for good.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.proxy = None;
    }

    /// Gives an order whose answer is JSON.
    pub(super) async fn order(
        &mut self,
        path: &str,
        doing: &str,
        order: serde_json::Value,
    ) -> Result<Bytes, Failure> {
        let answer = self.send(path, doing, order).await?;
        collect(doing, answer.body).await
    }

    /// Gives an order whose answer is a tar, returned twice.
    ///
    /// Threads that may block read both copies while the returned future runs beside them. The future ends when the reader of the
    /// first copy does; the second copy may be dropped.
    pub(super) async fn order_tar(
        &mut self,
        path: &str,
        doing: &str,
        order: serde_json::Value,
    ) -> Result<([Tar; 2], impl Future<Output = ()> + use<>), Failure> {
        let answer = self.send(path, doing, order).await?;
        let (first, one) = mpsc::channel(8);
        let (second, other) = mpsc::channel(8);
        let moving = async move {
            let mut stream = match answer.body {
                AnswerBody::Whole(bytes) => {
                    let _ = tokio::join!(first.send(Ok(bytes.clone())), second.send(Ok(bytes)));
                    return;
                }
                AnswerBody::Stream(stream) => stream,
            };
            while let Some(part) = stream.next().await {
                let part = part.map_err(|error| error.to_string());
                // The first reader has seen enough; the second only follows it.
                if first.send(part.clone()).await.is_err() {
                    return;
                }
                let _ = second.send(part).await;
            }
        };
        Ok(([one, other].map(Tar::new), moving))
    }

    async fn send(
        &mut self,
        path: &str,
        doing: &str,
        order: serde_json::Value,
    ) -> Result<Answer, Failure> {
        let mut whole = self.base.order.clone();
        whole.extend(order.as_object().cloned().unwrap_or_default());
        let body = Bytes::from(serde_json::Value::Object(whole).to_string());
        let answer = self.call(path, body).await;
        let answer = answer.map_err(|error| Failure::sandbox(doing, &error))?;
        if answer.status == 200 {
            return Ok(answer);
        }
        let words = collect(doing, answer.body).await?;
        let said: Said = serde_json::from_slice(&words)
            .map_err(|_| Failure(format!("{doing}: the installer's answer makes no sense\n")))?;
        let report = self.proxy.as_ref().map(Proxy::report);
        Err(Failure::of(doing, &said, report.as_ref()))
    }

    async fn call(&mut self, path: &str, body: Bytes) -> Result<Answer, InvokeError> {
        let mut phases = Phases::default();
        let lease = self.instances.acquire(&mut phases).await?;
        // A new sandbox has a new gate.
        if let Some(gate) = lease.instance().take_gate() {
            self.proxy = (!self.closed).then(|| proxy::serve(gate, self.base.rules.clone()));
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

impl Drop for Job<'_> {
    fn drop(&mut self) {
        self.instances.end();
    }
}

async fn collect(doing: &str, body: AnswerBody) -> Result<Bytes, Failure> {
    let mut stream = match body {
        AnswerBody::Whole(bytes) => return Ok(bytes),
        AnswerBody::Stream(stream) => stream,
    };
    let mut all = BytesMut::new();
    while let Some(part) = stream.next().await {
        all.extend_from_slice(&part.map_err(|error| Failure::sandbox(doing, &error))?);
        if all.len() > LONGEST {
            return Err(Failure(format!(
                "{doing}: the installer's answer has no end\n"
            )));
        }
    }
    Ok(all.freeze())
}

/// A tar as it arrives.
pub(super) struct Tar {
    parts: mpsc::Receiver<Result<Bytes, String>>,
    part: Bytes,
}

impl Tar {
    fn new(parts: mpsc::Receiver<Result<Bytes, String>>) -> Self {
        let part = Bytes::new();
        Self { parts, part }
    }
}

impl Read for Tar {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.parts.blocking_recv() {
                None => return Ok(0),
                Some(Ok(part)) => self.part = part,
                Some(Err(error)) => return Err(io::Error::other(error)),
            }
        }
        let count = into.len().min(self.part.len());
        into[..count].copy_from_slice(&self.part.split_to(count));
        Ok(count)
    }
}

/// The name of the installer in its log.
fn name() -> FunctionName {
    FunctionName::parse("installer").expect("letters make a name")
}
