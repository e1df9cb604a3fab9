//! Frames of one call that another call's reader found, until their owner takes them.
//!
//! The windows of docs/reference/guest-protocol.md limit the bytes. Parts of a body are joined while they wait, so that many small
//! parts cost no more than a few large ones.

use super::frame::{CHUNK, Frame, FrameKind};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How many bytes of one call may wait here: its window, and as much again for heads. More breaks the protocol.
const MOST: usize = 2 * CHUNK;

/// How much a frame counts beside its payload, so that the number of empty frames is limited too.
const FRAME: usize = 64;

/// A frame, and the bodies of those that followed it and were joined to it.
#[derive(Debug)]
struct Waiting {
    frame: Frame,
    more: BytesMut,
}

#[derive(Debug, Default)]
struct Inside {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The answer has ended: only DONE may follow.
    ended: bool,
}

/// One call's mailbox.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inside: Mutex<Inside>,
    arrived: Notify,
}

/// The guest sent more than is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Mailbox {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame and wakes the owner.
    pub(crate) fn put(&self, frame: Frame) -> Result<(), Full> {
        let mut inside = self.inside();
        inside.bytes += frame.payload.len();
        if inside.bytes > MOST || inside.ended && frame.kind != FrameKind::Done {
            return Err(Full);
        }
        inside.ended |= frame.end;
        match inside.waiting.back_mut() {
            Some(Waiting { frame: last, more })
                if last.kind == FrameKind::Body && frame.kind == FrameKind::Body && !last.end =>
            {
                more.extend_from_slice(&frame.payload);
                (last.end, last.busy, last.took) = (frame.end, frame.busy, frame.took);
            }
            _ => {
                inside.bytes += FRAME;
                let more = BytesMut::new();
                inside.waiting.push_back(Waiting { frame, more });
            }
        }
        drop(inside);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next frame, if there is one.
    pub(crate) fn take(&self) -> Option<Frame> {
        let mut inside = self.inside();
        let Waiting { mut frame, more } = inside.waiting.pop_front()?;
        if !more.is_empty() {
            frame.payload = joined(&frame.payload, &more);
        }
        inside.bytes -= frame.payload.len() + FRAME;
        Some(frame)
    }

    /// Resolves when something may have arrived since the last look. Safe to cancel.
    pub(crate) async fn arrival(&self) {
        self.arrived.notified().await;
    }
}

fn joined(a: &Bytes, b: &BytesMut) -> Bytes {
    let mut both = BytesMut::with_capacity(a.len() + b.len());
    both.extend_from_slice(a);
    both.extend_from_slice(b);
    both.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: FrameKind, text: &[u8], end: bool) -> Frame {
        Frame {
            kind,
            end,
            compiled: false,
            busy: false,
            left: false,
            took: None,
            id: 1,
            payload: Bytes::copy_from_slice(text),
        }
    }

    #[test]
    fn parts_are_joined_but_heads_and_ends_stay() {
        let mailbox = Mailbox::default();
        for (kind, text, end) in [
            (FrameKind::Result, "head", false),
            (FrameKind::Body, "a", false),
            (FrameKind::Body, "b", true),
            (FrameKind::Done, "", true),
        ] {
            assert_eq!(mailbox.put(frame(kind, text.as_bytes(), end)), Ok(()));
        }
        let seen: Vec<_> = std::iter::from_fn(|| mailbox.take())
            .map(|f| (f.kind, f.payload, f.end))
            .collect();
        let expected = [
            (FrameKind::Result, Bytes::from("head"), false),
            (FrameKind::Body, Bytes::from("ab"), true),
            (FrameKind::Done, Bytes::new(), true),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_guest_that_ignores_its_window_is_noticed() {
        let mailbox = Mailbox::default();
        let part = vec![0; CHUNK - FRAME];
        assert_eq!(mailbox.put(frame(FrameKind::Body, &part, false)), Ok(()));
        assert_eq!(mailbox.put(frame(FrameKind::Body, &part, false)), Ok(()));
        assert_eq!(
            mailbox.put(frame(FrameKind::Body, &[0; 2 * FRAME], false)),
            Err(Full)
        );
        assert!(mailbox.take().is_some());
    }

    #[test]
    fn frames_without_a_payload_are_bounded_and_nothing_follows_an_end() {
        let mailbox = Mailbox::default();
        let taken = (0..1 << 20)
            .take_while(|_| mailbox.put(frame(FrameKind::Result, b"", false)).is_ok())
            .count();
        assert!(taken <= MOST / FRAME + 1, "{taken}");
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.put(frame(FrameKind::Fault, b"", true)), Ok(()));
        assert_eq!(mailbox.put(frame(FrameKind::Fault, b"", true)), Err(Full));
    }
}
