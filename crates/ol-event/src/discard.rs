//! Reads and throws away what nobody wants of a request, within bounds: a body through hyper, anything else straight from the socket.
//!
//! The bounds are those that other servers have found sufficient for real clients: a client that sends ten megabytes before it looks
//! for an answer gets the answer, and a client that stops sending doesn't hold a connection for long.

use hyper::body::{Body as _, Incoming};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

/// How many bytes are thrown away at most.
const MOST: u64 = 64 << 20;

/// For how long at most, in all.
const LONGEST: Duration = Duration::from_secs(30);

/// How long a client may send nothing, where the connection is going to be closed.
const SILENCE: Duration = Duration::from_secs(3);

/// The rest of a body, being thrown away.
pub(crate) struct Discard {
    body: Incoming,
    /// How many more bytes are accepted.
    room: u64,
    silence: Duration,
    end: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Discard {
    /// Discards at most `room` bytes, after which the connection goes on. The client may be silent for as long as within a head.
    pub(crate) fn small(body: Incoming, room: u64) -> Self {
        Self::new(body, room, LONGEST)
    }

    /// Discards a rest of any length up to [`MOST`], before the connection is closed.
    pub(crate) fn large(body: Incoming) -> Self {
        Self::new(body, MOST, SILENCE)
    }

    fn new(body: Incoming, room: u64, silence: Duration) -> Self {
        let now = Instant::now();
        Self {
            body,
            room,
            silence,
            end: now + LONGEST,
            alarm: Box::pin(sleep_until(now + silence)),
        }
    }

    /// Resolves when nothing more is to be read: true at the body's end, false if it broke off or exceeded the bounds.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        loop {
            if self.body.is_end_stream() {
                return Poll::Ready(true);
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(Some(Ok(frame))) => {
                    let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                    match self.room.checked_sub(bytes) {
                        Some(room) => self.room = room,
                        None => return Poll::Ready(false),
                    }
                    let next = (Instant::now() + self.silence).min(self.end);
                    self.alarm.as_mut().reset(next);
                }
                Poll::Pending => return self.alarm.as_mut().poll(context).map(|()| false),
            }
        }
    }

    /// The part of the body that wasn't read.
    pub(crate) fn into_rest(self) -> Incoming {
        self.body
    }
}

/// Reads what a client still sends on a connection whose sending side is shut down.
///
/// Ends when the client closes its side too, or the bounds are reached.
pub(crate) async fn linger(stream: &mut (impl AsyncRead + Unpin)) {
    let mut room = vec![0; 16 << 10];
    let mut left = MOST;
    let reading = async {
        while let Ok(Ok(count @ 1..)) = timeout(SILENCE, stream.read(&mut room)).await {
            match left.checked_sub(count as u64) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // The connection is closed next, whether this timed out or not.
    let _ = timeout_at(Instant::now() + LONGEST, reading).await;
}
