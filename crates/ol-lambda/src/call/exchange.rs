//! One call in flight: sent, answered, ended.
//!
//! However an exchange ends, its instance is given back only when the guest has finished the call; otherwise it is destroyed.

use super::answer::{parts, refused};
use super::answer_head::{AnswerHead, Measure};
use super::clock::{Clock, Stopwatch};
use super::pump::{Pump, Rest};
use crate::death::describe;
use crate::guest::channel::Conversation;
use crate::guest::frame::{CHUNK, HEADER, Outgoing, sections};
use crate::guest::{ChannelError, Frame, FrameKind, head};
use crate::instance::{Instance, Lost};
use crate::instances::Lease;
use crate::invocation::Invocation;
use crate::invoke::{Answer, AnswerBody, InvokeError};
use crate::phases::Phases;
use bytes::{Buf, Bytes};
use futures_util::stream;
use ol_model::steps;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{timeout, timeout_at};

/// A frame up to this size fits into an empty Unix socket that nobody reads, by any kernel's default, with room to spare.
const FITS_A_SOCKET: usize = 32 << 10;

/// How a call ended without an answer.
pub(crate) enum CallError {
    /// The instance was dead before it took the call: nothing ran, another instance may be tried.
    Stale,
    /// An error, as the caller is to be told it.
    Failed(InvokeError),
}

/// A call in flight.
///
/// If it is dropped before its end, it is cancelled and read to its end in the background: only then may the instance serve others.
pub(super) struct Exchange {
    lease: Option<Lease>,
    /// `None` once the last frame was read.
    conversation: Option<Conversation>,
    /// Sends the rest of a long request.
    pump: Option<Pump>,
    pub(super) clock: Clock,
    /// The caller is gone.
    alone: bool,
    /// The last frame said that processes which a call started are still running.
    left: bool,
}

/// Calls the leased instance. `first` is the beginning of the body, `rest` what follows it.
pub(crate) async fn call(
    lease: Lease,
    invocation: &Invocation<'_>,
    first: &Bytes,
    rest: &mut Option<Rest>,
    phases: &mut Phases,
) -> Result<Answer, CallError> {
    let begun = tokio::time::Instant::now();
    let instance = Arc::clone(lease.instance());
    let head = if instance.about.kind.is_web() {
        head::web(&lease.instances().name, invocation)
    } else {
        let most = lease.instances().resources.settings.max_body;
        head::plain(invocation.headers, most, &instance.version.limits)
            .map_err(CallError::Failed)?
    };
    let conversation = instance.channel.open();
    let id = conversation.id;
    instance.output.begin(id, invocation.id);
    let limit = instance.version.limits.runtime;
    let ours = instance.version.ours;
    let mut exchange = Exchange {
        lease: Some(lease),
        conversation: Some(conversation),
        pump: None,
        clock: Clock::start(limit, None),
        alone: false,
        left: false,
    };
    let part = first.slice(..first.len().min(CHUNK));
    let tail = first.slice(part.len()..);
    let whole = rest.is_none() && tail.is_empty();
    match send_first(&instance, whole, id, head, part.clone(), limit).await {
        Ok(unpause) => {
            let served_by = phases.runs(unpause);
            if !ours {
                served_by.count();
            }
        }
        Err(error) => {
            exchange.give_up();
            return Err(match error {
                Unsent::Channel(ChannelError::Closed) => CallError::Stale,
                Unsent::Channel(other) => CallError::Failed(died(&other.to_string())),
                Unsent::Lost => CallError::Failed(died("it was ended for another call's sake")),
                Unsent::Limit => CallError::Failed(InvokeError::TimeLimit { limit }),
            });
        }
    }
    if !whole {
        let caller = Stopwatch::new();
        let tail: Rest = Box::pin(stream::iter((!tail.is_empty()).then_some(Ok(tail))));
        let rest: Rest = match rest.take() {
            None => tail,
            Some(rest) => Box::pin(futures_util::StreamExt::chain(tail, rest)),
        };
        exchange.clock = Clock::start(limit, Some(Arc::clone(&caller)));
        exchange.pump = Some(Pump::start(instance, id, part.len(), rest, caller));
    }
    let frame = exchange.next_of_answer().await;
    let took = begun.elapsed();
    // `lease` is gone if the call failed, thus it isn't asked here.
    if !ours {
        steps::CALL.record(took);
    }
    phases.called(took);
    let frame = frame.map_err(CallError::Failed)?;
    exchange
        .answer(frame, invocation)
        .map_err(CallError::Failed)
}

/// Tells the guest that nobody waits for `id` any more. A synchronous function that has its whole request wouldn't listen.
async fn tell(instance: &Arc<Instance>, id: u32, pump: Option<Pump>) {
    let listens = pump.is_some() || instance.about.kind.is_web();
    let telling = async {
        if let Some(pump) = pump {
            pump.stop().await;
        }
        if listens {
            // If the guest is gone, the reader notices.
            let cancel = Outgoing::new(FrameKind::Cancel, id);
            let _ = instance.channel.send(cancel).await;
        }
    };
    let limit = instance.version.limits.runtime;
    if timeout(limit, telling).await.is_err() {
        // The guest doesn't even read.
        instance.doom();
    }
}

