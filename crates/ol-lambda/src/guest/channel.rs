//! One connection to a guest, shared by the calls in flight on it.
//!
//! Nobody reads for the others all the time: whoever waits for an answer and finds the reader free, reads, and hands
//! frames that are not his to their owners (leader and followers). A single call so reads its own answer in its own
//! task, with no hop in between.

use super::frame::{CHUNK, Frame, FrameError, HEADER, Kind, header, take};
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

/// Frames of one call that wait for their owner, at most.
const MAILBOX: usize = 64;
/// Bytes of all of them on one connection, at most.
const MAILBOXES: usize = 8 << 20;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// The guest's end is closed: it died or closed it.
    #[error("the connection ended")]
    Closed,
    /// The guest broke the protocol.
    #[error("the guest broke the protocol: {0}")]
    Protocol(#[from] FrameError),
    /// The guest answered what nobody asked.
    #[error("the guest answered call {0}, which is not open")]
    Stray(u32),
    /// The guest sends faster than the caller of this call takes, while others share the connection.
    #[error(
        "the answer to call {0} is not taken as fast as it comes, and others share its sandbox"
    )]
    Flooded(u32),
    /// Any other failure of the socket.
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match error.kind() {
            BrokenPipe | ConnectionReset | UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

struct Reader {
    half: OwnedReadHalf,
    buffer: BytesMut,
}

/// A connection.
pub(crate) struct Channel {
    reader: AsyncMutex<Reader>,
    writer: AsyncMutex<OwnedWriteHalf>,
    /// Calls that share the connection; `None` if there is one at a time, which then needs no mailbox. A mailbox is filled by
    /// a reader that waits for its own answer; it can't wait for another's owner, so one that overflows is an error.
    open: Option<Mutex<HashMap<u32, mpsc::Sender<Frame>>>>,
    /// Bytes in mailboxes.
    waiting: AtomicUsize,
    next: AtomicU32,
}

/// One call's side of the connection. Dropping it forgets the call.
pub(crate) struct Conversation {
    pub(crate) id: u32,
    mailbox: Option<mpsc::Receiver<Frame>>,
}

impl Channel {
    /// A connection on which up to `calls` are in flight at once.
    pub(crate) fn new(stream: UnixStream, calls: u32) -> Self {
        let (half, writer) = stream.into_split();
        Self {
            reader: AsyncMutex::new(Reader {
                half,
                buffer: BytesMut::with_capacity(16 << 10),
            }),
            writer: AsyncMutex::new(writer),
            open: (calls > 1).then(Mutex::default),
            waiting: AtomicUsize::new(0),
            next: AtomicU32::new(1),
        }
    }

    /// Opens the conversation about the connection itself (READY, BIND), id 0.
    pub(crate) fn about_itself(&self) -> Conversation {
        self.open_as(0)
    }

    /// Opens a call.
    pub(crate) fn open(&self) -> Conversation {
        // 0 is the connection's; after 2³² calls numbers come again, long after the old ones were closed.
        let id = self.next.fetch_add(1, Ordering::Relaxed).max(1);
        self.open_as(id)
    }

    fn open_as(&self, id: u32) -> Conversation {
        let mailbox = self.calls().map(|mut calls| {
            let (sender, mailbox) = mpsc::channel(MAILBOX);
            calls.insert(id, sender);
            mailbox
        });
        Conversation { id, mailbox }
    }

    /// Closes a call; frames for it are an error from now on.
    pub(crate) fn close(&self, mut conversation: Conversation) {
        if let Some(mut calls) = self.calls() {
            calls.remove(&conversation.id);
        }
        while let Some(Ok(frame)) = conversation.mailbox.as_mut().map(mpsc::Receiver::try_recv) {
            self.taken(frame);
        }
    }

    fn calls(&self) -> Option<MutexGuard<'_, HashMap<u32, mpsc::Sender<Frame>>>> {
        let open = self.open.as_ref()?;
        Some(open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends one frame whose payload is `parts`, one after the other, at most `MAX_PAYLOAD` in all.
    pub(crate) async fn send(
        &self,
        kind: Kind,
        (end, compiled): (bool, bool),
        id: u32,
        parts: [&[u8]; 3],
    ) -> Result<(), ChannelError> {
        let length = parts.iter().map(|p| p.len()).sum();
        let header = header(kind, end, compiled, id, length);
        let mut writer = self.writer.lock().await;
        if length <= 4096 {
            // Small frames are copied into one piece: one system call without a vector.
            let mut frame = Vec::with_capacity(HEADER + length);
            frame.extend_from_slice(&header);
            parts.iter().for_each(|part| frame.extend_from_slice(part));
            return Ok(writer.write_all(&frame).await?);
        }
        let mut slices = [&header[..], parts[0], parts[1], parts[2]].map(IoSlice::new);
        let mut rest = &mut slices[..];
        while rest.iter().any(|s| !s.is_empty()) {
            let written = writer.write_vectored(rest).await?;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    /// Sends `body` as BODY frames.
    pub(crate) async fn send_body(
        &self,
        id: u32,
        body: &Bytes,
        end: bool,
    ) -> Result<(), ChannelError> {
        let mut chunks = body.chunks(CHUNK).peekable();
        if body.is_empty() && end {
            return self
                .send(Kind::Body, (true, false), id, [&[], &[], &[]])
                .await;
        }
        while let Some(chunk) = chunks.next() {
            let last = end && chunks.peek().is_none();
            self.send(Kind::Body, (last, false), id, [chunk, &[], &[]])
                .await?;
        }
        Ok(())
    }

    fn taken(&self, frame: Frame) -> Frame {
        self.waiting
            .fetch_sub(frame.payload.len(), Ordering::Relaxed);
        frame
    }

    /// The next frame of `conversation`. Safe to cancel: no byte is lost.
    pub(crate) async fn next(
        &self,
        conversation: &mut Conversation,
    ) -> Result<Frame, ChannelError> {
        loop {
            let mut reader = match &mut conversation.mailbox {
                None => self.reader.lock().await,
                Some(mailbox) => {
                    let reader = tokio::select! {
                        biased;
                        Some(frame) = mailbox.recv() => return Ok(self.taken(frame)),
                        reader = self.reader.lock() => reader,
                    };
                    // The reader before us may have read our frame just before it left.
                    if let Ok(frame) = mailbox.try_recv() {
                        return Ok(self.taken(frame));
                    }
                    reader
                }
            };
            let frame = reader.read().await?;
            if frame.id == conversation.id {
                return Ok(frame);
            }
            let owner = self.calls().and_then(|calls| calls.get(&frame.id).cloned());
            match owner {
                Some(owner) => {
                    let size = frame.payload.len();
                    if self.waiting.fetch_add(size, Ordering::Relaxed) + size > MAILBOXES {
                        return Err(ChannelError::Flooded(frame.id));
                    }
                    if let Err(mpsc::error::TrySendError::Full(frame)) = owner.try_send(frame) {
                        return Err(ChannelError::Flooded(frame.id));
                    }
                    // An owner that just left doesn't want it.
                }
                None => return Err(ChannelError::Stray(frame.id)),
            }
        }
    }
}

impl Reader {
    async fn read(&mut self) -> Result<Frame, ChannelError> {
        loop {
            match take(&mut self.buffer)? {
                Ok(frame) => return Ok(frame),
                Err(wanted) => self
                    .buffer
                    .reserve(wanted.saturating_sub(self.buffer.len()).max(4096)),
            }
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Err(ChannelError::Closed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    async fn reply(guest: &mut UnixStream, id: u32, text: &[u8]) {
        let mut bytes = header(Kind::Result, true, false, id, text.len()).to_vec();
        bytes.extend(text);
        guest
            .write_all(&bytes)
            .await
            .expect("the other end is open");
    }

    #[tokio::test]
    async fn two_calls_in_flight_get_their_own_answers_in_any_order() {
        let (ours, mut guest) = UnixStream::pair().expect("a pair");
        let channel = Arc::new(Channel::new(ours, 2));
        let (mut a, mut b) = (channel.open(), channel.open());
        let (first, second) = (a.id, b.id);
        let one = tokio::spawn({
            let channel = Arc::clone(&channel);
            async move { channel.next(&mut a).await }
        });
        let two = tokio::spawn({
            let channel = Arc::clone(&channel);
            async move { channel.next(&mut b).await }
        });
        tokio::task::yield_now().await;
        reply(&mut guest, second, b"two").await;
        reply(&mut guest, first, b"one").await;
        assert_eq!(
            one.await.expect("no panic").expect("an answer").payload,
            "one"
        );
        assert_eq!(
            two.await.expect("no panic").expect("an answer").payload,
            "two"
        );
    }

    #[tokio::test]
    async fn an_answer_that_nobody_asked_for_and_an_end_are_errors() {
        let (ours, mut guest) = UnixStream::pair().expect("a pair");
        let channel = Channel::new(ours, 2);
        let mut call = channel.open();
        reply(&mut guest, 99, b"?").await;
        assert!(matches!(
            channel.next(&mut call).await,
            Err(ChannelError::Stray(99))
        ));
        drop(guest);
        assert!(matches!(
            channel.next(&mut call).await,
            Err(ChannelError::Closed)
        ));
    }
}
