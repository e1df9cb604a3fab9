//! One line of a function's log: `TIME [SANDBOX INVOCATION] text`, as `ol logs` reads it again.
//!
//! Lines are the tenant's, so control characters are escaped: a terminal that shows the log must not obey them.

use crate::invoke::InvocationId;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A process of this sandbox.
    Sandbox(u64),
    /// The worker, of the function.
    Worker,
}

/// One line of the log.
pub(super) fn entry(
    now: SystemTime,
    source: Source,
    invocation: Option<InvocationId>,
    line: &[u8],
) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = timestamp(since.as_secs(), since.subsec_millis());
    // Writing to a String can't fail.
    let _ = match source {
        Source::Sandbox(number) => write!(text, " [{number}"),
        Source::Worker => write!(text, " [worker"),
    };
    if let Some(id) = invocation {
        let _ = write!(text, " {id}");
    }
    text.push_str("] ");
    for c in String::from_utf8_lossy(line)
        .trim_end_matches(['\n', '\r'])
        .chars()
    {
        if c.is_control() && c != '\t' {
            let _ = write!(text, "{}", c.escape_default());
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    text
}

/// RFC 3339 from seconds since 1970 (civil-from-days, proleptic Gregorian).
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
        assert_eq!(
            entry(at, Source::Sandbox(3), Some(id), b"a\x1b[2Jb\tc\r\n"),
            "2024-02-29T12:34:56.007Z [3 000000a1-7] a\\u{1b}[2Jb\tc\n"
        );
        assert_eq!(
            entry(UNIX_EPOCH, Source::Worker, None, b""),
            "1970-01-01T00:00:00.000Z [worker] \n"
        );
    }
}
