//! `ANY /run/NAME[/path][?query]`: turns a request into an invocation, and the function's answer into the response.

use crate::body::ResponseBody;
use crate::incoming::{self, RequestBody};
use crate::respond::Problem;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body as _;
use ol_lambda::{Answer, Headers, HttpRequest, Invocation, InvocationId, Lambdas, Phases, Source};
use ol_model::{FunctionConfig, FunctionName, MiB};
use std::net::SocketAddr;

/// Headers that belong to one connection (RFC 9110, 7.6.1) or that the worker writes: a function can't set them.
const NOT_THE_FUNCTIONS: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The prefix of the headers that only the worker may set: callers would take a function's for the worker's.
const OURS: &str = "x-ol-";

/// The answer's header with the invocation's id, for `ol logs NAME --invocation`.
const X_OL_INVOCATION: HeaderName = HeaderName::from_static("x-ol-invocation");

/// The header by which a caller asks, with `1`, how long each phase of the call takes, and by which that is answered.
const X_OL_TIMING: HeaderName = HeaderName::from_static("x-ol-timing");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The part of `path` that names the function, and what follows it; `None` if `path` isn't below `/run/`.
fn name_in(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/run/")?;
    Some(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

/// The addresses of a connection's two ends; unknown if it isn't TCP.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    pub client: Option<SocketAddr>,
    pub server: Option<SocketAddr>,
    /// The connection was accepted beyond `max_connections`: it is told whether the worker is well, and nothing else.
    pub spare: bool,
}

pub(crate) async fn run(
    lambdas: &Lambdas,
    max_body: MiB,
    ends: Ends,
    request: Request<RequestBody>,
) -> Response<ResponseBody> {
    let (parts, body) = request.into_parts();
    let id = lambdas.number();
    let mut phases = Phases::default();
    let answer = answer(lambdas, max_body, ends, &parts, id, body, &mut phases).await;
    let mut response = match answer {
        Ok(answer) => respond(answer, &parts.method),
        Err(problem) => problem.respond(&parts.headers),
    };
    response.headers_mut().insert(X_OL_INVOCATION, numbered(id));
    if parts.headers.get(X_OL_TIMING).is_some_and(|v| v == "1")
        && let Ok(phases) = HeaderValue::try_from(phases.to_string())
    {
        response.headers_mut().insert(X_OL_TIMING, phases);
    }
    response
}

/// `id` as a header value. Formatted by hand, since every answer has one and `to_string` costs as much as all other headers together.
fn numbered(id: InvocationId) -> HeaderValue {
    let (mut text, mut at) = ([0; 8 + 1 + 20], 29);
    let mut before = |byte: u8| {
        at -= 1;
        text[at] = byte;
        at
    };
    let mut number = id.number;
    loop {
        before(b"0123456789"[(number % 10) as usize]);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let mut begin = before(b'-');
    for digit in 0..8 {
        begin = before(b"0123456789abcdef"[(id.run >> (4 * digit)) as usize & 15]);
    }
    HeaderValue::from_bytes(&text[begin..]).expect("digits and a dash")
}

async fn answer(
    lambdas: &Lambdas,
    max_body: MiB,
    ends: Ends,
    parts: &http::request::Parts,
    id: InvocationId,
    body: RequestBody,
    phases: &mut Phases,
) -> Result<Answer, Problem> {
    let (name, below) = name_in(parts.uri.path()).unwrap_or_default();
    let name = FunctionName::parse(name)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad-name", error.to_string()))?;
    incoming::fits(&body, max_body)?;
    let target = lambdas.target(&name, id).await?;
    method_is_allowed(target.config(), parts.method.as_str())?;
    let invocation = Invocation {
        id,
        source: Source::Http(HttpRequest {
            method: parts.method.as_str(),
            path: below,
            query: parts.uri.query().unwrap_or_default(),
            version: if parts.version == http::Version::HTTP_10 {
                "1.0"
            } else {
                "1.1"
            },
            client: ends.client,
            server: named(&parts.headers, ends.server),
        }),
        headers: &Lines(&parts.headers),
    };
    let mut target = Some(target);
    // The target isn't held while a body is waited for: it would keep its version's code and packages from being removed.
    let look = || match target.take() {
        Some(target) => target.has_room(&invocation),
        None => Ok(()),
    };
    let body = incoming::take(body, max_body, look).await?;
    let target = match target {
        Some(target) => target,
        None => {
            // Another version may serve by now, so the target is looked up anew. Boxed: this is rare, and the future is moved for each call.
            let target = Box::pin(lambdas.target(&name, id)).await?;
            method_is_allowed(target.config(), parts.method.as_str())?;
            target
        }
    };
    Ok(target.invoke(&invocation, body, phases).await?)
}

/// Refuses a method that the function's `triggers.http` doesn't allow.
fn method_is_allowed(config: &FunctionConfig, sent: &str) -> Result<(), Problem> {
    if config.allows(sent) {
        return Ok(());
    }
    let allowed = config.allowed_methods().unwrap_or_default();
    let text = format!(
        "HTTP method not allowed. Sent: {sent}, Allowed: [{}]",
        allowed.join(" ")
    );
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", text);
    Err(problem.with(ALLOW, &allowed.join(", ")))
}

/// The server's host and port as the client named them; `localhost` and the port where it listens, if the client named none.
fn named(headers: &HeaderMap, at: Option<SocketAddr>) -> (&str, u16) {
    let port = at.map_or(80, |at| at.port());
    let named = headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(named) = named.filter(|name| !name.is_empty()) else {
        return ("localhost", port);
    };
    match named.rsplit_once(':') {
        // A colon within the brackets of an IPv6 address doesn't begin a port.
        Some((host, number)) if !number.contains(']') => (host, number.parse().unwrap_or(port)),
        _ => (named, 80),
    }
}

/// A request's header lines.
struct Lines<'a>(&'a HeaderMap);

impl Headers for Lines<'_> {
    fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self.0 {
            see(name.as_str(), value.as_bytes());
        }
    }

    fn values(&self, name: &str, see: &mut dyn FnMut(&[u8])) {
        // Looking at each of the few lines is quicker than making a key of `name`.
        for (line, value) in self.0 {
            if line.as_str() == name {
                see(value.as_bytes());
            }
        }
    }
}

