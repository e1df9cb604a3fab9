//! One installer sandbox and orders to the program in it. It has no network, or only the worker's proxy to the package index.

use super::failure::{Failure, Said};
use super::workshop::{Installer, Program, Reply, Trouble};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use ol_packages::proxy::{self, Proxy, ProxyRules};
use serde_json::{Map, Value};
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

/// The longest answer that isn't a tar, in bytes: enough for a lock of a thousand packages with all their hashes.
const LONGEST: usize = 16 << 20;

/// What an installer sandbox is made from, and the constant part of every order to it.
#[derive(Clone)]
pub(super) struct Base {
    pub program: Arc<dyn Program>,
    /// The part of each order that is always the same. If the sandbox reaches the index, it may hold passwords.
    pub order: Map<String, Value>,
    pub rules: ProxyRules,
}

/// One installer sandbox at work.
pub(super) struct Job<'a> {
    installer: Box<dyn Installer>,
    base: Base,
    proxy: Option<Proxy>,
    /// The way to the index was taken away.
    closed: bool,
    /// The job's place among those that run at once; kept until the end.
    turn: Option<SemaphorePermit<'a>>,
}

impl<'a> Job<'a> {
    /// A job made from `base`. Waits for its turn among those of `jobs`; the sandbox is made with the first order.
    pub(super) async fn in_turn(jobs: &'a Semaphore, base: Base) -> Result<Self, Failure> {
        let turn = jobs.acquire().await;
        let turn = turn.map_err(|_| Failure("this worker is stopping\n".to_owned()))?;
        let mut job = Self::of(base)?;
        job.turn = Some(turn);
        Ok(job)
    }

    /// A job that waits for no turn, for the very first one.
    pub(super) fn of(base: Base) -> Result<Self, Failure> {
        let installer = base.program.start();
        let installer = installer
            .map_err(|error| Failure(format!("the installer can't be started: {error}\n")))?;
        Ok(Self {
            installer,
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
            let mut body = answer.body;
            while let Some(part) = body.next().await {
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
    ) -> Result<Reply, Failure> {
        let mut whole = self.base.order.clone();
        whole.extend(order.as_object().cloned().unwrap_or_default());
        let body = Bytes::from(serde_json::Value::Object(whole).to_string());
        let (proxy, closed, rules) = (&mut self.proxy, self.closed, &self.base.rules);
        // A new sandbox has a new gate.
        let mut gate = |gate| *proxy = (!closed).then(|| proxy::serve(gate, rules.clone()));
        let answer = self.installer.order(path, body, &mut gate).await;
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
}

async fn collect(
    doing: &str,
    mut body: impl Stream<Item = Result<Bytes, Trouble>> + Unpin,
) -> Result<Bytes, Failure> {
    let mut all = BytesMut::new();
    while let Some(part) = body.next().await {
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
