//! A stream that counts its bytes, and fails when all streams together carried too many or its connection carried none for too long.
//!
//! Each read or write that has to wait checks the clock; each transferred byte resets it. Both ends of a connection are metered, because
//! either may be the one waited for. They share a clock, since during a download one direction is silent.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::report::{Notes, Trouble};

/// What all streams of one proxy share.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    pub(super) carried: Arc<AtomicU64>,
    pub(super) total: u64,
    pub(super) idle: Duration,
    pub(super) notes: Notes,
}

/// What both ends of one connection share.
#[derive(Debug, Clone)]
pub(super) struct Activity {
    last: Arc<Mutex<Instant>>,
    /// The connection's destination, once known.
    host: Arc<Mutex<Option<String>>>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            last: Arc::new(Mutex::new(Instant::now())),
            host: Arc::default(),
        }
    }

    pub(super) fn leads_to(&self, host: &str) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = Some(host.to_owned());
    }

    pub(super) fn now(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self) -> Option<String> {
        self.host
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// One end of a connection.
pub(super) struct Metered {
    stream: TcpStream,
    meter: Meter,
    activity: Activity,
    /// Whether this end's bytes are counted. Only one end's are; otherwise each byte would count twice.
    counts: bool,
    alarm: Pin<Box<Sleep>>,
}

impl Metered {
    pub(super) fn new(stream: TcpStream, meter: Meter, activity: Activity, counts: bool) -> Self {
        let alarm = Box::pin(sleep_until(Instant::now() + meter.idle));
        Self {
            stream,
            meter,
            activity,
            counts,
            alarm,
        }
    }

    fn carried(&mut self, bytes: usize) -> io::Result<()> {
        self.activity.now();
        if !self.counts {
            return Ok(());
        }
        let before = self
            .meter
            .carried
            .fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 <= self.meter.total {
            return Ok(());
        }
        self.meter.notes.trouble(Trouble::TooMuch {
            mib: self.meter.total >> 20,
        });
        Err(io::ErrorKind::QuotaExceeded.into())
    }

    /// Called by a read or write that has to wait: fails when the connection has been idle for too long, and wakes the task for that.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            let end = self.activity.last() + self.meter.idle;
            if end > Instant::now() {
                self.alarm.as_mut().reset(end);
                continue;
            }
            // A client that keeps a connection open without a request is not reported.
            if let Some(host) = self.activity.host() {
                self.meter.notes.trouble(Trouble::Idle {
                    host,
                    seconds: self.meter.idle.as_secs(),
                });
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => self.wait(context),
            Poll::Ready(done) => {
                done?;
                Poll::Ready(self.carried(buffer.filled().len() - before))
            }
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.wait(context),
            Poll::Ready(done) => {
                let written = done?;
                Poll::Ready(self.carried(written).map(|()| written))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
