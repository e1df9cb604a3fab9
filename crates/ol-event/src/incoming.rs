//! A request's body: awaited whole if it is small, else passed on as it arrives.
//!
//! A client that sends too slowly is cut off on every route, because it may hold an instance, a file or a connection meanwhile.

use crate::exchange::Exchange;
use bytes::Bytes;
use futures_util::{StreamExt, poll};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyDataStream, BodyExt};
use hyper::body::Incoming;
use ol_lambda::{Body, InvokeError};
use ol_model::MiB;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// Bodies announced up to this size are awaited and sent in one piece, which is quicker than streaming them.
const SMALL: u64 = 64 << 10;

/// How long a client may send nothing before its body has ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes per second that a client has to send on average, over the time beyond [`PATIENCE`] for which the worker waited for it.
const LEAST_RATE: f64 = 16384.0;

/// Why a body didn't arrive whole.
#[derive(Debug)]
pub(crate) enum BodyError {
    TooSlow,
    BrokeOff(hyper::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSlow => write!(
                f,
                "the request body stopped for {PATIENCE:?}, or comes at less than {LEAST_RATE} bytes a second: send it faster"
            ),
            Self::BrokeOff(error) => write!(f, "the request body broke off: {error}"),
        }
    }
}

impl Error for BodyError {}

impl From<BodyError> for InvokeError {
    fn from(error: BodyError) -> Self {
        Self::BadRequest(error.to_string())
    }
}

/// A request's body. If it is dropped before its end, the connection's [`Exchange`] gets the rest.
pub(crate) struct RequestBody {
    /// `None` once the body has ended or broken off.
    body: Option<Incoming>,
    /// The client waits for `100 Continue` before it sends the body.
    expects: bool,
    exchange: Arc<Exchange>,
    received: u64,
    /// How long the worker has waited for the client, in all.
    waited: Duration,
    /// While the worker waits for the client: since when, and the timer that ends the wait.
    waits: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl RequestBody {
    /// `body` is `None` for a request without a body.
    pub(crate) fn new(body: Option<Incoming>, expects: bool, exchange: Arc<Exchange>) -> Self {
        Self {
            body,
            expects,
            exchange,
            received: 0,
            waited: Duration::ZERO,
            waits: None,
        }
    }

    fn is_over(&mut self) {
        self.body = None;
        self.exchange.ended();
    }

    fn came(&mut self, frame: &Frame<Bytes>) -> Result<(), BodyError> {
        if let Some((since, _)) = self.waits.take() {
            self.waited += since.elapsed();
        }
        if self.expects {
            self.exchange.gives_leave();
        }
        self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
        if let Some(body) = &self.body {
            if body.is_end_stream() {
                self.is_over();
            } else {
                self.exchange.is_to_come(body.size_hint().upper());
            }
        }
        if keeps_up(self.received, self.waited) {
            Ok(())
        } else {
            self.exchange.broke();
            Err(BodyError::TooSlow)
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let kept_up = self.came(&frame);
                Poll::Ready(Some(kept_up.map(|()| frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.exchange.broke();
                self.is_over();
                Poll::Ready(Some(Err(BodyError::BrokeOff(error))))
            }
            Poll::Ready(None) => {
                self.is_over();
                Poll::Ready(None)
            }
            Poll::Pending => {
                self.exchange.gives_leave();
                let waits = self
                    .waits
                    .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(PATIENCE))));
                match waits.1.as_mut().poll(context) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        self.exchange.broke();
                        Poll::Ready(Some(Err(BodyError::TooSlow)))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            self.exchange.give_up(body);
        }
    }
}

/// Is `body` announced to hold at most `max`?
pub(crate) fn fits(body: &RequestBody, max: MiB) -> Result<(), InvokeError> {
    if body.size_hint().lower() > max.bytes() {
        return Err(InvokeError::TooLarge { limit_mb: max.0 });
    }
    Ok(())
}

/// Takes `body`, which may hold `max`. Before waiting for the client, `look` checks whether the call could be served at all.
pub(crate) async fn take(
    body: RequestBody,
    max: MiB,
    look: impl FnOnce() -> Result<(), InvokeError>,
) -> Result<Body, InvokeError> {
    let announced = body.size_hint();
    if body.is_end_stream() {
        return Ok(Body::Whole(Bytes::new()));
    }
    if announced.upper().is_some_and(|size| size <= SMALL) {
        let expects = body.expects;
        let mut whole = pin!(body.collect());
        // Mostly the body arrived with the head; then the call itself finds out soonest whether it can be served.
        if !expects && let Poll::Ready(whole) = poll!(&mut whole) {
            return Ok(Body::Whole(whole?.to_bytes()));
        }
        look()?;
        return Ok(Body::Whole(whole.await?.to_bytes()));
    }
    look()?;
    let parts = Parts {
        body: BodyDataStream::new(body),
        max,
        received: 0,
    };
    let parts = futures_util::stream::unfold(parts, async |mut parts| {
        let part = parts.next().await?;
        Some((part, parts))
    });
    Ok(Body::Stream(Box::pin(parts)))
}

struct Parts {
    body: BodyDataStream<RequestBody>,
    max: MiB,
    received: u64,
}

impl Parts {
    /// The next part. Isn't called again after an error.
    async fn next(&mut self) -> Option<Result<Bytes, InvokeError>> {
        let part = match self.body.next().await? {
            Ok(part) => part,
            Err(error) => return Some(Err(error.into())),
        };
        self.received += part.len() as u64;
        if self.received > self.max.bytes() {
            let limit_mb = self.max.0;
            return Some(Err(InvokeError::TooLarge { limit_mb }));
        }
        Some(Ok(part))
    }
}

/// Has a client that the worker waited `waited` for sent enough?
fn keeps_up(received: u64, waited: Duration) -> bool {
    if waited <= PATIENCE {
        return true;
    }
    #[expect(clippy::cast_precision_loss, reason = "a body is far below 2⁵² bytes")]
    let earned = Duration::from_secs_f64(received as f64 / LEAST_RATE);
    waited <= PATIENCE + earned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_does_not_keep_up_and_a_slow_line_does() {
        let second = Duration::from_secs(1);
        assert!(keeps_up(1, 30 * second));
        assert!(!keeps_up(2, 58 * second), "a byte every 29 s");
        assert!(keeps_up(16 << 20, 1000 * second), "16 MiB at 16 KiB/s");
    }
}
