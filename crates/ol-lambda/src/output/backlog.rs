//! What a sandbox has printed and its log doesn't have yet: the bytes, and which calls they belong to.
//!
//! Bytes are cheap to keep, and lines are expensive to write: each line gets the time and the names of its sandbox and invocation, thus
//! an empty line takes fifty bytes. Therefore bytes are cut into lines only when the log may take them; those that the log will never
//! take are only counted.

use super::line::Entries;
use super::owner::{Past, Writers, change_of_writer};
use crate::invocation::InvocationId;
use bytes::{Buf, BytesMut};
use memchr::{memchr, memchr_iter, memrchr};
use std::collections::VecDeque;
use std::time::SystemTime;

/// Longer lines are cut, in bytes.
const LONGEST_LINE: usize = 16 << 10;

/// What a line costs beside its own bytes: about the length of what is written before it.
pub(super) const LINE: usize = 64;

type Calls = Vec<(u32, InvocationId)>;

/// How much was not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    lines: usize,
    bytes: usize,
}

/// What was printed while the same calls were in flight.
#[derive(Debug)]
struct Segment {
    calls: Calls,
    /// See `left` of [`Backlog`].
    left: bool,
    at: SystemTime,
    bytes: BytesMut,
    /// How much came after this segment and was not kept.
    dropped: Dropped,
}

/// The backlog of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    calls: Calls,
    /// Processes are still running that an ended call or the import started.
    left: bool,
    past: Past,
    sealed: VecDeque<Segment>,
    /// How many bytes are in `sealed`.
    held: usize,
    /// What is being printed now; its end may be an incomplete line.
    pub(super) open: BytesMut,
}

/// Some lines, as they are written to the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    pub text: String,
    /// The number of bytes as printed, and [`LINE`] for each line.
    pub cost: usize,
    /// More whole lines are in the backlog.
    pub more: bool,
}

impl Backlog {
    /// How many bytes are in the backlog.
    pub(super) fn len(&self) -> usize {
        self.held + self.open.len()
    }

    /// Is there a line that has begun and not ended?
    pub(super) fn has_begun(&self) -> bool {
        !self.open.is_empty()
    }

    /// A call begins: whole lines that are here already don't belong to it.
    pub(super) fn begin(&mut self, call: u32, invocation: InvocationId) {
        if let Some(end) = memrchr(b'\n', &self.open) {
            self.seal(end + 1);
        }
        self.calls.push((call, invocation));
    }

    /// The import is over; `left`: processes that it started are still running.
    pub(super) fn bound(&mut self, left: bool) {
        self.left = left;
    }

    /// A call has ended: all that it printed is here, except what was `dropped`. Returns whether there is anything to write.
    ///
    /// `left`: from now on, processes that calls or the import started are still running.
    pub(super) fn end(&mut self, call: u32, mut dropped: Dropped, left: bool) -> bool {
        let missing = dropped != Dropped::default();
        let ended = memrchr(b'\n', &self.open).map_or(0, |end| end + 1);
        if missing {
            // The line in which the missing output begins is dropped as a whole.
            dropped.bytes += self.open.len() - ended;
            self.open.truncate(ended);
        }
        let whole = if self.calls.len() == 1 {
            // An incomplete line must not become the beginning of another call's line.
            self.open.len()
        } else {
            ended
        };
        if whole > 0 {
            self.seal(whole);
        }
        if missing {
            self.note(dropped);
        }
        if let Some(at) = self.calls.iter().position(|(other, _)| *other == call) {
            self.past.add(self.calls.swap_remove(at));
        }
        self.left = left;
        !self.sealed.is_empty()
    }

    /// Ends the incomplete line: nothing more will be printed.
    pub(super) fn break_off(&mut self) {
        if !self.open.is_empty() {
            self.seal(self.open.len());
        }
    }

    fn seal(&mut self, length: usize) {
        self.held += length;
        self.sealed.push_back(Segment {
            calls: self.calls.clone(),
            left: self.left,
            at: SystemTime::now(),
            bytes: self.open.split_to(length),
            dropped: Dropped::default(),
        });
    }

    /// Notes that output was dropped; added to the newest segment, so that many such notes in a row make one line of the log.
    fn note(&mut self, dropped: Dropped) {
        if self.sealed.is_empty() {
            self.seal(0);
        }
        if let Some(last) = self.sealed.back_mut() {
            last.dropped.lines += dropped.lines;
            last.dropped.bytes += dropped.bytes;
        }
    }