/// Stops `pump`, then gives the instance back; destroys it if the guest doesn't even read.
async fn stop(pump: Pump, lease: Option<Lease>) {
    let Some(lease) = lease else { return };
    let limit = lease.instance().version.limits.runtime;
    if timeout(limit, pump.stop()).await.is_err() {
        lease.instance().doom();
    }
}

/// Why a call did not reach the guest.
enum Unsent {
    Channel(ChannelError),
    /// The call may have reached the guest all the same.
    Lost,
    Limit,
}

/// Sends the first frame and makes the guest run; returns how long thawing took, if it was frozen.
///
/// If this fails, nothing ran, except perhaps after [`Unsent::Lost`].
/// A small frame is sent before the thaw: it waits in the socket, and the guest wakes once, to find it, instead of twice.
async fn send_first(
    instance: &Arc<Instance>,
    whole: bool,
    id: u32,
    head: Vec<u8>,
    part: Bytes,
    limit: Duration,
) -> Result<Option<Duration>, Unsent> {
    let thaw = || {
        instance
            .thaw()
            .map_err(|Lost| Unsent::Channel(ChannelError::Closed))
    };
    let fits = HEADER + head.len() + part.len() <= FITS_A_SOCKET;
    let mut unpause = None;
    if !fits {
        unpause = thaw()?;
    }
    let sending = {
        let instance = Arc::clone(instance);
        async move {
            let length = u32::try_from(head.len())
                .expect("the head of a request is bounded in KiB")
                .to_le_bytes();
            let call = Outgoing::new(FrameKind::Call, id).with_payload([&length, &head, &part]);
            instance.channel.send(call.followed(!whole)).await
        }
    };
    let mut sending = Box::pin(sending);
    let sent = match futures_util::poll!(&mut sending) {
        std::task::Poll::Ready(sent) => sent,
        // A caller who leaves now must not cut the frame: a separate task finishes it.
        std::task::Poll::Pending => {
            if fits {
                unpause = thaw()?;
            }
            match timeout(limit, tokio::spawn(sending)).await {
                Ok(sent) => sent.unwrap_or(Err(ChannelError::Closed)),
                Err(_elapsed) => return Err(Unsent::Limit),
            }
        }
    };
    sent.map_err(Unsent::Channel)?;
    if !fits {
        return Ok(unpause);
    }
    match thaw() {
        // The guest was running for other calls all the time, and may have begun this one.
        Err(_) if instance.is_shared() => Err(Unsent::Lost),
        thawed => Ok(thawed?.or(unpause)),
    }
}

impl Exchange {
    pub(super) fn lease(&self) -> &Lease {
        self.lease
            .as_ref()
            .expect("taken only by what ends the exchange, after which nobody asks")
    }

    fn instance(&self) -> &Arc<Instance> {
        self.lease().instance()
    }

    /// The next frame. The exchange is over after an error; after a valid last frame, the caller of this function ends it.
    async fn next(&mut self) -> Result<Frame, InvokeError> {
        let (Some(lease), Some(conversation)) = (&mut self.lease, &mut self.conversation) else {
            return Err(InvokeError::Internal("a call was read past its end"));
        };
        let received = loop {
            let end = self.clock.end();
            let receive = lease.instance().channel.next(conversation);
            match timeout_at(end, receive).await {
                // The time limit may have moved because the caller was slow.
                Err(_elapsed) if self.clock.end() > tokio::time::Instant::now() => {}
                other => break other,
            }
        };
        match received {
            Ok(Ok(frame)) => {
                self.left = frame.left;
                lease.took(frame.took);
                conversation.took(&frame, |bytes| {
                    let (instance, id) = (Arc::clone(lease.instance()), frame.id);
                    async move { instance.channel.grant(id, bytes).await }
                });
                Ok(frame)
            }
            Ok(Err(ChannelError::Closed)) => Err(self.died().await),
            Ok(Err(error)) => Err(self.broken(&error.to_string())),
            Err(_elapsed) => {
                let limit = lease.instance().version.limits.runtime;
                self.give_up();
                Err(InvokeError::TimeLimit { limit })
            }
        }
    }

    /// The next frame of the answer, or why the request broke off.
    pub(super) async fn next_of_answer(&mut self) -> Result<Frame, InvokeError> {
        let frame = match self.pump.take() {
            None => self.next().await?,
            Some(mut pump) => {
                let next = tokio::select! {
                    biased;
                    frame = self.next() => frame,
                    error = pump.broke() => Err(error),
                };
                self.pump = Some(pump);
                next?
            }
        };
        match frame.kind {
            FrameKind::Result | FrameKind::Body | FrameKind::Fault => Ok(frame),
            _ => Err(self.out_of_order()),
        }
    }

