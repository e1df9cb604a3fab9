//! One connection to a guest, shared by the calls in flight on it.
//!
//! There is no permanent reader: a task that waits for an answer and finds nobody reading, reads, and hands frames of other calls
//! to their owners (leader and followers). Thus a single call reads its own answer in its own task, with no hop in between.

use super::frame::{CHUNK, Frame, FrameError, FrameKind, HEADER, Outgoing, WINDOW, join, take};
use super::mailbox::{Full, Mailbox};
use bytes::{Buf, BytesMut};
use ol_sandbox::Line;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A frame up to this many bytes is copied into one buffer, since a plain write is faster than a vectored one.
const COPIED: usize = 4096 + HEADER;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// The guest's end is closed: it died or closed it.
    #[error("the connection ended")]
    Closed,
    /// The guest broke the protocol.
    #[error("the guest broke the protocol: {0}")]
    Protocol(#[from] FrameError),
    /// The guest answered a call that isn't open.
    #[error("the guest answered call {0}, which is not open")]
    Stray(u32),
    /// The guest sent more of an answer than its window allows.
    #[error("the guest sent more of the answer to call {0} than its window allows")]
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
    buffer: BytesMut,
    pace: Pace,
}

/// How many frames are read in a row before the clock is looked at.
const ROW: u32 = 256;

/// The least time that a row of frames takes.
///
/// A frame costs the worker about the same whatever is in it, and its sender twelve bytes: a guest that sends small frames as fast as it
/// can is read no faster than this.
const LEAST: Duration = Duration::from_millis(1);

/// How fast a guest is read.
struct Pace {
    frames: u32,
    since: Instant,
}

impl Pace {
    /// How long to wait before the next frame is taken.
    fn pause(&mut self) -> Option<Duration> {
        if self.frames < ROW {
            return None;
        }
        let now = Instant::now();
        let took = now.saturating_duration_since(self.since);
        (self.frames, self.since) = (0, now);
        LEAST.checked_sub(took).filter(|pause| !pause.is_zero())
    }
}

/// A connection to a guest.
pub(crate) struct Channel {
    line: Line,
    reader: AsyncMutex<Reader>,
    /// Held while a frame is sent.
    writing: AsyncMutex<()>,
    /// Calls that share the connection; `None` if there is one call at a time, which needs no mailbox.
    open: Option<Mutex<HashMap<u32, Arc<Mailbox>>>>,
    /// How much more of its request each long call may send.
    windows: Mutex<HashMap<u32, Arc<Semaphore>>>,
    next: AtomicU32,
}

/// One call's side of the connection.
pub(crate) struct Conversation {
    pub(crate) id: u32,
    mailbox: Option<Arc<Mailbox>>,
    /// Bytes taken that the guest wasn't told of yet.
    taken: usize,
    /// The task that tells the guest of taken bytes.
    granting: Option<JoinHandle<()>>,
}

impl Conversation {
    /// Notes that `frame` was taken; lets `grant` tell the guest how much more of this answer it may send.
    ///
    /// `grant` isn't used if the bytes are too few, if the connection has one call at a time (no other call is kept waiting then), after
    /// the last frame, or while the guest is still being told.
    pub(crate) fn took<G>(&mut self, frame: &Frame, grant: impl FnOnce(u32) -> G)
    where
        G: Future<Output = ()> + Send + 'static,
    {
        if self.mailbox.is_none() {
            return;
        }
        self.taken += frame.payload.len();
        let telling = self
            .granting
            .as_ref()
            .is_some_and(|task| !task.is_finished());
        if self.taken < CHUNK / 2 || frame.end || telling {
            return;
        }
        if let Ok(bytes) = u32::try_from(std::mem::take(&mut self.taken)) {
            // A task of its own: a caller that stops reading must not cut a frame.
            self.granting = Some(tokio::spawn(grant(bytes)));
        }
    }
}

/// How much more of a long request may be sent: one permit for each byte. Dropping it closes the window.
pub(crate) struct Window<'a> {
    channel: &'a Channel,
    id: u32,
    free: Arc<Semaphore>,
}

impl Window<'_> {
    /// Waits until `bytes` more may be sent, and takes that many permits. Safe to cancel.
    pub(crate) async fn take(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("a frame holds less");
        if let Ok(permit) = self.free.acquire_many(bytes).await {
            permit.forget();
        }
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        self.channel.windows().remove(&self.id);
    }
}