    /// Takes lines out, the oldest first, until they cost `most`.
    pub(super) fn turn(&mut self, most: usize, sandbox: u64) -> Turn {
        let mut turn = Turn::default();
        while let Some(segment) = self.sealed.front_mut() {
            let mut entries = Entries::of_sandbox(sandbox, segment.at);
            let writers = Writers {
                calls: &segment.calls,
                past: &self.past,
                left: segment.left,
            };
            let before = segment.bytes.len();
            while turn.cost < most && !segment.bytes.is_empty() {
                let length = line(&segment.bytes).unwrap_or(segment.bytes.len());
                put(&mut turn, &mut entries, writers, &segment.bytes[..length]);
                segment.bytes.advance(length);
            }
            self.held -= before - segment.bytes.len();
            if !segment.bytes.is_empty() {
                turn.more = true;
                return turn;
            }
            if segment.dropped != Dropped::default() {
                turn.cost += LINE;
                turn.text.push_str(&segment.dropped.told(segment.at));
            }
            self.sealed.pop_front();
        }
        let mut entries = Entries::of_sandbox(sandbox, SystemTime::now());
        let writers = Writers {
            calls: &self.calls,
            past: &self.past,
            left: self.left,
        };
        while let Some(length) = line(&self.open) {
            if turn.cost >= most {
                turn.more = true;
                return turn;
            }
            put(&mut turn, &mut entries, writers, &self.open[..length]);
            self.open.advance(length);
        }
        turn
    }
}

impl Dropped {
    /// Counts `bytes` as dropped.
    pub(super) fn count(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.lines += memchr_iter(b'\n', bytes).count();
    }

    fn told(self, at: SystemTime) -> String {
        let Self { lines, bytes } = self;
        let text = format!(
            "{lines} lines ({bytes} bytes) are missing here: more was printed than a function's log takes"
        );
        let mut told = String::new();
        Entries::of_the_worker(at).write(&mut told, None, text.as_bytes());
        told
    }
}

fn put(turn: &mut Turn, entries: &mut Entries, writers: Writers<'_>, line: &[u8]) {
    if let Some(at) = change_of_writer(line) {
        let (before, after) = line.split_at(at);
        put(turn, entries, writers, before);
        return put(turn, entries, writers, after);
    }
    let (invocation, text) = writers.owner(line);
    entries.write(&mut turn.text, invocation, text);
    turn.cost += line.len() + LINE;
}

/// The length of the first line of `bytes`, with its newline; `None` if the newline isn't there yet.
fn line(bytes: &[u8]) -> Option<usize> {
    let window = &bytes[..bytes.len().min(LONGEST_LINE)];
    memchr(b'\n', window)
        .map(|end| end + 1)
        .or_else(|| (window.len() == LONGEST_LINE).then_some(LONGEST_LINE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> InvocationId {
        InvocationId { run: 1, number }
    }

    /// The lines of `turn` without their times.
    fn lines(turn: &Turn) -> Vec<&str> {
        turn.text
            .lines()
            .map(|line| line.split_once(' ').expect("a time").1)
            .collect()
    }

    #[test]
    fn what_was_printed_in_a_call_stays_its_own_however_late_it_is_written() {
        let mut backlog = Backlog::default();
        backlog.open.extend_from_slice(b"before\n");
        backlog.begin(1, id(1));
        backlog.open.extend_from_slice(b"in one\nunfinished");
        assert!(backlog.end(1, Dropped::default(), false));
        backlog.begin(2, id(2));
        backlog.open.extend_from_slice(b"in two\nhalf");
        let turn = backlog.turn(1 << 20, 7);
        assert_eq!(
            lines(&turn),
            [
                "[7] before",
                "[7 00000001-1] in one",
                "[7 00000001-1] unfinished",
                "[7 00000001-2] in two"
            ]
        );
        assert!(backlog.has_begun() && !turn.more);
        backlog.break_off();
        assert_eq!(lines(&backlog.turn(1, 7)), ["[7 00000001-2] half"]);
        assert_eq!(backlog.len(), 0);
    }

    #[test]
    fn an_empty_line_costs_what_is_written_for_it() {
        let mut backlog = Backlog::default();
        backlog.open.extend_from_slice(&[b'\n'; 1000]);
        let turn = backlog.turn(100 * (LINE + 1), 7);
        assert_eq!((turn.text.lines().count(), turn.more), (100, true));
        assert!(turn.text.len() <= turn.cost, "{turn:?}");
        assert_eq!(backlog.len(), 900);
    }

    #[test]
    fn what_was_dropped_is_told_in_one_line_however_often_it_happened() {
        let mut backlog = Backlog::default();
        for call in 1..=3 {
            backlog.begin(call, id(call.into()));
            backlog.open.extend_from_slice(b"cut ");
            let mut dropped = Dropped::default();
            dropped.count(b"off\ny\n");
            backlog.end(call, dropped, false);
        }
        assert_eq!(
            lines(&backlog.turn(1 << 20, 7)),
            [
                "[worker] 6 lines (30 bytes) are missing here: more was printed than a function's log takes"
            ]
        );
    }

    #[test]
    fn a_line_that_does_not_end_is_cut() {
        let mut backlog = Backlog::default();
        backlog.open.extend_from_slice(&[b'x'; LONGEST_LINE + 1]);
        let turn = backlog.turn(1 << 20, 7);
        assert_eq!(turn.text.lines().count(), 1);
        assert_eq!(backlog.len(), 1);
    }
}
