//! The head of a CALL frame: what a function is told of a request (docs/reference/guest-protocol.md).

use crate::invocation::{HttpRequest, Invocation, InvocationId, Source};
use crate::invoke::InvokeError;
use ol_model::{FunctionName, Limits, MiB};
use serde::ser::{Serialize, SerializeSeq, Serializer};

#[derive(serde::Serialize)]
struct Head<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: Headers<'a>,
    root: String,
    scheme: &'a str,
    client: Option<(String, u16)>,
    server: (&'a str, u16),
    http: &'a str,
}

/// The JSON of `invocation` for the web app `name`, which is called at `/run/NAME`.
pub(crate) fn web(name: &FunctionName, invocation: &Invocation<'_>) -> Vec<u8> {
    let request = match invocation.source {
        Source::Http(request) => request,
        Source::Other { path } => HttpRequest {
            method: "POST",
            path,
            query: "",
            version: "1.1",
            client: None,
            server: ("localhost", 80),
        },
    };
    let head = Head {
        method: request.method,
        path: if request.path.is_empty() {
            "/"
        } else {
            request.path
        },
        query: request.query,
        headers: Headers(invocation.headers, invocation.id),
        root: format!("/run/{name}"),
        scheme: "http",
        client: request.client.map(|at| (at.ip().to_string(), at.port())),
        server: request.server,
        http: request.version,
    };
    serde_json::to_vec(&head).expect("text and numbers always serialize")
}

/// A decoded body may have this part of a function's memory (one in `SHARE`): its text and what is made of it lie there too.
const SHARE: u64 = 4;

/// The head for `f(event)`, which isn't told of the request: empty, or how to decode the body and how long it may be then.
///
/// The body is decoded in the function's sandbox, where one that grows too large harms no other function.
///
/// # Errors
/// When the body has a `Content-Encoding` other than gzip.
pub(crate) fn plain(
    headers: &dyn crate::invocation::Headers,
    most: MiB,
    limits: &Limits,
) -> Result<Vec<u8>, InvokeError> {
    let mut codings = Vec::new();
    headers.values("content-encoding", &mut |value| {
        let value = String::from_utf8_lossy(value).to_ascii_lowercase();
        let named = value.split(',').map(str::trim);
        let real = named.filter(|coding| !matches!(*coding, "" | "identity"));
        codings.extend(real.map(str::to_owned));
    });
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

/// The header with the invocation's number; a caller's own header of that name is dropped, for the function would believe it.
const INVOCATION: &str = "x-ol-invocation";

/// Headers as JSON pairs; the bytes of values are written as Latin-1.
struct Headers<'a>(&'a dyn crate::invocation::Headers, InvocationId);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut added = Ok(());
        self.0.each(&mut |name, value| {
            if name == INVOCATION || added.is_err() {
                return;
            }
            added = if value.is_ascii()
                && let Ok(text) = std::str::from_utf8(value)
            {
                list.serialize_element(&(name, text))
            } else {
                let latin: String = value.iter().map(|byte| char::from(*byte)).collect();
                list.serialize_element(&(name, latin))
            };
        });
        added?;
        list.serialize_element(&(INVOCATION, self.1.to_string()))?;
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: InvocationId = InvocationId { run: 1, number: 2 };

    struct Bytes;

    impl crate::invocation::Headers for Bytes {
        fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
            see("x-ol-invocation", b"forged");
            see("x-name", b"caf\xe9");
        }
    }

    fn told(source: Source<'_>) -> serde_json::Value {
        let invocation = Invocation {
            id: ID,
            source,
            headers: &Bytes,
        };
        let name = FunctionName::parse("app").expect("a name");
        serde_json::from_slice(&web(&name, &invocation)).expect("JSON")
    }

    #[test]
    fn a_request_is_told_as_it_came_but_for_the_number() {
        let told = told(Source::Http(HttpRequest {
            method: "GET",
            path: "/a%20b/",
            query: "x=1&x=%32",
            version: "1.0",
            client: Some(([127, 0, 0, 1], 9).into()),
            server: ("example.org", 81),
        }));
        let expected = json!({
            "method": "GET", "root": "/run/app", "path": "/a%20b/", "query": "x=1&x=%32", "scheme": "http", "http": "1.0",
            "headers": [["x-name", "caf\u{e9}"], ["x-ol-invocation", "00000001-2"]],
            "client": ["127.0.0.1", 9], "server": ["example.org", 81],
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_no_request_is_told_as_a_post_to_the_root_or_below() {
        for (path, expected) in [("", "/"), ("/order", "/order")] {
            let told = told(Source::Other { path });
            assert_eq!(
                (&told["method"], &told["path"]),
                (&json!("POST"), &json!(expected))
            );
            assert_eq!(
                (&told["client"], &told["query"]),
                (&json!(null), &json!(""))
            );
        }
    }
}
