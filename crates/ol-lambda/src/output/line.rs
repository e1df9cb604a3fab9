//! One line of a function's log: `TIME [SANDBOX INVOCATION] text`, which `ol logs` parses.
//!
//! Lines are written by tenants, so anything that a terminal would obey or hide is escaped ([`visible`]).

use crate::invocation::InvocationId;
use ol_model::visible::visible;
use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};

/// Formats lines of one moment and one source; the text that they share is made once.
pub(super) struct Entries {
    /// `TIME [SOURCE`
    head: String,
    /// The invocation of the previous line, and its text: ` ID`, or empty.
    last: (Option<InvocationId>, String),
}

impl Entries {
    /// For lines that a process of this sandbox prints.
    pub(super) fn of_sandbox(number: u64, now: SystemTime) -> Self {
        Self::of(&number, now)
    }

    /// For lines in which the worker says something of the function.
    pub(super) fn of_the_worker(now: SystemTime) -> Self {
        Self::of(&"worker", now)
    }

    fn of(source: &dyn Display, now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = timestamp(since.as_secs(), since.subsec_millis());
        Self {
            head: format!("{time} [{source}"),
            last: (None, String::new()),
        }
    }

    /// Adds one line to `text`.
    pub(super) fn write(
        &mut self,
        text: &mut String,
        invocation: Option<InvocationId>,
        line: &[u8],
    ) {
        if self.last.0 != invocation {
            let id = invocation.map_or_else(String::new, |id| format!(" {id}"));
            self.last = (invocation, id);
        }
        text.push_str(&self.head);
        text.push_str(&self.last.1);
        text.push_str("] ");
        let line = String::from_utf8_lossy(line);
        text.push_str(&visible(line.trim_end_matches(['\n', '\r'])));
        text.push('\n');
    }
}

/// Formats seconds since 1970 by RFC 3339 (civil-from-days, proleptic Gregorian).
fn timestamp(seconds: u64, millis: u32) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_line_carries_time_and_source_and_can_not_drive_a_terminal() {
        let at = UNIX_EPOCH + Duration::from_millis(1_709_210_096_007);
        let id = InvocationId {
            run: 0xa1,
            number: 7,
        };
        let mut text = String::new();
        Entries::of_sandbox(3, at).write(&mut text, Some(id), b"a\x1b[2Jb\tc\r\n");
        Entries::of_the_worker(UNIX_EPOCH).write(&mut text, None, b"");
        assert_eq!(
            text,
            "2024-02-29T12:34:56.007Z [3 000000a1-7] a\\u{1b}[2Jb\tc\n\
             1970-01-01T00:00:00.000Z [worker] \n"
        );
    }
}