    /// Turns the first frame into an answer.
    fn answer(mut self, frame: Frame, invocation: &Invocation<'_>) -> Result<Answer, InvokeError> {
        match frame.kind {
            FrameKind::Result => {
                let (last, busy) = (frame.end, frame.busy);
                let said = sections(frame.payload).map_err(|_| "its head is cut".to_owned());
                let sound = said.and_then(|(head, first)| {
                    let head = AnswerHead::parse(&head)?;
                    let mut measure = Measure::new(head.promised(invocation.source.wants_a_body()));
                    measure.take(first.len(), last)?;
                    Ok((head, first, measure))
                });
                let (head, first, measure) = match sound {
                    Ok(sound) => sound,
                    // The frame itself is sound, so later frames and other calls can still be told apart.
                    Err(why) => {
                        self.pass_over(last, busy, true);
                        return Err(refused(why));
                    }
                };
                self.clock.answered();
                let body = if head.is_bodiless() {
                    self.pass_over(last, busy, false);
                    AnswerBody::Whole(Bytes::new())
                } else if last {
                    self.end_answer(busy);
                    AnswerBody::Whole(first)
                } else {
                    AnswerBody::Stream(parts(first, self, measure, invocation.id))
                };
                Ok(Answer {
                    status: head.status,
                    headers: head.headers,
                    length: head.length,
                    json: head.json,
                    body,
                })
            }
            FrameKind::Fault => Err(self.fault(frame)),
            _ => Err(self.out_of_order()),
        }
    }

    /// Discards the rest of the answer. `last`: a last frame was read already. `cancelled`: tell the guest.
    fn pass_over(&mut self, last: bool, busy: bool, cancelled: bool) {
        if last {
            self.end_answer(busy);
        } else {
            self.read_to_end(cancelled);
        }
    }

    /// The error in a FAULT frame, which ends the exchange.
    pub(super) fn fault(&mut self, frame: Frame) -> InvokeError {
        if frame.kind != FrameKind::Fault || frame.payload.len() < 2 || !frame.end {
            return self.out_of_order();
        }
        self.finish();
        let mut payload = frame.payload;
        let status = payload.get_u16_le();
        let text = String::from_utf8_lossy(&payload).into_owned();
        match status {
            400 => InvokeError::BadRequest(text),
            413 => InvokeError::TooLargeDecoded(text),
            502 => InvokeError::BadAnswer(text),
            _ => InvokeError::Raised(text),
        }
    }

    /// The answer is complete. If `busy`, the function still works for the call, and the instance isn't free.
    pub(super) fn end_answer(&mut self, busy: bool) {
        if busy {
            self.read_to_end(false);
        } else {
            self.finish();
        }
    }

    /// Ends the exchange in order: the instance is free as soon as nothing is being sent to it any more.
    fn finish(&mut self) {
        if let (Some(lease), Some(conversation)) = (&self.lease, self.conversation.take()) {
            lease.instance().output.end(conversation.id, self.left);
            lease.instance().channel.close(conversation);
        }
        let lease = self.lease.take();
        match self.pump.take() {
            Some(pump) if !pump.is_over() => {
                tokio::spawn(stop(pump, lease));
            }
            _ => {}
        }
    }

    /// Reads the rest in the background; if `cancelled`, tells the guest that nobody waits for it.
    fn read_to_end(&mut self, cancelled: bool) {
        let (Some(lease), Some(conversation)) = (self.lease.take(), self.conversation.take())
        else {
            return;
        };
        let instance = Arc::clone(lease.instance());
        let id = conversation.id;
        self.clock.go_on();
        // The caller is gone, so no slowness can be excused.
        self.clock.answered();
        let (stopping, going_on) = match self.pump.take() {
            Some(pump) if cancelled => (Some(pump), None),
            pump => (None, pump),
        };
        let mut rest = Exchange {
            lease: Some(lease),
            conversation: Some(conversation),
            pump: going_on,
            clock: std::mem::replace(&mut self.clock, Clock::start(Duration::ZERO, None)),
            alone: true,
            left: self.left,
        };
        tokio::spawn(async move {
            // Both at the same time: the guest may read only after its answer has been read.
            let telling = async {
                if cancelled {
                    tell(&instance, id, stopping).await;
                }
            };
            let reading = async {
                // Errors end the exchange too; there is no caller to tell.
                while let Ok(frame) = rest.next().await {
                    if frame.end && !frame.busy {
                        break;
                    }
                }
            };
            tokio::join!(telling, reading);
            rest.finish();
        });
    }

    /// Ends the exchange and the sandbox with it.
    fn give_up(&mut self) {
        self.conversation = None;
        self.pump = None;
        if let Some(lease) = self.lease.take() {
            lease.instance().doom();
        }
    }

    async fn died(&mut self) -> InvokeError {
        let instance = self.instance().clone();
        let death = instance.death().await;
        let limits = instance.version.limits.clone();
        self.give_up();
        died(&describe(death, &limits))
    }

    fn broken(&mut self, how: &str) -> InvokeError {
        self.give_up();
        died(how)
    }

    fn out_of_order(&mut self) -> InvokeError {
        self.broken("it answered with a frame out of order")
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.alone {
            // The worker is ending; no task would read on.
            self.give_up();
        } else {
            self.read_to_end(true);
        }
    }
}

fn died(reason: &str) -> InvokeError {
    InvokeError::Died {
        reason: reason.to_owned(),
    }
}
