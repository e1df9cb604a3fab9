//! A request's body: awaited whole if it is small, else passed on as it comes. Who sends too slowly is cut off, for he may hold an
//! instance meanwhile.

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyDataStream, BodyExt};
use hyper::body::{Body as _, Incoming};
use ol_lambda::{Body, InvokeError};
use ol_model::MiB;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Bodies announced up to this size are awaited and sent in one piece, which is quicker than streaming them.
const SMALL: u64 = 64 << 10;

/// How long a client may be silent within its body.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes per second that it has to send on average, over the time in which it was waited for, beyond that.
const LEAST_RATE: f64 = 16384.0;

/// Takes `body`, which may hold `max`.
pub(crate) async fn take(body: Incoming, max: MiB) -> Result<Body, InvokeError> {
    let announced = body.size_hint();
    if announced.lower() > max.bytes() {
        return Err(InvokeError::TooLarge { limit_mb: max.0 });
    }
    if body.is_end_stream() {
        return Ok(Body::Whole(Bytes::new()));
    }
    if announced.upper().is_some_and(|size| size <= SMALL) {
        let whole = timeout(PATIENCE, body.collect())
            .await
            .map_err(|_| too_slow())?;
        let whole = whole.map_err(|error| broke_off(&error))?;
        return Ok(Body::Whole(whole.to_bytes()));
    }
    let parts = Parts {
        body: BodyDataStream::new(body),
        max,
        received: 0,
        waited: Duration::ZERO,
    };
    let parts = futures_util::stream::unfold(parts, async |mut parts| {
        let part = parts.next().await?;
        Some((part, parts))
    });
    Ok(Body::Stream(Box::pin(parts)))
}

struct Parts {
    body: BodyDataStream<Incoming>,
    max: MiB,
    received: u64,
    /// How long the client was waited for in all.
    waited: Duration,
}

impl Parts {
    /// The next part. Nobody asks on after an error.
    async fn next(&mut self) -> Option<Result<Bytes, InvokeError>> {
        let begun = Instant::now();
        let Ok(part) = timeout(PATIENCE, self.body.next()).await else {
            return Some(Err(too_slow()));
        };
        self.waited += begun.elapsed();
        let part = match part? {
            Ok(part) => part,
            Err(error) => return Some(Err(broke_off(&error))),
        };
        self.received += part.len() as u64;
        if self.received > self.max.bytes() {
            let limit_mb = self.max.0;
            return Some(Err(InvokeError::TooLarge { limit_mb }));
        }
        Some(if keeps_up(self.received, self.waited) {
            Ok(part)
        } else {
            Err(too_slow())
        })
    }
}

/// Is `received` enough for a client that was waited for so long?
fn keeps_up(received: u64, waited: Duration) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a body is far below 2⁵² bytes")]
    let earned = Duration::from_secs_f64(received as f64 / LEAST_RATE);
    waited <= PATIENCE + earned
}

fn too_slow() -> InvokeError {
    InvokeError::BadRequest(format!(
        "the request body stopped for {PATIENCE:?}, or comes at less than {LEAST_RATE} bytes a second: send it faster"
    ))
}

fn broke_off(error: &hyper::Error) -> InvokeError {
    InvokeError::BadRequest(format!("the request body broke off: {error}"))
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
