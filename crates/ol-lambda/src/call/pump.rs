//! Sends the rest of a long request while its answer is awaited, or read, elsewhere.
//!
//! It is a task of its own because a web app may answer before it has read everything, and the other way round. It is told to stop
//! rather than cancelled, so that no frame is ever cut; until it has stopped, the instance is not free.

use super::clock::Stopwatch;
use crate::guest::frame::{CHUNK, Outgoing};
use crate::guest::{ChannelError, FrameKind};
use crate::instance::Instance;
use crate::invoke::InvokeError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The rest of a request's body, as it arrives.
pub(crate) type Rest = Pin<Box<dyn Stream<Item = Result<Bytes, InvokeError>> + Send>>;

/// A handle to the task.
pub(super) struct Pump {
    task: JoinHandle<()>,
    /// Dropping it tells the task to stop.
    stop: oneshot::Sender<()>,
    broke: Option<oneshot::Receiver<InvokeError>>,
}

impl Pump {
    /// Starts to send `rest`, which follows the first `sent` bytes of call `id`. `caller` counts the time spent waiting for the client.
    pub(super) fn start(
        instance: Arc<Instance>,
        id: u32,
        sent: usize,
        rest: Rest,
        caller: Arc<Stopwatch>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (breaking, broke) = oneshot::channel();
        let task = tokio::spawn(async move {
            if let Err(Stopped::Caller(error)) =
                send(&instance, id, sent, rest, &caller, stopped).await
            {
                // The receiver is gone if the answer is over.
                let _ = breaking.send(error);
            }
        });
        Self {
            task,
            stop,
            broke: Some(broke),
        }
    }

    /// Resolves with the reason when the request broke off; never if it is sent to its end. Safe to cancel.
    pub(super) async fn broke(&mut self) -> InvokeError {
        if let Some(broke) = &mut self.broke
            && let Ok(error) = broke.await
        {
            self.broke = None;
            return error;
        }
        self.broke = None;
        std::future::pending().await
    }

    /// Has the task stopped by itself?
    pub(super) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Tells the task to stop, and waits until it has.
    pub(super) async fn stop(self) {
        drop(self.stop);
        // The task panics only because of a bug in it, and the panic was reported then.
        let _ = self.task.await;
    }
}

/// Why sending stopped before the end.
enum Stopped {
    /// The guest is gone or broke the protocol: the reader of its answer learns why.
    Guest,
    /// The request itself broke off.
    Caller(InvokeError),
    /// The call is over.
    Told,
}

async fn send(
    instance: &Instance,
    id: u32,
    sent: usize,
    mut rest: Rest,
    caller: &Stopwatch,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), Stopped> {
    let window = instance.channel.window(id, sent);
    let gone = |_: ChannelError| Stopped::Guest;
    loop {
        caller.start();
        let part = tokio::select! {
            biased;
            _ = &mut stopped => None,
            part = rest.next() => Some(part),
        };
        caller.stop();
        let Some(part) = part else {
            return Err(Stopped::Told);
        };
        let Some(part) = part else {
            let end = instance.channel.send(Outgoing::new(FrameKind::Body, id));
            return end.await.map_err(gone);
        };
        for chunk in part.map_err(Stopped::Caller)?.chunks(CHUNK) {
            tokio::select! {
                biased;
                _ = &mut stopped => return Err(Stopped::Told),
                () = window.take(chunk.len()) => {}
            }
            let body = Outgoing::new(FrameKind::Body, id).with_payload([chunk]);
            let sent = instance.channel.send(body.followed(true));
            sent.await.map_err(gone)?;
        }
    }
}
