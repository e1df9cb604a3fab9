//! How far a connection is with its current request, and what becomes of a body that nobody reads to its end.
//!
//! ```text
//!   begin ─▶ RequestBody ── read to its end ─▶ nothing is left
//!                 │ dropped before
//!                 ▼
//!   answered ─▶ a small rest: the connection goes on; the rest is discarded while the answer is sent
//!            └▶ anything else: `Connection: close`; the rest is discarded within bounds, then the connection is closed
//! ```
//!
//! Why a rest is read and discarded at all: when a socket is closed with unread bytes in it, the kernel resets the connection, and a
//! client that is still sending never sees the answer. Why a small rest doesn't close the connection: the client may send its next
//! request on it without looking for a `Connection: close` first.

use crate::discard::Discard;
use crate::heads::Head;
use hyper::body::{Body as _, Incoming};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A rest of at most this many bytes is discarded and the connection kept.
const SMALL: u64 = 256 << 10;

/// How long to wait for the end of a body of unknown length before the answer's head says whether the connection stays open.
const SOON: Duration = Duration::from_millis(10);

/// Stands for a length that isn't known.
const UNKNOWN: u64 = u64::MAX;

/// Where the connection is in its requests.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Between requests, or within the head of one.
    Listening,
    /// A request was read as far as its head, and is being answered.
    Answering,
    /// The whole answer was handed to hyper; some of it may not be written to the socket yet.
    Answered,
}

/// What a connection's [`Wire`](crate::wire::Wire), the task that serves its request, and the discarding of the rest have in common.
pub(crate) struct Exchange {
    phase: AtomicU8,
    /// The head that is arriving.
    head: Head,
    /// The request's body may not have been read to its end.
    open: AtomicBool,
    /// The client waits for `100 Continue` before it sends the body.
    awaits_leave: AtomicBool,
    /// The body broke off or came too slowly: where it ends, and thus where the next request begins, can't be known.
    broken: AtomicBool,
    /// Bytes of the body that are still to come, or [`UNKNOWN`].
    remaining: AtomicU64,
    rest: Mutex<Rest>,
}

/// A body that may not have been read to its end.
enum Rest {
    /// The task that serves the request has the body, or nothing is left of it.
    Held,
    /// The body was dropped before the answer was there.
    Left(Incoming),
    /// The answer is there, and something still holds the body. Once that is dropped, the rest is to be discarded, with the connection
    /// kept or not; `connection` wakes the connection's task for that.
    Late { keep: bool, connection: Waker },
    /// The rest is being discarded.
    Over(Discard),
}

impl Exchange {
    /// The exchange of a new connection, whose first head is `head`.
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

    /// Notes that a request's head has arrived; true if the request has a body to read.
    ///
    /// `expects`: the client waits for `100 Continue` before it sends the body.
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

    /// Says whether the connection must be closed after the answer that is about to be sent, and arranges what becomes of the rest of
    /// the request.
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

    /// Notes that the answer's body has ended or was dropped.
    pub(crate) fn handed_over(&self) {
        self.phase.store(Phase::Answered as u8, Ordering::Release);
    }

    /// Notes that everything handed to hyper is written to the socket.
    pub(crate) fn written(&self) {
        // Only the connection's task changes the phase, so nothing comes between this load and the store.
        if self.phase.load(Ordering::Acquire) == Phase::Answered as u8 {
            self.phase.store(Phase::Listening as u8, Ordering::Release);
        }
    }

    /// Is no request being answered and no body under way? Then incoming bytes belong to a head, and what is written is hyper's own answer.
    pub(crate) fn listens(&self) -> bool {
        self.phase.load(Ordering::Acquire) == Phase::Listening as u8
            && !self.open.load(Ordering::Acquire)
    }

    /// Notes that `bytes` more arrived; false when they belong to a head that exceeds a limit of [`Head::grow`].
    ///
    /// A head that arrives while an earlier request is being answered is counted, and refused when its turn comes.
    pub(crate) fn head_grows(&self, bytes: usize) -> bool {
        self.open.load(Ordering::Acquire) || self.head.grow(bytes as u64) || !self.listens()
    }

    /// Has a part of a head arrived, but not all of it?
    pub(crate) fn within_head(&self) -> bool {
        self.listens() && self.head.has_begun()
    }

    /// Did a body break off or come too slowly, so that the client may still be sending?
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Discards what is left of a request, if anything is.
    ///
    /// The connection's task must poll this whenever it is woken, after the connection itself: reading a body before the answer has begun
    /// makes hyper send `100 Continue` to a client that waits for it.
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
            // If the body hasn't ended, dropping it makes hyper close the connection.
            drop(over);
        }
    }

    /// Notes that the body has ended.
    pub(crate) fn ended(&self) {
        self.open.store(false, Ordering::Release);
    }

    /// Notes that the body broke off, is malformed or came too slowly.
    pub(crate) fn broke(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Notes how many bytes of the body are still to come, if that is known.
    pub(crate) fn is_to_come(&self, bytes: Option<u64>) {
        self.remaining
            .store(bytes.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// Notes that the body is being read, which makes hyper send `100 Continue` to a client that waits for it.
    pub(crate) fn gives_leave(&self) {
        self.awaits_leave.store(false, Ordering::Relaxed);
    }

    /// Takes the rest of a body that was dropped before its end.
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
