//! Frames as bytes. Nothing that a guest sends is trusted: a frame that breaks the rules is an error.

use bytes::{Buf, Bytes, BytesMut};
use std::io::IoSlice;
use std::time::Duration;

pub(crate) const HEADER: usize = 12;
/// The longest payload that either side may send.
pub(crate) const MAX_PAYLOAD: usize = 1 << 20;
/// How much of a body the worker puts into one frame.
pub(crate) const CHUNK: usize = 256 << 10;

/// How many bytes of a request may be under way before the guest has taken them.
pub(crate) const WINDOW: usize = 1 << 20;

const END: u8 = 1;
const COMPILED: u8 = 2;
const BUSY: u8 = 4;
const LEFT: u8 = 8;

/// The kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Bind = 1,
    Call = 2,
    Body = 3,
    Cancel = 4,
    Window = 5,
    Zygote = 6,
    Warm = 7,
    Ready = 16,
    Bound = 17,
    BindFailed = 18,
    Result = 19,
    Fault = 20,
    Done = 21,
    Warmed = 22,
}

impl FrameKind {
    /// The kinds that a guest may send.
    fn from_guest(byte: u8) -> Option<Self> {
        [
            Self::Body,
            Self::Window,
            Self::Ready,
            Self::Bound,
            Self::BindFailed,
            Self::Result,
            Self::Fault,
            Self::Done,
            Self::Warmed,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub kind: FrameKind,
    /// The last frame of its id in its direction.
    pub end: bool,
    /// The code in the frame is compiled (marshalled).
    pub compiled: bool,
    /// The answer ends here, but the work for the call goes on.
    pub busy: bool,
    /// Processes that a call started are still running.
    pub left: bool,
    /// How long the call took by the guest's clock, if the guest says so and it fits the header.
    pub took: Option<Duration>,
    pub id: u32,
    pub payload: Bytes,
}

/// Why bytes are not a valid frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes is longer than allowed")]
    TooLong(usize),
    #[error("no frame has kind {0}")]
    Kind(u8),
    #[error("a section is longer than its frame")]
    Section,
    #[error("it grants more than it was sent")]
    Window,
}

/// A frame to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    kind: FrameKind,
    id: u32,
    end: bool,
    compiled: bool,
    /// The payload: one part after the other, at most [`MAX_PAYLOAD`] in all.
    parts: [&'a [u8]; 3],
}

impl<'a> Outgoing<'a> {
    /// The last frame for `id` (0: the connection itself), without a payload; [`Self::followed`] says otherwise.
    pub(crate) fn new(kind: FrameKind, id: u32) -> Self {
        Self {
            kind,
            id,
            end: true,
            compiled: false,
            parts: [&[]; 3],
        }
    }

    /// The same with a payload of these parts, one after the other.
    pub(crate) fn with_payload<const N: usize>(mut self, parts: [&'a [u8]; N]) -> Self {
        const { assert!(N <= 3) };
        self.parts[..N].copy_from_slice(&parts);
        self
    }

    /// The same, of which `more` says whether further frames with its id follow.
    pub(crate) fn followed(self, more: bool) -> Self {
        Self { end: !more, ..self }
    }

    /// The same, of which `compiled` says whether the code in it is compiled.
    pub(crate) fn compiled(self, compiled: bool) -> Self {
        Self { compiled, ..self }
    }

    /// How many bytes the frame has, header included.
    pub(crate) fn len(&self) -> usize {
        HEADER + self.parts.iter().map(|part| part.len()).sum::<usize>()
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let length =
            u32::try_from(self.len() - HEADER).expect("we never build a frame over MAX_PAYLOAD");
        header[0..4].copy_from_slice(&length.to_le_bytes());
        header[4] = self.kind as u8;
        header[5] = if self.end { END } else { 0 } | if self.compiled { COMPILED } else { 0 };
        header[8..12].copy_from_slice(&self.id.to_le_bytes());
        header
    }

    /// The whole frame in one piece.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(self.len());
        frame.extend_from_slice(&self.header());
        self.parts
            .iter()
            .for_each(|part| frame.extend_from_slice(part));
        frame
    }

    /// The whole frame as pieces, of which none is copied but the header, which is put into `header`.
    pub(crate) fn pieces<'b>(&self, header: &'b mut [u8; HEADER]) -> [IoSlice<'b>; 4]
    where
        'a: 'b,
    {
        *header = self.header();
        let [first, second, third] = self.parts;
        [&header[..], first, second, third].map(IoSlice::new)
    }
}

/// Takes a whole frame from the front of `buffer`; if there is none, returns how many bytes `buffer` should hold at least.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Result<Frame, usize>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER>() else {
        return Ok(Err(HEADER));
    };
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if length > MAX_PAYLOAD {
        return Err(FrameError::TooLong(length));
    }
    let kind = FrameKind::from_guest(header[4]).ok_or(FrameError::Kind(header[4]))?;
    let took = u16::from_le_bytes([header[6], header[7]]);
    let (flags, id) = (
        header[5],
        u32::from_le_bytes([header[8], header[9], header[10], header[11]]),
    );
    if buffer.len() < HEADER + length {
        return Ok(Err(HEADER + length));
    }
    let mut frame = buffer.split_to(HEADER + length).freeze();
    frame.advance(HEADER);
    Ok(Ok(Frame {
        kind,
        end: flags & END != 0,
        compiled: flags & COMPILED != 0,
        busy: flags & BUSY != 0,
        left: flags & LEFT != 0,
        took: match took {
            0 | u16::MAX => None,
            us => Some(Duration::from_micros(us.into())),
        },
        id,
        payload: frame,
    }))
}

