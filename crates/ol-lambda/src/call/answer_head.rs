//! The head of an answer, checked against what HTTP allows (RFC 9110 §6.4, §8.6, §15).
//!
//! The runtimes make the same checks where the function can see them. A bad head that arrives here anyway comes from a guest that
//! was tampered with. Only this call fails; the guest's other calls aren't affected.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};

/// The most header lines that an answer may have.
const MOST_LINES: usize = 100;

/// The most bytes that the names and values of its headers may have together.
const MOST_BYTES: usize = 64 << 10;

/// How much of an invalid header name is shown.
const SHOWN: usize = 60;

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AnswerHead {
    /// The status, from 200 to 999.
    pub status: u16,
    /// The headers without `Content-Length`; names in lower case.
    pub headers: Vec<(String, Bytes)>,
    /// The value of `Content-Length`.
    pub length: Option<u64>,
    /// The head was empty, which means that the body is JSON.
    pub json: bool,
}

#[derive(serde::Deserialize)]
struct Written {
    status: i64,
    headers: Vec<(String, String)>,
}

impl AnswerHead {
    /// Parses the head that a guest sent; an empty head means status 200 and JSON. An error says why the head is invalid.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self {
                status: 200,
                headers: Vec::new(),
                length: None,
                json: true,
            });
        }
        let written: Written = serde_json::from_slice(text)
            .map_err(|error| format!("its head can't be read: {error}"))?;
        let lines = written.headers.len();
        if lines > MOST_LINES {
            return Err(format!(
                "it has {lines} header lines, and an answer may have {MOST_LINES}"
            ));
        }
        let bytes: usize = written.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
        if bytes > MOST_BYTES {
            return Err(format!(
                "its headers have {bytes} bytes, and an answer's may have {MOST_BYTES}"
            ));
        }
        let mut head = Self {
            status: status(written.status)?,
            headers: Vec::with_capacity(lines),
            length: None,
            json: false,
        };
        for (name, value) in written.headers {
            head.add(name, value)?;
        }
        Ok(head)
    }

    fn add(&mut self, name: String, value: String) -> Result<(), String> {
        let known = HeaderName::try_from(&*name);
        let known = known.map_err(|_| format!("{} is no name of a header", shown(&name)))?;
        let value = latin(value).ok_or_else(|| {
            format!("the value of its header {known} holds a byte that HTTP doesn't allow there")
        })?;
        if known != CONTENT_LENGTH {
            let lower = known.as_str();
            let name = if name == lower {
                name
            } else {
                lower.to_owned()
            };
            self.headers.push((name, value));
            return Ok(());
        }
        let digits = value.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(&value).ok().filter(|_| digits);
        let length = length.and_then(|text| text.parse().ok()).ok_or_else(|| {
            format!(
                "its Content-Length {} is no number of bytes",
                shown(&String::from_utf8_lossy(&value))
            )
        })?;
        match self.length.replace(length) {
            Some(other) if other != length => {
                Err(format!("it says Content-Length {other} and {length}"))
            }
            _ => Ok(()),
        }
    }

    /// Is the status one that no content follows, whatever the method?
    pub(super) fn is_bodiless(&self) -> bool {
        matches!(self.status, 204 | 205 | 304)
    }

    /// The length that the body must have, if the head has one and a body is sent. `wanted`: does the caller want a body?
    pub(super) fn promised(&self, wanted: bool) -> Option<u64> {
        self.length.filter(|_| wanted && !self.is_bodiless())
    }
}

fn status(number: i64) -> Result<u16, String> {
    let status = u16::try_from(number).ok();
    let status = status.filter(|number| (200..1000).contains(number));
    status.ok_or_else(|| format!("its status is {number}, and an answer's is from 200 to 999"))
}

/// Converts a header's value, in which each character stands for a byte (docs/reference/guest-protocol.md); `None` if one can't.
fn latin(text: String) -> Option<Bytes> {
    let bytes = if text.is_ascii() {
        Bytes::from(text)
    } else {
        let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
        Bytes::from(bytes?)
    };
    HeaderValue::from_maybe_shared(bytes.clone())
        .is_ok()
        .then_some(bytes)
}

fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    format!("{short:?}")
}

/// Counts a body against the length that was promised for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    promised: Option<u64>,
    sent: u64,
}

impl Measure {
    pub(super) fn new(promised: Option<u64>) -> Self {
        Self { promised, sent: 0 }
    }

