//! One exchange with an instance: a call sent, an answer read, all within the function's time limit.

use crate::function::Lease;
use crate::guest::channel::Conversation;
use crate::guest::frame::{CHUNK, sections};
use crate::guest::{ChannelError, Frame, Kind};
use crate::instance::{Instance, Lost};
use crate::invoke::{Answer, AnswerBody, InvokeError};
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use ol_model::{Limits, steps};
use ol_sandbox::Death;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// The most that any kernel's default takes into an empty Unix socket without a reader, with room to spare.
const FITS_A_SOCKET: usize = 32 << 10;

/// The rest of a request's body, as it arrives.
pub(crate) type Rest = Pin<Box<dyn Stream<Item = Result<Bytes, InvokeError>> + Send>>;

/// How an attempt to call ended without an answer.
pub(crate) enum CallError {
    /// The instance was dead before it took the call: nothing ran, another may be tried.
    Stale,
    /// As the caller is to be told.
    Failed(InvokeError),
}

/// The answer's body, as the function writes it.
pub struct AnswerStream {
    first: Option<Bytes>,
    exchange: Exchange,
    _watch: Watch,
}

/// Ends a sandbox at its deadline even if nobody asks for the next part of its answer: a client that doesn't read must not
/// hold an instance for ever. Its drop calls it off.
struct Watch(tokio::task::JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watch {
    fn over(instance: &Arc<Instance>, deadline: Instant) -> Self {
        let instance = Arc::downgrade(instance);
        Self(tokio::spawn(async move {
            tokio::time::sleep_until(deadline).await;
            if let Some(instance) = instance.upgrade() {
                instance.doom();
            }
        }))
    }
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerStream")
    }
}

impl AnswerStream {
    /// The next part, `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Bytes, InvokeError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        self.exchange.conversation.as_ref()?;
        Some(match self.exchange.next().await {
            Ok(frame) if frame.kind == Kind::Body => {
                if frame.end {
                    self.exchange.finish();
                }
                Ok(frame.payload)
            }
            Ok(_) => Err(self
                .exchange
                .broken("it answered with a frame out of order")),
            Err(error) => Err(error),
        })
    }
}

/// A call in flight. Dropped before its end, it is read to its end in the background, because a synchronous function
/// can't be interrupted and its instance may serve others only then.
struct Exchange {
    lease: Option<Lease>,
    /// `None` once the last frame was read.
    conversation: Option<Conversation>,
    /// When the function's time is over. `None` while the caller still sends: that is not the function's time.
    deadline: Option<Instant>,
    /// The request was not sent to its end: whoever stops now may leave a cut frame, after which the connection is of no
    /// use.
    cut: bool,
}

/// Calls the leased instance. `first` is the beginning of the body, `rest` what follows it.
pub(crate) async fn call(
    lease: Lease,
    first: &Bytes,
    rest: &mut Option<Rest>,
) -> Result<Answer, CallError> {
    let begun = std::time::Instant::now();
    let conversation = lease.instance().channel.open();
    let id = conversation.id;
    let limit = lease.instance().version.limits.runtime;
    let mut exchange = Exchange {
        lease: Some(lease),
        conversation: Some(conversation),
        deadline: None,
        cut: true,
    };
    let (head, tail) = first.split_at(first.len().min(CHUNK));
    let whole = rest.is_none() && tail.is_empty();
    if let Err(error) = exchange.send_first(whole, id, head, limit).await {
        exchange.give_up();
        return Err(match error {
            Unsent::Channel(ChannelError::Closed) => CallError::Stale,
            Unsent::Channel(other) => CallError::Failed(died(&other.to_string())),
            Unsent::Limit => CallError::Failed(InvokeError::TimeLimit { limit }),
        });
    }
    let frame = if whole {
        exchange.cut = false;
        exchange.deadline = Some(Instant::now() + limit);
        exchange.next().await
    } else {
        exchange
            .next_while_sending(id, first.slice(head.len()..), rest.take())
            .await
    };
    steps::CALL.record(begun.elapsed());
    let frame = frame.map_err(CallError::Failed)?;
    exchange.answer(frame).map_err(CallError::Failed)
}

