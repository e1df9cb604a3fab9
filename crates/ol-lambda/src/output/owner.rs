//! Finds the call that a printed line belongs to.
//!
//! The rules are in docs/reference/logs.md for people, in docs/reference/guest-protocol.md for runtimes.
//!
//! A call may start what outlives it. Threads, tasks and forked processes name their call in each line, by a tag. Other programs
//! don't; but at the end of a call the guest says whether any such process is left, and then lines without a tag belong to no call.

use crate::invocation::InvocationId;
use memchr::memchr;

/// The characters before and after the number of a call that tags a line.
const TAG: (u8, u8) = (0x1e, 0x1f);

/// The calls that ended last: what they started may still print.
#[derive(Debug, Default)]
pub(super) struct Past {
    calls: [Option<(u32, InvocationId)>; 16],
    next: usize,
}

impl Past {
    pub(super) fn add(&mut self, call: (u32, InvocationId)) {
        if let Some(place) = self.calls.get_mut(self.next) {
            *place = Some(call);
        }
        self.next = (self.next + 1) % self.calls.len();
    }
}

/// The calls that may have written a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writers<'a> {
    /// The calls in flight.
    pub calls: &'a [(u32, InvocationId)],
    pub past: &'a Past,
    /// Processes are still running that an ended call or the import started.
    pub left: bool,
}

impl Writers<'_> {
    /// The invocation that `line` belongs to, and the line without its tag.
    ///
    /// A line without a tag belongs to the only call in flight, unless processes are left that may have written it.
    pub(super) fn owner<'a>(&self, line: &'a [u8]) -> (Option<InvocationId>, &'a [u8]) {
        if let Some((tag, text)) = tagged(line) {
            let mut all = self.calls.iter().chain(self.past.calls.iter().flatten());
            let known = all.find(|(call, _)| Some(*call) == tag);
            return (known.map(|(_, invocation)| *invocation), text);
        }
        let only = match self.calls {
            [(_, invocation)] if !self.left => Some(*invocation),
            _ => None,
        };
        (only, line)
    }
}

/// Parses the tag of `line`: the call that it names (`None` if it says no call), and the rest; `None` if there is no tag.
fn tagged(line: &[u8]) -> Option<(Option<u32>, &[u8])> {
    let (first, rest) = line.split_first()?;
    if *first != TAG.0 {
        return None;
    }
    let end = rest.iter().take(11).position(|byte| *byte == TAG.1)?;
    let number = match &rest[..end] {
        [] => None,
        digits => Some(std::str::from_utf8(digits).ok()?.parse().ok()?),
    };
    Some((number, &rest[end + 1..]))
}

/// Where a tag begins within an untagged line: one process wrote the beginning of a line, and then another wrote a whole line.
pub(super) fn change_of_writer(line: &[u8]) -> Option<usize> {
    let at = memchr(TAG.0, line)?;
    (at > 0 && tagged(&line[at..]).is_some()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> InvocationId {
        InvocationId { run: 1, number }
    }

    /// The owner of `line`, and its text.
    fn owner<'a>(
        calls: &[(u32, InvocationId)],
        past: &Past,
        left: bool,
        line: &'a [u8],
    ) -> (Option<InvocationId>, &'a [u8]) {
        Writers { calls, past, left }.owner(line)
    }

    #[test]
    fn a_line_belongs_to_its_tag_or_to_the_only_call() {
        let (past, two) = (Past::default(), [(4, id(40)), (5, id(50))]);
        assert_eq!(
            owner(&two, &past, false, b"\x1e5\x1fhello"),
            (Some(id(50)), &b"hello"[..])
        );
        assert_eq!(
            owner(&two, &past, false, b"\x1e9\x1fhello"),
            (None, &b"hello"[..])
        );
        assert_eq!(owner(&two, &past, false, b"hello"), (None, &b"hello"[..]));
        assert_eq!(
            owner(&two[..1], &past, false, b"hello"),
            (Some(id(40)), &b"hello"[..])
        );
        assert_eq!(
            owner(&two[..1], &past, false, b"\x1e\x1fhello"),
            (None, &b"hello"[..])
        );
        assert_eq!(
            owner(&two[..1], &past, false, b"\x1ehello"),
            (Some(id(40)), &b"\x1ehello"[..])
        );
        assert_eq!(owner(&[], &past, false, b"hello"), (None, &b"hello"[..]));
    }

    #[test]
    fn what_outlives_its_call_is_not_the_next_one_s() {
        let (mut past, next) = (Past::default(), [(7, id(70))]);
        past.add((6, id(60)));
        assert_eq!(
            owner(&next, &past, false, b"\x1e6\x1flate"),
            (Some(id(60)), &b"late"[..])
        );
        assert_eq!(owner(&next, &past, true, b"whose?"), (None, &b"whose?"[..]));
        assert_eq!(
            owner(&next, &past, true, b"\x1e7\x1fmine"),
            (Some(id(70)), &b"mine"[..])
        );
        for call in 8..30 {
            past.add((call, id(1)));
        }
        assert_eq!(
            owner(&next, &past, false, b"\x1e6\x1flate"),
            (None, &b"late"[..]),
            "forgotten"
        );
    }

    #[test]
    fn a_line_that_was_begun_by_another_is_two() {
        assert_eq!(change_of_writer(b"half \x1e5\x1fwhole"), Some(5));
        let own_text = b"\x1e5\x1fa \x1e5\x1fb";
        assert_eq!(change_of_writer(own_text), None);
        assert_eq!(change_of_writer(b"half \x1ewhole"), None);
    }
}
