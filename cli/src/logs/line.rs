//! Parses a line of a function's log.
//!
//! ```text
//!   2026-11-24T17:30:00.123Z [3 6743a1f0-1042] hello     printed in sandbox 3 for an invocation
//!   2026-11-24T17:30:00.123Z [3] hello                   printed in sandbox 3 outside any
//!   2026-11-24T17:30:00.123Z [worker 6743a1f0-1042] …    the worker's note about an invocation
//!   2026-11-24T17:30:00.123Z [worker] …                  the worker's note about the function
//! ```
//!
//! Everything up to the first `]` is written by the worker. A function that prints something similar prints it after that, thus can't
//! pretend to be another invocation.

use serde_json::{Value, json};

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// RFC 3339, UTC.
    time: &'a str,
    /// `None` for lines of the worker.
    sandbox: Option<u64>,
    invocation: Option<&'a str>,
    text: &'a str,
}

impl<'a> Line<'a> {
    /// Parses a line; `None` when the worker didn't write it like this: another program wrote to the file, or a crash cut it off.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let (time, rest) = line.split_once(" [")?;
        if !is_time(time) {
            return None;
        }
        let (source, text) = rest.split_once(']')?;
        // A line without text may have lost the space at its end.
        let text = if text.is_empty() {
            text
        } else {
            text.strip_prefix(' ')?
        };
        let (source, invocation) = match source.split_once(' ') {
            Some((source, invocation)) => (source, Some(invocation)),
            None => (source, None),
        };
        if invocation.is_some_and(|id| id.is_empty() || id.contains(' ')) {
            return None;
        }
        let sandbox = match source {
            "worker" => None,
            number => Some(number.parse().ok()?),
        };
        Some(Self {
            time,
            sandbox,
            invocation,
            text,
        })
    }

    pub(super) fn is_of(&self, invocation: &str) -> bool {
        self.invocation == Some(invocation)
    }

    pub(super) fn to_json(&self) -> Value {
        let sandbox = self.sandbox.map_or(json!("worker"), |number| json!(number));
        json!({"time": self.time, "sandbox": sandbox, "invocation": self.invocation, "text": self.text})
    }
}

/// The JSON of a line that can't be parsed, instead of [`Line::to_json`].
pub(super) fn unknown(line: &str) -> Value {
    json!({"time": null, "sandbox": null, "invocation": null, "text": line})
}

/// `2026-11-24T17:30:00.123Z`, by its shape.
fn is_time(text: &str) -> bool {
    let shape = text
        .bytes()
        .map(|b| if b.is_ascii_digit() { b'0' } else { b });
    shape.eq(*b"0000-00-00T00:00:00.000Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-24T17:30:00.123Z";

    #[test]
    fn all_four_shapes() {
        for (source, sandbox, invocation) in [
            ("3 6743a1f0-1042", json!(3), json!("6743a1f0-1042")),
            ("3", json!(3), Value::Null),
            (
                "worker 6743a1f0-1042",
                json!("worker"),
                json!("6743a1f0-1042"),
            ),
            ("worker", json!("worker"), Value::Null),
        ] {
            for text in ["hello", "", "[9 x] y", " two  spaces "] {
                let line = format!("{TIME} [{source}] {text}");
                let got = Line::parse(&line)
                    .unwrap_or_else(|| panic!("{line}"))
                    .to_json();
                let expected = json!({"time": TIME, "sandbox": sandbox, "invocation": invocation, "text": text});
                assert_eq!(got, expected, "{line}");
            }
        }
        assert!(Line::parse(&format!("{TIME} [3]")).is_some());
    }

    #[test]
    fn an_invocation_is_matched_as_a_whole() {
        let line = format!("{TIME} [3 6743a1f0-10] hello");
        let line = Line::parse(&line).expect("a line");
        assert!(line.is_of("6743a1f0-10"));
        for other in [
            "6743a1f0-1",
            "6743a1f0-100",
            "6743A1F0-10",
            "",
            "hello",
            "3",
        ] {
            assert!(!line.is_of(other), "{other}");
        }
        // A prefix that the function printed doesn't change the line's invocation.
        let forged = format!("{TIME} [3] [4 other] {TIME} [4 other] x");
        assert!(!Line::parse(&forged).expect("a line").is_of("other"));
        assert!(
            !Line::parse(&format!("{TIME} [3] x"))
                .expect("a line")
                .is_of("")
        );
    }

    #[test]
    fn other_lines_are_nobodys() {
        for line in [
            "",
            "hello",
            " [3] x",
            "2026-11-24 [3] x",
            "2026-11-24T17:30:00.123Z 3 x",
            "2026-11-24T17:30:00.123Z [3 x",
            "2026-11-24T17:30:00.123Z [three] x",
            "2026-11-24T17:30:00.123Z [3 a b] x",
            "2026-11-24T17:30:00.123Z [3 ] x",
            "2026-11-24T17:30:00.123Z [3]x",
            "2026-11-24T17:30:00.123Z",
        ] {
            assert_eq!(Line::parse(line), None, "{line:?}");
        }
        assert_eq!(unknown("x")["text"], "x");
    }
}
