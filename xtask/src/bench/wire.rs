//! Just enough HTTP/1.1 to call a function and to check its answer, with little CPU.
//!
//! Exists because the load generator shares two cores with what it measures: a general client would use as much CPU as the server. The
//! floor and the worker get the same bytes.

use std::borrow::Cow;

use anyhow::{Context as _, Result, bail, ensure};

/// The path of the echo function; the floor answers at any path.
pub(super) const ECHO: &str = "/run/echo";

/// Writes one request into `out`, replacing its content.
pub(super) fn write_request(out: &mut Vec<u8>, method: &str, path: &str, body: &[u8]) {
    write_request_with(out, method, path, "", body);
}

/// Like [`write_request`], with more header lines: `lines`, each with its line end.
pub(super) fn write_request_with(
    out: &mut Vec<u8>,
    method: &str,
    path: &str,
    lines: &str,
    body: &[u8],
) {
    out.clear();
    for part in [method, " ", path, " HTTP/1.1\r\nHost: localhost\r\n", lines] {
        out.extend_from_slice(part.as_bytes());
    }
    if method != "GET" {
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

/// A JSON object that no other call sends: `number` is unique, `padding` sets the size in bytes.
pub(super) fn echo_body(number: u64, padding: usize) -> Vec<u8> {
    let mut body = format!("{{\"call\": {number}, \"pad\": \"").into_bytes();
    // Different letters, so that a shifted or torn body is noticed.
    body.extend((0..padding as u64).map(|i| b'a' + ((i + number) % 26) as u8));
    body.extend_from_slice(b"\"}");
    body
}

/// A complete answer at the start of a buffer.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    /// The status line and the header lines.
    head: &'a str,
    pub(super) body: Cow<'a, [u8]>,
    /// How many bytes of the buffer it takes up.
    pub(super) length: usize,
}

impl Answer<'_> {
    /// The value of the header `name`.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.split("\r\n").skip(1);
        fields
            .filter_map(|line| line.split_once(':'))
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// Fails unless this is a 200 with the body `wanted`. Spaces are ignored, because JSON may be written with or without them; `wanted`
    /// has none inside its strings.
    pub(super) fn must_say(&self, wanted: &[u8]) -> Result<()> {
        let letters = |text: &[u8]| {
            text.iter()
                .copied()
                .filter(|b| *b != b' ')
                .collect::<Vec<_>>()
        };
        if self.status == 200 && (*self.body == *wanted || letters(&self.body) == letters(wanted)) {
            return Ok(());
        }
        bail!(
            "wrong answer: wanted {}, got status {} and {}",
            shortened(wanted),
            self.status,
            shortened(&self.body)
        )
    }
}

fn shortened(text: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&text[..text.len().min(300)]);
    format!("{} bytes {shown:?}", text.len())
}

/// Reads the answer at the start of `buffer`; `None` while it is incomplete.
pub(super) fn parse(buffer: &[u8]) -> Result<Option<Answer<'_>>> {
    let Some(head_end) = find(buffer, b"\r\n\r\n") else {
        ensure!(buffer.len() < 64 * 1024, "an answer's head is over 64 KiB");
        return Ok(None);
    };
    let head = std::str::from_utf8(&buffer[..head_end]).context("an answer's head isn't text")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("not an HTTP/1.1 answer: {head:?}"))?;

    let (mut content_length, mut chunked) = (None, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            bail!("a header line without a colon: {line:?}")
        };
        if name.eq_ignore_ascii_case("content-length") {
            content_length = Some(value.trim().parse::<usize>()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    let body_start = head_end + 4;
    let rest = &buffer[body_start..];
    let taken = match (chunked, content_length) {
        (true, _) => unchunk(rest)?.map(|(body, length)| (Cow::Owned(body), length)),
        (false, Some(length)) => rest.get(..length).map(|b| (Cow::Borrowed(b), length)),
        (false, None) => bail!("an answer without a length: {head:?}"),
    };
    Ok(taken.map(|(body, length)| Answer {
        status,
        head,
        body,
        length: body_start + length,
    }))
}

/// The body of a chunked message, and the bytes that it takes up; `None` while it is incomplete.
fn unchunk(mut rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>> {
    let (whole, mut body) = (rest.len(), Vec::new());
    loop {
        let Some(line_end) = find(rest, b"\r\n") else {
            return Ok(None);
        };
        let line = std::str::from_utf8(&rest[..line_end])?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16)
            .with_context(|| format!("not a chunk size: {line:?}"))?;
        let Some(after) = rest.get(line_end + 2 + size + 2..) else {
            return Ok(None);
        };
        body.extend_from_slice(&rest[line_end + 2..line_end + 2 + size]);
        rest = after;
        if size == 0 {
            return Ok(Some((body, whole - rest.len())));
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"call\":1",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{\"ca\r\n5;x\r\nll\":1\r\n0\r\n\r\n",
        ] {
            for cut in 0..text.len() {
                let answer = parse(&text.as_bytes()[..cut]).expect("cut short, not malformed");
                assert!(answer.is_none(), "{cut} bytes of {text:?}");
            }
            let more = format!("{text}HTTP/1.1 500");
            let answer = parse(more.as_bytes()).expect("well formed").expect("whole");
            assert_eq!((answer.status, answer.length), (200, text.len()));
            assert_eq!(answer.header("x-none"), None);
            assert_eq!(&*answer.body, b"{\"call\":1");
        }
    }

    #[test]
    fn an_answer_is_compared_by_what_it_says() {
        let answer = |status, body: &[u8]| {
            Answer {
                status,
                head: "",
                body: Cow::Owned(body.to_vec()),
                length: 0,
            }
            .must_say(&echo_body(7, 3))
        };
        assert!(answer(200, b"{\"call\": 7, \"pad\": \"hij\"}").is_ok());
        assert!(answer(200, b"{\"call\":7,\"pad\":\"hij\"}").is_ok());
        assert!(answer(200, b"{\"call\":8,\"pad\":\"hij\"}").is_err());
        assert!(answer(500, b"{\"call\":7,\"pad\":\"hij\"}").is_err());
    }

    #[test]
    fn a_request_says_its_length() {
        let mut out = b"old".to_vec();
        write_request(&mut out, "POST", ECHO, b"{}");
        assert_eq!(
            out,
            b"POST /run/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
        );
    }
}
