//! A connection's bytes, on their way to and from hyper.
//!
//! The bytes of arriving heads are counted here. When hyper can't read a request it answers with a bare status: that is held back,
//! and `connection` answers with a code and a text instead.

use crate::exchange::Exchange;
use http::StatusCode;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Why a request is refused before its head could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// hyper would have answered with this status.
    Status(StatusCode),
    /// The request's head exceeds a limit of [`Heads`](crate::heads::Heads).
    NoRoom,
}

/// A stream that tells the connection's [`Exchange`] what is read and written.
pub(crate) struct Wire<S> {
    stream: S,
    exchange: Arc<Exchange>,
    verdict: Option<Verdict>,
    hung_up: bool,
}

impl<S> Wire<S> {
    pub(crate) fn new(stream: S, exchange: Arc<Exchange>) -> Self {
        Self {
            stream,
            exchange,
            verdict: None,
            hung_up: false,
        }
    }

    /// Why the last request is refused, if it is.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Has the client closed its sending side?
    pub(crate) fn hung_up(&self) -> bool {
        self.hung_up
    }

    /// The stream itself.
    pub(crate) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Are `bytes` hyper's own answer? Then they are held back.
    fn keeps_back(&mut self, bytes: &[u8]) -> bool {
        if !self.exchange.listens() {
            return false;
        }
        // "HTTP/1.1 431 …"; the rest of that answer may follow in another write.
        let status = bytes.get(9..12).map(StatusCode::from_bytes);
        let status = status
            .and_then(Result::ok)
            .unwrap_or(StatusCode::BAD_REQUEST);
        self.verdict.get_or_insert(Verdict::Status(status));
        true
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let count = into.filled().len() - before;
        if count == 0 {
            self.hung_up = true;
        } else if !self.exchange.head_grows(count) {
            self.verdict = Some(Verdict::NoRoom);
            return Poll::Ready(Err(io::Error::other("no room for the head")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.keeps_back(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.keeps_back(parts.first().map_or(&[], |part| part)) {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has nothing more to write.
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.exchange.written();
        Poll::Ready(Ok(()))
    }

    /// Only flushes: `connection` may still have an answer to send, and shuts the stream down itself.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
