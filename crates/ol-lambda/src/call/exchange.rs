//! The call in flight: sent, answered, ended.
//!
//! However an exchange ends, its instance is given back only when the guest is done with the call, or destroyed.

use super::answer::{parts, refused};
use super::answer_head::{AnswerHead, Measure};
use super::clock::{Clock, Stopwatch};
use super::pump::{Pump, Rest};
use crate::death::describe;
use crate::guest::channel::Conversation;
use crate::guest::frame::{CHUNK, HEADER, sections};
use crate::guest::{ChannelError, Frame, Kind, head};
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

/// The most that any kernel's default takes into an empty Unix socket without a reader, with room to spare.
const FITS_A_SOCKET: usize = 32 << 10;

/// How an attempt to call ended without an answer.
pub(crate) enum CallError {
    /// The instance was dead before it took the call: nothing ran, another may be tried.
    Stale,
    /// As the caller is to be told.
    Failed(InvokeError),
}

/// A call in flight. Dropped before its end, it is cancelled, and read to its end in the background: its instance may serve
/// others only then.
pub(super) struct Exchange {
    lease: Option<Lease>,
    /// `None` once the last frame was read.
    conversation: Option<Conversation>,
    /// Sends the rest of a long request.
    pump: Option<Pump>,
    pub(super) clock: Clock,
    /// Its caller is gone.
    alone: bool,
    /// By its last frame, processes that a call started are still there.
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
    // Not asked of the lease, which is gone if the call failed.
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
            let nothing = [&[][..], &[], &[]];
            // A guest that is gone is noticed when it is read.
            let _ = instance
                .channel
                .send(Kind::Cancel, (true, false), id, nothing)
                .await;
        }
    };
    let limit = instance.version.limits.runtime;
    if timeout(limit, telling).await.is_err() {
        // It doesn't even read.
        instance.doom();
    }
}

/// Stops `pump`, then gives the instance back; ends a guest that doesn't even read.
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
    /// It may have reached it all the same.
    Lost,
    Limit,
}

/// Sends the first frame and makes the guest run. A small frame goes first: it waits in the socket, and the guest wakes
/// once, to find it, instead of twice. Nothing ran if this fails. Says how long thawing took, if it was frozen.
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
            let parts = [&length[..], &head, &part];
            instance
                .channel
                .send(Kind::Call, (whole, false), id, parts)
                .await
        }
    };
    let mut sending = Box::pin(sending);
    let sent = match futures_util::poll!(&mut sending) {
        std::task::Poll::Ready(sent) => sent,
        // A caller who leaves now must not cut the frame: a task of its own finishes it.
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
        // It ran for others all the time, and may have begun.
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

    /// The next frame. The exchange is over after an error; after a last frame that is as it should be, the caller ends it.
    async fn next(&mut self) -> Result<Frame, InvokeError> {
        let (Some(lease), Some(conversation)) = (&mut self.lease, &mut self.conversation) else {
            return Err(InvokeError::Internal("a call was read past its end"));
        };
        let received = loop {
            let end = self.clock.end();
            let receive = lease.instance().channel.next(conversation);
            match timeout_at(end, receive).await {
                // The caller's slowness may have put it off meanwhile.
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
            Kind::Result | Kind::Body | Kind::Fault => Ok(frame),
            _ => Err(self.out_of_order()),
        }
    }

    /// Turns the first frame into an answer.
    fn answer(mut self, frame: Frame, invocation: &Invocation<'_>) -> Result<Answer, InvokeError> {
        match frame.kind {
            Kind::Result => {
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
                    // The frame itself is sound, so what follows it, and other calls, can be told apart.
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
            Kind::Fault => Err(self.fault(frame)),
            _ => Err(self.out_of_order()),
        }
    }

    /// Nobody wants the rest of the answer, of which a frame was read, the last if so. Tells the guest, if `cancelled`.
    fn pass_over(&mut self, last: bool, busy: bool, cancelled: bool) {
        if last {
            self.end_answer(busy);
        } else {
            self.read_to_end(cancelled);
        }
    }

    /// What a FAULT says; it ends the exchange.
    pub(super) fn fault(&mut self, frame: Frame) -> InvokeError {
        if frame.kind != Kind::Fault || frame.payload.len() < 2 || !frame.end {
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

    /// The answer is complete. The work for it may go on, and then the instance isn't free.
    pub(super) fn end_answer(&mut self, busy: bool) {
        if busy {
            self.read_to_end(false);
        } else {
            self.finish();
        }
    }

    /// Ends the exchange in order: the instance is free as soon as nothing is sent to it any more.
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

    /// Reads what is left in the background, and tells the guest, if `cancelled`, that nobody waits for it.
    fn read_to_end(&mut self, cancelled: bool) {
        let (Some(lease), Some(conversation)) = (self.lease.take(), self.conversation.take())
        else {
            return;
        };
        let instance = Arc::clone(lease.instance());
        let id = conversation.id;
        self.clock.go_on();
        // Nobody is there whose slowness could be excused.
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
            // At the same time: the guest may have to be read before it reads.
            let telling = async {
                if cancelled {
                    tell(&instance, id, stopping).await;
                }
            };
            let reading = async {
                // Errors end the exchange too; nobody is there to be told.
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
            // The worker is ending; nobody reads on.
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