impl Channel {
    /// A connection on which up to `calls` are in flight at once.
    pub(crate) fn new(line: Line, calls: u32) -> Self {
        Self {
            line,
            reader: AsyncMutex::new(Reader {
                buffer: BytesMut::with_capacity(16 << 10),
                pace: Pace {
                    frames: 0,
                    since: Instant::now(),
                },
            }),
            writing: AsyncMutex::new(()),
            open: (calls > 1).then(Mutex::default),
            windows: Mutex::default(),
            next: AtomicU32::new(1),
        }
    }

    /// The same connection, but for up to `calls` calls at once from now on. No call may be in flight.
    pub(crate) fn for_calls(self, calls: u32) -> Self {
        Self {
            open: (calls > 1).then(Mutex::default),
            ..self
        }
    }

    /// Opens the conversation about the connection itself (READY, BIND), id 0.
    pub(crate) fn about_itself(&self) -> Conversation {
        self.open_as(0)
    }

    /// Opens a call.
    pub(crate) fn open(&self) -> Conversation {
        // 0 is the connection's own id. After 2³² calls, ids are used again, long after the old calls were closed.
        let id = self.next.fetch_add(1, Ordering::Relaxed).max(1);
        self.open_as(id)
    }

    fn open_as(&self, id: u32) -> Conversation {
        let mailbox = self.calls().map(|mut calls| {
            let mailbox = Arc::new(Mailbox::default());
            calls.insert(id, Arc::clone(&mailbox));
            mailbox
        });
        Conversation {
            id,
            mailbox,
            taken: 0,
            granting: None,
        }
    }

    /// Closes a call; frames for it are an error from now on.
    pub(crate) fn close(&self, conversation: Conversation) {
        if let Some(mut calls) = self.calls() {
            calls.remove(&conversation.id);
        }
    }

    fn calls(&self) -> Option<MutexGuard<'_, HashMap<u32, Arc<Mailbox>>>> {
        let open = self.open.as_ref()?;
        Some(open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<u32, Arc<Semaphore>>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the window of call `id`, of which `sent` bytes are under way already.
    pub(crate) fn window(&self, id: u32, sent: usize) -> Window<'_> {
        let free = Arc::new(Semaphore::new(WINDOW.saturating_sub(sent)));
        self.windows().insert(id, Arc::clone(&free));
        Window {
            channel: self,
            id,
            free,
        }
    }

    /// Grants what a guest has taken of a request. A call without an open window has nothing more to send.
    fn widen(&self, frame: &Frame) -> Result<(), FrameError> {
        let Some(mut granted) = frame.payload.get(..4) else {
            return Err(FrameError::Section);
        };
        let granted = granted.get_u32_le() as usize;
        if let Some(free) = self.windows().get(&frame.id) {
            if free.available_permits() + granted > WINDOW {
                return Err(FrameError::Window);
            }
            free.add_permits(granted);
        }
        Ok(())
    }

    /// Sends one frame.
    ///
    /// Must not be dropped half way: what was written by then can't be taken back.
    pub(crate) async fn send(&self, frame: Outgoing<'_>) -> Result<(), ChannelError> {
        let _turn = self.writing.lock().await;
        if frame.len() <= COPIED {
            return Ok(self.line.send_all(&frame.bytes()).await?);
        }
        let mut header = [0; HEADER];
        let mut pieces = frame.pieces(&mut header);
        Ok(self.line.send_parts(&mut pieces).await?)
    }

    /// Lets the guest send `bytes` more of its answer to call `id`.
    pub(crate) async fn grant(&self, id: u32, bytes: u32) {
        let bytes = bytes.to_le_bytes();
        // If the guest is gone, the readers notice.
        let window = Outgoing::new(FrameKind::Window, id).with_payload([&bytes]);
        let _ = self.send(window.followed(true)).await;
    }

    /// Tells the guest that nothing more will come: it may end in its own time.
    pub(crate) async fn bid_farewell(&self) {
        // A guest that is gone needs no farewell.
        let _turn = self.writing.lock().await;
        let _ = self.line.end();
    }

