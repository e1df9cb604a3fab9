//! The request that a connection is at: how far its head and its body were read, and what becomes of a body that nobody reads to
//! its end.
//!
//! ```text
//!   begin ─▶ RequestBody ── read to its end ─▶ nothing is left
//!                 │ dropped before
//!                 ▼
//!   answered ─▶ a small rest: the connection goes on; the rest is read away while the answer leaves
//!            └▶ anything else: `Connection: close`; read away within bounds, then the connection is closed
//! ```
//!
//! Why anything is read away: when a socket is closed with bytes in it that nobody read, the kernel resets the connection, and a
//! client that is still sending never sees the answer. And why a small rest doesn't close the connection: the client is going to
//! send its next request on it, and may not look for a `Connection: close` before.

use crate::discard::Discard;
use crate::heads::Head;
use hyper::body::{Body as _, Incoming};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A rest of this many bytes is worth a connection: it is read away and the connection stays.
const SMALL: u64 = 256 << 10;

/// How long the end of a body of unknown length is waited for before the answer has to say whether the connection stays.
const SOON: Duration = Duration::from_millis(10);

/// The length that isn't known.
const UNKNOWN: u64 = u64::MAX;

/// Where the connection is in its requests.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Between requests, or within the head of one.
    Listening,
    /// A request was read as far as its head, and is being answered.
    Answering,
    /// All of the answer was handed over; some of it may have to be written yet.
    Answered,
}

/// What one connection shares between the bytes that come and go, whoever serves its request, and whoever reads the rest away.
pub(crate) struct Exchange {
    phase: AtomicU8,
    /// What there is of a head that isn't there whole.
    head: Head,
    /// The request's body may not have been read to its end.
    open: AtomicBool,
    /// Its client waits to be told to send it.
    awaits_leave: AtomicBool,
    /// What comes next on this connection can't be told from its rest.
    broken: AtomicBool,
    /// Bytes of it that are to come, or [`UNKNOWN`].
    remaining: AtomicU64,
    rest: Mutex<Rest>,
}

/// A body that may not have been read to its end.
enum Rest {
    /// Whoever serves the request has it, or nobody needs it.
    Held,
    /// It was given up before the answer was there.
    Left(Incoming),
    /// The answer is there, and it is held still. Afterwards it is to be read away, with the connection kept or not; its task is to be
    /// woken for that.
    Late { keep: bool, connection: Waker },
    /// It is being read away.
    Over(Discard),
}

impl Exchange {
    /// For a connection that begins, with its first head.
    pub(crate) fn new(head: Head) -> Arc<Self> {
        Arc::new(Self {
            phase: AtomicU8::new(Phase::Listening as u8),
            head,
            open: AtomicBool::new(false),
            awaits_leave: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            remaining: AtomicU64::new(0),
            rest: Mutex::new(Rest::Held),
        })
    }

    /// A request has come as far as its head. `expects`: its client waits to be told before it sends the body. Says whether there is
    /// something to read of that.
    pub(crate) fn begin(&self, body: &Incoming, expects: bool) -> bool {
        self.head.forget();
        self.phase.store(Phase::Answering as u8, Ordering::Release);
        let open = !body.is_end_stream();
        self.open.store(open, Ordering::Release);
        if open {
            self.awaits_leave.store(expects, Ordering::Relaxed);
            self.is_to_come(body.size_hint().upper());
            *self.rest() = Rest::Held;
        }
        open
    }

    /// Says whether the connection must be closed after the answer that is to be sent now, and sees to the rest of the request.
    pub(crate) async fn answered(&self) -> bool {
        if !self.open.load(Ordering::Acquire) {
            return self.broken.load(Ordering::Acquire);
        }
        let close =
            self.broken.load(Ordering::Acquire) || self.awaits_leave.load(Ordering::Relaxed);
        let connection = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        let small = || !close && self.remaining.load(Ordering::Relaxed) <= SMALL;
        let mut left = {
            let mut rest = self.rest();
            match std::mem::replace(&mut *rest, Rest::Held) {
                Rest::Left(left) => left,
                _ => {
                    let keep = small();
                    *rest = Rest::Late { keep, connection };
                    return !keep;
                }
            }
        };
        let mut keep = small();
        if !close && self.remaining.load(Ordering::Relaxed) == UNKNOWN {
            let mut discard = Discard::small(left, SMALL);
            let ended = tokio::time::timeout(SOON, poll_fn(|context| discard.poll(context))).await;
            if ended == Ok(true) {
                self.ended();
                return false;
            }
            keep = false;
            left = discard.into_rest();
        }
        *self.rest() = Rest::Over(if keep {
            Discard::small(left, SMALL)
        } else {
            Discard::large(left)
        });
        !keep
    }

    /// The body of the answer is over, or was given up.
    pub(crate) fn handed_over(&self) {
        self.phase.store(Phase::Answered as u8, Ordering::Release);
    }

    /// All that was handed over is written.
    pub(crate) fn written(&self) {
        // Between the two there is nothing else that this task could have done.
        if self.phase.load(Ordering::Acquire) == Phase::Answered as u8 {
            self.phase.store(Phase::Listening as u8, Ordering::Release);
        }
    }

    /// Nothing is being answered and no body is under way: what comes belongs to a head, and what is written is hyper's own word.
    pub(crate) fn listens(&self) -> bool {
        self.phase.load(Ordering::Acquire) == Phase::Listening as u8
            && !self.open.load(Ordering::Acquire)
    }

    /// `bytes` more came. False when they are part of a head for which there is no room; one that comes while a request is being
    /// answered is counted, and refused when its turn comes.
    pub(crate) fn head_grows(&self, bytes: usize) -> bool {
        self.open.load(Ordering::Acquire) || self.head.grow(bytes as u64) || !self.listens()
    }

    /// A part of a head is there, and not all of it.
    pub(crate) fn within_head(&self) -> bool {
        self.listens() && self.head.has_begun()
    }

    /// What came was wrong, so that more of it may be coming.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Reads away what is left of a request, if there is something. To be polled by the connection's task whenever it is woken, after
    /// the connection itself: before its answer has begun, reading would tell a client that waits for leave to send its body.
    pub(crate) fn poll_rest(&self, context: &mut Context<'_>) {
        if !self.open.load(Ordering::Acquire) {
            return;
        }
        let mut rest = self.rest();
        if let Rest::Over(discard) = &mut *rest
            && discard.poll(context).is_ready()
        {
            let over = std::mem::replace(&mut *rest, Rest::Held);
            drop(rest);
            self.ended();
            // If it isn't at its end, hyper closes the connection now.
            drop(over);
        }
    }

    /// The body is at its end.
    pub(crate) fn ended(&self) {
        self.open.store(false, Ordering::Release);
    }

    /// The body stopped making sense, or came too slowly.
    pub(crate) fn broke(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// So many bytes of the body are still to come, if that is known.
    pub(crate) fn is_to_come(&self, bytes: Option<u64>) {
        self.remaining
            .store(bytes.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// The body is read now, which tells a client that waits for leave to send it.
    pub(crate) fn gives_leave(&self) {
        self.awaits_leave.store(false, Ordering::Relaxed);
    }

    /// Nobody wants the rest of the body.
    pub(crate) fn give_up(&self, body: Incoming) {
        let mut rest = self.rest();
        match std::mem::replace(&mut *rest, Rest::Held) {
            Rest::Late { keep, connection } => {
                *rest = Rest::Over(if keep {
                    Discard::small(body, SMALL)
                } else {
                    Discard::large(body)
                });
                drop(rest);
                connection.wake();
            }
            _ => *rest = Rest::Left(body),
        }
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
