//! The rules that a request's head must keep on every route; checked before routing (RFC 9112; RFC 9110, 9.3.6).

use crate::respond::Problem;
use http::header::{HOST, HeaderMap, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Method, Request, StatusCode, Version};

/// Refuses a request whose head breaks a rule.
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    host(request.version(), request.headers())?;
    transfer(request.headers())?;
    if request.method() == Method::CONNECT {
        return Err(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "not-implemented",
            "CONNECT is for proxies, and this is none: call a function by another method at /run/NAME",
        ));
    }
    Ok(())
}

/// Checks that there is one valid `Host`, or none in HTTP/1.0, which permits that.
fn host(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    let bad = |text| Err(Problem::new(StatusCode::BAD_REQUEST, "bad-request", text));
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return match version {
            Version::HTTP_11 => {
                bad("the request has no Host header: send one, HTTP/1.1 requires it")
            }
            _ => Ok(()),
        };
    };
    if hosts.next().is_some() {
        return bad("the request has more than one Host header: send one");
    }
    let names = |authority: Authority| {
        let rest = authority.as_str().strip_prefix(authority.host());
        let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(digits))
    };
    // An empty `Host` is valid: a client sends that when the request's URI has no host.
    let host = host.as_bytes();
    let valid = is_plain(host) || host.is_empty() || Authority::try_from(host).is_ok_and(names);
    if valid {
        Ok(())
    } else {
        bad("the request's Host header is no HOST or HOST:PORT: send one that is")
    }
}

/// Is `host` a `NAME`, `NAME:PORT` or IPv4 address of plain characters only, so that it needn't be parsed?
///
/// Nearly all are, and the check is made for every request.
fn is_plain(host: &[u8]) -> bool {
    let name = host.iter().position(|byte| *byte == b':');
    let (name, port) = host.split_at(name.unwrap_or(host.len()));
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let digits = |port: &[u8]| port.iter().all(u8::is_ascii_digit);
    !name.is_empty() && name.iter().all(letter) && digits(port.strip_prefix(b":").unwrap_or(port))
}

/// Checks that the only transfer coding is `chunked`, applied once: no other one is decoded here.
fn transfer(headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    let lines = headers.get_all(TRANSFER_ENCODING);
    let mut codings = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !coding.is_empty());
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if chunked(only) => Ok(()),
        (Some(first), rest) => Err(if rest.is_some_and(chunked) && chunked(first) {
            let text = "the request's Transfer-Encoding says chunked more than once: say it once";
            Problem::new(StatusCode::BAD_REQUEST, "bad-request", text)
        } else {
            unknown_coding()
        }),
    }
}

/// The answer to a body with any other transfer coding.
pub(crate) fn unknown_coding() -> Problem {
    Problem::new(
        StatusCode::NOT_IMPLEMENTED,
        "not-implemented",
        "the request's Transfer-Encoding isn't chunked alone: send the body in chunks, or with a Content-Length",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: Version, method: &str, lines: &[(&str, &str)]) -> u16 {
        let mut request = http::Request::builder().version(version).method(method);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        match check(&request.body(()).expect("a request")) {
            Ok(()) => 200,
            Err(problem) => problem.respond(&HeaderMap::new()).status().as_u16(),
        }
    }

    #[test]
    fn a_host_is_there_once_and_is_one() {
        let one = |host| status(Version::HTTP_11, "GET", &[("host", host)]);
        for good in [
            "",
            "localhost",
            "localhost:5000",
            "[::1]:80",
            "10.0.0.1",
            "ä.example",
        ] {
            assert_eq!(one(good), if good.is_ascii() { 200 } else { 400 }, "{good}");
        }
        for bad in ["a b", "user@localhost", "a/b", "localhost:99999x", "[::1"] {
            assert_eq!(one(bad), 400, "{bad}");
        }
        assert_eq!(status(Version::HTTP_11, "GET", &[]), 400);
        assert_eq!(status(Version::HTTP_10, "GET", &[]), 200);
        let twice = [("host", "a"), ("host", "a")];
        assert_eq!(status(Version::HTTP_11, "GET", &twice), 400);
        assert_eq!(status(Version::HTTP_10, "GET", &twice), 400);
    }

    #[test]
    fn a_body_is_chunked_once_or_not_at_all() {
        let sent = |lines: &[&str]| {
            let mut headers = vec![("host", "a")];
            headers.extend(lines.iter().map(|line| ("transfer-encoding", *line)));
            status(Version::HTTP_11, "POST", &headers)
        };
        assert_eq!(sent(&["chunked"]), 200);
        assert_eq!(sent(&["Chunked"]), 200);
        assert_eq!(sent(&["chunked, chunked"]), 400);
        assert_eq!(sent(&["chunked", "chunked"]), 400);
        assert_eq!(sent(&["gzip, chunked"]), 501);
        assert_eq!(sent(&["gzip", "chunked"]), 501);
        assert_eq!(sent(&["identity, chunked"]), 501);
        assert_eq!(sent(&["identity"]), 501);
        assert_eq!(sent(&["chunked, gzip"]), 501);
    }

    #[test]
    fn this_is_no_proxy() {
        let host = [("host", "a")];
        assert_eq!(status(Version::HTTP_11, "CONNECT", &host), 501);
        assert_eq!(status(Version::HTTP_11, "BREW", &host), 200);
    }
}