    /// The next frame of `conversation`. Safe to cancel: no byte is lost.
    pub(crate) async fn next(
        &self,
        conversation: &mut Conversation,
    ) -> Result<Frame, ChannelError> {
        loop {
            let mut reader = match &conversation.mailbox {
                None => self.reader.lock().await,
                Some(mailbox) => {
                    if let Some(frame) = mailbox.take() {
                        return Ok(frame);
                    }
                    let reader = tokio::select! {
                        biased;
                        () = mailbox.arrival() => continue,
                        reader = self.reader.lock() => reader,
                    };
                    // The previous reader may have read this call's frame just before it left.
                    if let Some(frame) = mailbox.take() {
                        return Ok(frame);
                    }
                    reader
                }
            };
            let frame = reader.read(&self.line).await?;
            if frame.kind == FrameKind::Window {
                self.widen(&frame)?;
            } else if frame.id == conversation.id {
                return Ok(frame);
            } else {
                let owner = self.calls().and_then(|calls| calls.get(&frame.id).cloned());
                let id = frame.id;
                let owner = owner.ok_or(ChannelError::Stray(id))?;
                owner.put(frame).map_err(|Full| ChannelError::Flooded(id))?;
            }
        }
    }
}

impl Reader {
    async fn read(&mut self, line: &Line) -> Result<Frame, ChannelError> {
        loop {
            // Wait before a frame is taken: a task that is dropped while it waits must not hold one.
            if let Some(pause) = self.pace.pause() {
                tokio::time::sleep(pause).await;
            }
            match take(&mut self.buffer)? {
                Ok(mut frame) => {
                    self.pace.frames += 1 + join(&mut frame, &mut self.buffer);
                    return Ok(frame);
                }
                Err(wanted) => self
                    .buffer
                    .reserve(wanted.saturating_sub(self.buffer.len()).max(4096)),
            }
            if line.receive(&mut self.buffer).await? == 0 {
                return Err(ChannelError::Closed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    fn pair() -> (Line, UnixStream) {
        let (ours, guest) = UnixStream::pair().expect("a pair");
        let ours = ours.into_std().expect("no longer watched");
        (Line::new(ours).expect("a reactor"), guest)
    }

    async fn reply(guest: &mut UnixStream, id: u32, text: &[u8]) {
        let bytes = Outgoing::new(FrameKind::Result, id)
            .with_payload([text])
            .bytes();
        guest
            .write_all(&bytes)
            .await
            .expect("the other end is open");
    }

    #[tokio::test]
    async fn two_calls_in_flight_get_their_own_answers_in_any_order() {
        let (ours, mut guest) = pair();
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

    async fn grant(guest: &mut UnixStream, id: u32, bytes: u32) {
        let bytes = bytes.to_le_bytes();
        let frame = Outgoing::new(FrameKind::Window, id)
            .with_payload([&bytes])
            .followed(true);
        guest
            .write_all(&frame.bytes())
            .await
            .expect("the other end is open");
    }

    #[tokio::test]
    async fn a_window_widens_by_what_the_guest_takes_and_no_more() {
        let (ours, mut guest) = pair();
        let channel = Channel::new(ours, 1);
        let mut call = channel.open();
        let id = call.id;
        let window = channel.window(id, WINDOW - 1);
        window.take(1).await;
        grant(&mut guest, id, 5).await;
        reply(&mut guest, id, b"done").await;
        let mut more = Box::pin(window.take(5));
        assert!(futures_util::poll!(&mut more).is_pending());
        channel.next(&mut call).await.expect("an answer");
        assert!(futures_util::poll!(&mut more).is_ready());
        drop(more);
        grant(&mut guest, id, u32::MAX).await;
        assert!(matches!(
            channel.next(&mut call).await,
            Err(ChannelError::Protocol(FrameError::Window))
        ));
        drop(window);
        grant(&mut guest, id, 7).await;
        reply(&mut guest, id, b"later").await;
        channel
            .next(&mut call)
            .await
            .expect("grants without a window are ignored");
    }

    /// Frames without a payload cost their sender next to nothing.
    #[tokio::test]
    async fn a_guest_that_sends_nothing_but_small_frames_is_read_slowly() {
        let (ours, mut guest) = pair();
        let channel = Channel::new(ours, 1);
        let mut call = channel.open();
        let id = call.id;
        let rows = 20;
        tokio::spawn(async move {
            for _ in 0..rows * ROW {
                grant(&mut guest, 99, 1).await;
            }
            reply(&mut guest, id, b"done").await;
        });
        let begun = Instant::now();
        channel.next(&mut call).await.expect("an answer");
        assert!(
            begun.elapsed() >= LEAST * (rows - 1),
            "{:?}",
            begun.elapsed()
        );
    }

    #[tokio::test]
    async fn an_answer_that_nobody_asked_for_and_an_end_are_errors() {
        let (ours, mut guest) = pair();
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