fn respond(answer: Answer, method: &Method) -> Response<ResponseBody> {
    let announced = answer.length;
    let mut response = Response::new(ResponseBody::from(answer.body));
    let status = StatusCode::from_u16(answer.status).expect("an answer's is from 200 to 999");
    *response.status_mut() = status;
    if answer.json {
        response.headers_mut().insert(CONTENT_TYPE, JSON);
    }
    for (name, value) in answer.headers {
        if NOT_THE_FUNCTIONS.contains(&&*name) || name.starts_with(OURS) {
            continue;
        }
        // Neither fails: an answer's headers were checked before, and appending fails only beyond 2¹⁵ names, which the bound on an answer's
        // head rules out.
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name),
            HeaderValue::from_maybe_shared(value),
        ) {
            let _ = response.headers_mut().try_append(name, value);
        }
    }
    let whole = response.body().size_hint().exact();
    if method == Method::HEAD {
        // If the body comes in parts, dropping it tells the function that nobody wants it.
        *response.body_mut() = ResponseBody::whole("");
    }
    // hyper writes the length of a body that is at hand and not empty.
    let hypers = whole.filter(|length| *length > 0 && method != Method::HEAD);
    if let Some(length) = length(status, method, announced, whole)
        && Some(length) != hypers
    {
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// The `Content-Length` of an answer (RFC 9110, 8.6, 15.3.5, 15.3.6 and 15.4.5).
///
/// `announced` is what the function said; `whole` is the body's length if the body is at hand.
fn length(
    status: StatusCode,
    method: &Method,
    announced: Option<u64>,
    whole: Option<u64>,
) -> Option<u64> {
    match status {
        // For 304 the length would be that of the 200's body, which nobody needs.
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => None,
        StatusCode::RESET_CONTENT => Some(0),
        // The length that GET would have had. It is unknown if the function left out the body and didn't announce a length.
        _ if method == Method::HEAD => announced.or(whole.filter(|length| *length > 0)),
        // For a body in parts the function may have announced a length, and is held to it.
        _ => whole.or(announced),
    }
}

#[cfg(test)]
mod tests {
    use super::{length, name_in, named, numbered};
    use http::{HeaderMap, Method, StatusCode};
    use ol_lambda::InvocationId;

    #[test]
    fn a_number_reads_as_everywhere_else() {
        for (run, number) in [(0, 1), (0x0a0b_0c0d, 1234), (u32::MAX, u64::MAX)] {
            let id = InvocationId { run, number };
            assert_eq!(numbered(id), id.to_string());
        }
    }

    #[test]
    fn the_name_ends_at_the_next_slash() {
        assert_eq!(name_in("/run/echo"), Some(("echo", "")));
        assert_eq!(name_in("/run/echo/a/b"), Some(("echo", "/a/b")));
        assert_eq!(name_in("/run/echo/"), Some(("echo", "/")));
        assert_eq!(name_in("/run/"), Some(("", "")));
        assert_eq!(name_in("/runner"), None);
    }

    #[test]
    fn the_server_is_called_as_the_client_called_it() {
        let port = Some(([127, 0, 0, 1], 5000).into());
        for (host, name, number) in [
            ("example.org:81", "example.org", 81),
            ("example.org", "example.org", 80),
            ("[::1]", "[::1]", 80),
            ("[::1]:5000", "[::1]", 5000),
            ("", "localhost", 5000),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().expect("a value"));
            assert_eq!(named(&headers, port), (name, number), "{host}");
        }
        assert_eq!(named(&HeaderMap::new(), port), ("localhost", 5000));
    }

    #[test]
    fn a_length_is_what_the_standard_says() {
        let said = |status: u16, method: Method, announced, whole| {
            let status = StatusCode::from_u16(status).expect("a status");
            length(status, &method, announced, whole)
        };
        let (get, head) = (Method::GET, Method::HEAD);
        assert_eq!(said(200, get.clone(), None, Some(0)), Some(0));
        assert_eq!(said(200, get.clone(), Some(5), Some(5)), Some(5));
        assert_eq!(said(200, get.clone(), None, None), None);
        assert_eq!(said(200, get.clone(), Some(5), None), Some(5));
        assert_eq!(said(200, head.clone(), Some(5), Some(0)), Some(5));
        assert_eq!(said(200, head.clone(), None, Some(0)), None);
        assert_eq!(said(200, head.clone(), None, Some(5)), Some(5));
        for method in [get, head] {
            assert_eq!(said(204, method.clone(), Some(5), Some(0)), None);
            assert_eq!(said(205, method.clone(), Some(5), Some(0)), Some(0));
            assert_eq!(said(304, method, Some(5), Some(0)), None);
        }
    }
}
