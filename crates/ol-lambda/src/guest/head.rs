//! The head of a CALL: what a function is told of a request (docs/reference/guest-protocol.md).

use crate::invoke::{InvocationId, InvokeError, Request};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use ol_model::{Limits, MiB};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::net::SocketAddr;

#[derive(serde::Serialize)]
struct Head<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: Headers<'a>,
    root: &'a str,
    scheme: &'a str,
    client: Option<(String, u16)>,
    server: (&'a str, u16),
    http: &'a str,
}

/// The JSON of `request` for a function that is called at `/run/NAME`.
pub(crate) fn web(request: &Request<'_>) -> Vec<u8> {
    let parts = request.parts;
    let path = parts.uri.path();
    let root_length = "/run/".len() + request.name.as_str().len();
    let (root, path) = path.split_at(root_length.min(path.len()));
    let head = Head {
        method: parts.method.as_str(),
        path: if path.is_empty() { "/" } else { path },
        query: parts.uri.query().unwrap_or_default(),
        headers: Headers(&parts.headers, request.id),
        root,
        scheme: "http",
        client: request.client.map(|at| (at.ip().to_string(), at.port())),
        server: server(&parts.headers, request.server),
        http: if parts.version == http::Version::HTTP_10 {
            "1.0"
        } else {
            "1.1"
        },
    };
    serde_json::to_vec(&head).expect("text and numbers always serialize")
}

/// What part of a function's memory a body may have once it is decoded: it lies there beside its text, and what is made of that.
const SHARE: u64 = 4;

/// For `f(event)`, which isn't told of the request: nothing, or how to decode the body and how long it may be then. That is done in the
/// function's sandbox, where a body that grows beyond measure costs nobody else anything.
///
/// # Errors
/// When it is encoded in another way than gzip.
pub(crate) fn plain(
    headers: &HeaderMap,
    most: MiB,
    limits: &Limits,
) -> Result<Vec<u8>, InvokeError> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(Vec::new());
    }
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        let named = value.split(',').map(str::trim);
        let real = named.filter(|coding| !matches!(*coding, "" | "identity"));
        codings.extend(real.map(str::to_owned));
    }
    match &codings[..] {
        [] => Ok(Vec::new()),
        [one] if one == "gzip" || one == "x-gzip" => {
            let limit = most.bytes().min(limits.mem.bytes() / SHARE);
            let head = serde_json::json!({"encoding": "gzip", "limit": limit});
            Ok(head.to_string().into_bytes())
        }
        others => Err(InvokeError::UnknownEncoding(
            others.join(", ").chars().take(60).collect(),
        )),
    }
}

/// The server as the client named it; where it listens, if he named none.
fn server(headers: &HeaderMap, at: Option<SocketAddr>) -> (&str, u16) {
    let port = at.map_or(80, |at| at.port());
    let named = headers
        .get(http::header::HOST)
        .and_then(|h| h.to_str().ok());
    let Some(named) = named.filter(|name| !name.is_empty()) else {
        return ("localhost", port);
    };
    match named.rsplit_once(':') {
        // Not the colons within an IPv6 address.
        Some((host, number)) if !number.contains(']') => (host, number.parse().unwrap_or(port)),
        _ => (named, 80),
    }
}

/// Names the invocation; a caller's own header of that name is dropped, for it would be believed.
const INVOCATION: &str = "x-ol-invocation";

/// As pairs; names are lower case already, values are bytes as Latin-1.
struct Headers<'a>(&'a HeaderMap, InvocationId);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for (name, value) in self.0 {
            if name == INVOCATION {
                continue;
            }
            match value.to_str() {
                Ok(text) => list.serialize_element(&(name.as_str(), text))?,
                Err(_) => {
                    let latin: String = value.as_bytes().iter().map(|b| char::from(*b)).collect();
                    list.serialize_element(&(name.as_str(), latin))?;
                }
            }
        }
        list.serialize_element(&(INVOCATION, self.1.to_string()))?;
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ol_model::FunctionName;

    fn head(uri: &str, host: &[u8]) -> serde_json::Value {
        let request = http::Request::builder()
            .uri(uri)
            .header("Host", host)
            .header("X-OL-Invocation", "forged")
            .header("X-Name", &b"caf\xe9"[..]);
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let request = Request {
            name: &FunctionName::parse("app").expect("a name"),
            id: InvocationId { run: 1, number: 2 },
            parts: &parts,
            client: Some(([127, 0, 0, 1], 9).into()),
            server: Some(([127, 0, 0, 1], 5000).into()),
        };
        serde_json::from_slice(&web(&request)).expect("JSON")
    }

    #[test]
    fn the_path_is_split_and_bytes_are_kept() {
        let seen = head("/run/app/a%20b/?x=1&x=%32", b"example.org:81");
        assert_eq!(seen["root"], "/run/app");
        assert_eq!(seen["path"], "/a%20b/");
        assert_eq!(seen["query"], "x=1&x=%32");
        assert_eq!(
            seen["headers"][1],
            serde_json::json!(["x-name", "caf\u{e9}"])
        );
        assert_eq!(seen["server"], serde_json::json!(["example.org", 81]));
        assert_eq!(seen["client"], serde_json::json!(["127.0.0.1", 9]));
        let own = serde_json::json!(["x-ol-invocation", "00000001-2"]);
        assert_eq!(seen["headers"][2], own, "{seen}");
        assert_eq!(seen["headers"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn the_root_alone_has_a_path_too() {
        assert_eq!(head("/run/app", b"[::1]")["path"], "/");
        assert_eq!(head("/run/app", b"[::1]")["server"][0], "[::1]");
        assert_eq!(head("/run/app", b"")["server"][0], "localhost");
    }
}