    /// Counts a part of `bytes` bytes; `last` says whether it is the last. An error says what is wrong with the whole.
    pub(super) fn take(&mut self, bytes: usize, last: bool) -> Result<(), String> {
        self.sent += bytes as u64;
        let sent = self.sent;
        match self.promised {
            Some(promised) if sent > promised => Err(format!(
                "its Content-Length is {promised}, and its body has more bytes"
            )),
            Some(promised) if last && sent < promised => Err(format!(
                "its Content-Length is {promised}, and its body has {sent} bytes"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(status: i64, headers: &[(&str, &str)]) -> Result<AnswerHead, String> {
        let head = serde_json::json!({"status": status, "headers": headers});
        AnswerHead::parse(head.to_string().as_bytes())
    }

    #[test]
    fn nothing_said_is_json() {
        let head = AnswerHead::parse(b"").expect("sound");
        assert_eq!((head.status, head.json), (200, true));
        assert!(!parse(200, &[]).expect("sound").json);
    }

    #[test]
    fn a_status_is_from_200_to_999() {
        for sound in [200, 204, 418, 599, 600, 999] {
            let head = parse(sound, &[]).expect("sound");
            assert_eq!(i64::from(head.status), sound);
        }
        for wrong in [-1, 0, 99, 100, 101, 103, 199, 1000, 65_736, i64::MAX] {
            let why = parse(wrong, &[]).expect_err("no status");
            assert!(why.contains(&wrong.to_string()), "{why}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_head_is_named() {
        let many = vec![("x", "1"); MOST_LINES + 1];
        let long = "x".repeat(MOST_BYTES);
        for (headers, part) in [
            (&many[..], "101 header lines"),
            (&[("x", long.as_str())], "65537 bytes"),
            (&[("a b", "1")], "\"a b\" is no name"),
            (&[("", "1")], "\"\" is no name"),
            (&[("x\r\ny", "1")], "is no name"),
            (&[("x-v", "a\r\n b")], "x-v holds"),
            (&[("x-v", "a\0")], "x-v holds"),
            (&[("x-v", "\u{100}")], "x-v holds"),
            (&[("Content-Length", "+5")], "\"+5\" is no number"),
            (&[("content-length", "")], "is no number"),
            (
                &[("content-length", "99999999999999999999")],
                "is no number",
            ),
            (
                &[("content-length", "5"), ("Content-Length", "6")],
                "Content-Length 5 and 6",
            ),
        ] {
            let why = parse(200, headers).expect_err(part);
            assert!(why.contains(part), "{part}: {why}");
        }
        let twice = [("content-length", "5"), ("Content-Length", "5")];
        assert_eq!(parse(200, &twice).expect("the same").length, Some(5));
        for nonsense in [&b"{"[..], b"[]", b"{\"status\": 200}", b"\xff"] {
            assert!(AnswerHead::parse(nonsense).is_err());
        }
    }

    #[test]
    fn a_length_is_held_to_where_a_body_is_sent() {
        let promised = |status, wanted: bool| {
            let head = parse(status, &[("content-length", "5")]).expect("sound");
            head.promised(wanted)
        };
        assert_eq!(promised(200, true), Some(5));
        assert_eq!(promised(404, true), Some(5));
        assert_eq!(promised(200, false), None);
        for status in [204, 205, 304] {
            assert_eq!(promised(status, true), None);
        }
        let mut measure = Measure::new(Some(5));
        assert!(measure.take(3, false).is_ok() && measure.take(2, true).is_ok());
        assert!(Measure::new(Some(5)).take(4, true).is_err());
        assert!(Measure::new(Some(5)).take(6, false).is_err());
        assert!(Measure::new(None).take(6, true).is_ok());
    }

    proptest! {
        #[test]
        fn no_head_panics_and_each_that_passes_can_be_sent(
            status in any::<i16>(),
            headers in prop::collection::vec((".{0,8}", ".{0,8}"), 0..4),
        ) {
            let text = serde_json::json!({"status": status, "headers": headers}).to_string();
            if let Ok(head) = AnswerHead::parse(text.as_bytes()) {
                prop_assert!(head.status >= 200);
                for (_, value) in head.headers {
                    prop_assert!(!value.iter().any(|b| b"\r\n\0".contains(b)));
                }
            }
        }
    }
}