/// Joins whole frames at the front of `buffer` to `body`, if they are parts of the same answer; returns how many.
///
/// A joined body has at most [`CHUNK`] bytes. Thus the many small parts that an app sends are handed on in a few large ones, if they are
/// there already.
pub(crate) fn join(body: &mut Frame, buffer: &mut BytesMut) -> u32 {
    let (mut joined, mut parts) = (BytesMut::new(), 0);
    while body.kind == FrameKind::Body && !body.end {
        let Some(header) = buffer.first_chunk::<HEADER>() else {
            break;
        };
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let id = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        let together = body.payload.len().max(joined.len()) + length;
        if header[4] != FrameKind::Body as u8
            || id != body.id
            || together > CHUNK
            || buffer.len() < HEADER + length
        {
            break;
        }
        if parts == 0 {
            joined.extend_from_slice(&body.payload);
        }
        parts += 1;
        // `take` can't fail here: this is a whole frame of a kind that a guest may send.
        let Ok(Ok(next)) = take(buffer) else { break };
        joined.extend_from_slice(&next.payload);
        (body.end, body.busy, body.took) = (next.end, next.busy, next.took);
    }
    if parts > 0 {
        body.payload = joined.freeze();
    }
    parts
}

/// Splits a sectioned payload into its head and the rest.
pub(crate) fn sections(mut payload: Bytes) -> Result<(Bytes, Bytes), FrameError> {
    if payload.len() < 4 {
        return Err(FrameError::Section);
    }
    let length = payload.get_u32_le() as usize;
    if length > payload.len() {
        return Err(FrameError::Section);
    }
    let head = payload.split_to(length);
    Ok((head, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_come_out_whole_however_they_were_cut() {
        let bytes = Outgoing::new(FrameKind::Result, 7)
            .with_payload([b"abc"])
            .bytes();
        let mut buffer = BytesMut::new();
        for byte in &bytes[..bytes.len() - 1] {
            buffer.extend([*byte]);
            assert!(take(&mut buffer).expect("no error yet").is_err());
        }
        buffer.extend(b"c");
        let frame = take(&mut buffer).expect("a frame").expect("whole");
        assert_eq!(
            (frame.kind, frame.end, frame.id, &frame.payload[..]),
            (FrameKind::Result, true, 7, &b"abc"[..])
        );
    }

    #[test]
    fn what_a_guest_may_not_say_is_refused() {
        let with = |kind: u8, length: u32| {
            let mut bytes = BytesMut::from(&*Outgoing::new(FrameKind::Result, 0).bytes());
            bytes[0..4].copy_from_slice(&length.to_le_bytes());
            bytes[4] = kind;
            take(&mut bytes)
        };
        assert_eq!(with(1, 0), Err(FrameError::Kind(1)), "BIND is the worker's");
        assert_eq!(with(99, 0), Err(FrameError::Kind(99)));
        assert_eq!(with(19, 1 << 21), Err(FrameError::TooLong(1 << 21)));
    }

    #[test]
    fn parts_of_one_answer_that_are_there_become_one() {
        let mut buffer = BytesMut::new();
        let mut put = |kind, end: bool, id, text: &[u8]| {
            let frame = Outgoing::new(kind, id).with_payload([text]);
            buffer.extend(frame.followed(!end).bytes());
        };
        put(FrameKind::Body, false, 7, b"a");
        put(FrameKind::Body, false, 7, b"");
        put(FrameKind::Body, false, 7, b"b");
        put(FrameKind::Body, false, 8, b"other");
        put(FrameKind::Body, true, 8, b"end");
        put(FrameKind::Body, false, 8, b"beyond");
        let mut next = || {
            let mut frame = take(&mut buffer).expect("sound").expect("whole");
            let parts = join(&mut frame, &mut buffer);
            (parts, frame.id, frame.payload, frame.end)
        };
        assert_eq!(next(), (2, 7, Bytes::from("ab"), false));
        assert_eq!(next(), (1, 8, Bytes::from("otherend"), true));
        assert_eq!(next(), (0, 8, Bytes::from("beyond"), false));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            if let Ok(Ok(frame)) = take(&mut buffer) {
                let _ = sections(frame.payload);
            }
        }
    }
}