impl Exchange {
    fn lease(&self) -> &Lease {
        self.lease
            .as_ref()
            .expect("taken only by give_up and drop, after which nobody asks")
    }

    /// The next frame. The exchange is over after an error; after a last frame that is as it should be, the caller ends it.
    async fn next(&mut self) -> Result<Frame, InvokeError> {
        let (Some(lease), Some(conversation)) = (&self.lease, &mut self.conversation) else {
            return Err(InvokeError::Internal("a call was read past its end"));
        };
        let receive = lease.instance().channel.next(conversation);
        let received = match self.deadline {
            None => Ok(receive.await),
            Some(deadline) => timeout_at(deadline, receive).await,
        };
        match received {
            Ok(Ok(frame)) => {
                if !matches!(frame.kind, Kind::Result | Kind::Body | Kind::Fault) {
                    return Err(self.broken("it answered with a frame out of order"));
                }
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

    /// Sends the rest of the body and waits for the answer at once: a function may answer before it has read all.
    async fn next_while_sending(
        &mut self,
        id: u32,
        tail: Bytes,
        rest: Option<Rest>,
    ) -> Result<Frame, InvokeError> {
        let instance = self.lease().instance().clone();
        let limit = instance.version.limits.runtime;
        // A part that the guest doesn't take within its time limit is as bad as an answer that doesn't come.
        let send = async |part: &Bytes, end: bool| match timeout(
            limit,
            instance.channel.send_body(id, part, end),
        )
        .await
        {
            Ok(sent) => sent.map_err(|error| SendError::Guest(Unsent::Channel(error))),
            Err(_elapsed) => Err(SendError::Guest(Unsent::Limit)),
        };
        let sending = async {
            let Some(mut rest) = rest else {
                return send(&tail, true).await;
            };
            send(&tail, false).await?;
            while let Some(part) = rest.next().await {
                send(&part.map_err(SendError::Caller)?, false).await?;
            }
            send(&Bytes::new(), true).await
        };
        tokio::pin!(sending);
        let sent = tokio::select! {
            // An answer before the whole request: the rest stays unsent, and so the instance ends with this call.
            frame = self.next() => {
                self.deadline = Some(Instant::now() + limit);
                return frame;
            }
            sent = &mut sending => sent,
        };
        self.cut = false;
        self.deadline = Some(Instant::now() + limit);
        match sent {
            Err(SendError::Caller(error)) => {
                // The request broke off: tell the guest to forget it. It holds no part of an answer yet.
                let cancel =
                    instance
                        .channel
                        .send(Kind::Cancel, (true, false), id, [&[], &[], &[]]);
                match timeout(limit, cancel).await {
                    Ok(Ok(())) => self.finish(),
                    _ => self.give_up(),
                }
                Err(error)
            }
            Err(SendError::Guest(Unsent::Limit)) => {
                self.give_up();
                Err(InvokeError::TimeLimit { limit })
            }
            // A channel that broke while sending tells why when it is read.
            Ok(()) | Err(SendError::Guest(Unsent::Channel(_))) => self.next().await,
        }
    }

    /// Turns the first frame into an answer.
    fn answer(mut self, frame: Frame) -> Result<Answer, InvokeError> {
        match frame.kind {
            Kind::Result => {
                let Ok((head, first)) = sections(frame.payload) else {
                    return Err(self.broken("its answer is cut"));
                };
                let Ok((status, headers)) = parse_head(&head) else {
                    return Err(self.broken("the head of its answer can't be read"));
                };
                let body = if frame.end {
                    self.finish();
                    AnswerBody::Whole(first)
                } else {
                    let limit = self.lease().instance().version.limits.runtime;
                    let deadline = self.deadline.unwrap_or_else(|| Instant::now() + limit);
                    AnswerBody::Stream(AnswerStream {
                        first: Some(first),
                        _watch: Watch::over(self.lease().instance(), deadline),
                        exchange: self,
                    })
                };
                Ok(Answer {
                    status,
                    headers,
                    body,
                })
            }
            Kind::Fault if frame.payload.len() >= 2 && frame.end => {
                self.finish();
                let mut payload = frame.payload;
                let status = payload.get_u16_le();
                let text = String::from_utf8_lossy(&payload).into_owned();
                Err(if status == 400 {
                    InvokeError::BadRequest(text)
                } else {
                    InvokeError::Raised(text)
                })
            }
            _ => Err(self.broken("it answered with a frame out of order")),
        }
    }

    /// Sends the first frame and makes the guest run. A small frame goes first: it waits in the socket, and the guest wakes
    /// once, to find it, instead of twice. Nothing ran if this fails.
    async fn send_first(
        &self,
        whole: bool,
        id: u32,
        head: &[u8],
        limit: Duration,
    ) -> Result<(), Unsent> {
        let instance = self.lease().instance();
        let thaw = || {
            instance
                .thaw()
                .map_err(|Lost| Unsent::Channel(ChannelError::Closed))
        };
        let fits = head.len() <= FITS_A_SOCKET;
        if !fits {
            thaw()?;
        }
        let frame = instance
            .channel
            .send(Kind::Call, (whole, false), id, [&[0; 4], head, &[]]);
        match timeout(limit, frame).await {
            Ok(sent) => sent.map_err(Unsent::Channel)?,
            Err(_elapsed) => return Err(Unsent::Limit),
        }
        if fits { thaw() } else { Ok(()) }
    }

    /// Ends the exchange in order: the instance is free.
    fn finish(&mut self) {
        if self.cut {
            return self.give_up();
        }
        if let (Some(lease), Some(conversation)) = (&self.lease, self.conversation.take()) {
            lease.instance().channel.close(conversation);
        }
        self.lease = None;
    }

    /// Ends the exchange and the sandbox with it.
    fn give_up(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.instance().doom();
        }
        self.conversation = None;
    }

    async fn died(&mut self) -> InvokeError {
        let instance = self.lease().instance().clone();
        let death = instance.death().await;
        let limits = instance.version.limits.clone();
        self.give_up();
        died(&describe(death, &limits))
    }

    fn broken(&mut self, how: &str) -> InvokeError {
        self.give_up();
        died(how)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (Some(lease), Some(conversation)) = (self.lease.take(), self.conversation.take())
        else {
            return;
        };
        if self.cut {
            return lease.instance().doom();
        }
        let deadline = self.deadline;
        tokio::spawn(async move {
            let mut rest = Exchange {
                lease: Some(lease),
                conversation: Some(conversation),
                deadline,
                cut: false,
            };
            while rest.conversation.is_some() {
                // Errors end the exchange too; nobody is there to be told.
                if rest.next().await.is_ok_and(|frame| frame.end) {
                    rest.finish();
                }
            }
        });
    }
}

/// Why a frame did not reach the guest.
enum Unsent {
    Channel(ChannelError),
    Limit,
}

/// Why a request was not sent to its end.
enum SendError {
    Caller(InvokeError),
    Guest(Unsent),
}

fn died(reason: &str) -> InvokeError {
    InvokeError::Died {
        reason: reason.to_owned(),
    }
}

/// A death in words for the caller.
pub(crate) fn describe(death: Option<Death>, limits: &Limits) -> String {
    match death {
        None => "it closed its connection".to_owned(),
        Some(death) if death.out_of_memory() => {
            format!(
                "{death} (limits.mem_mb is {}; files in /tmp count)",
                limits.mem.0
            )
        }
        Some(death) => death.to_string(),
    }
}

/// Header lines that an answer may have.
const MOST_HEADERS: usize = 100;

/// The head of an answer is not JSON of the right shape, or not a final HTTP answer.
struct Malformed;

/// Status and headers of an answer; an empty head means 200.
fn parse_head(head: &[u8]) -> Result<(u16, Vec<(String, String)>), Malformed> {
    #[derive(serde::Deserialize)]
    struct Head {
        status: u16,
        headers: Vec<(String, String)>,
    }
    if head.is_empty() {
        return Ok((200, Vec::new()));
    }
    let head: Head = serde_json::from_slice(head).map_err(|_| Malformed)?;
    let sound = (200..=999).contains(&head.status) && head.headers.len() <= MOST_HEADERS;
    if sound {
        Ok((head.status, head.headers))
    } else {
        Err(Malformed)
    }
}
