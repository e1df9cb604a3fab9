//! `ANY /run/NAME[/path][?query]`: a request becomes an invocation, its answer the response.

use crate::body::ResponseBody;
use crate::incoming;
use crate::respond::Problem;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use ol_lambda::{Answer, InvocationId, Lambdas, Phases, Request as Call};
use ol_model::{FunctionName, MiB};
use std::net::SocketAddr;

/// Headers that belong to one connection (RFC 9110, 7.6.1) or that we write ourselves.
const NOT_THE_FUNCTIONS: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Begins the names of headers that are the worker's word: a function's would be taken for it.
const OURS: &str = "x-ol-";

/// Names the invocation, for `ol logs NAME --invocation`.
const X_OL_INVOCATION: HeaderName = HeaderName::from_static("x-ol-invocation");

/// Asks, by `1`, where the time goes; and answers that.
const X_OL_TIMING: HeaderName = HeaderName::from_static("x-ol-timing");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The part of `path` that names the function, if `path` is one of ours.
pub(crate) fn name_in(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/run/")?;
    rest.split('/').next()
}

/// The two ends of a connection; unknown for those that aren't TCP.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    pub client: Option<SocketAddr>,
    pub server: Option<SocketAddr>,
}

pub(crate) async fn run(
    lambdas: &Lambdas,
    max_body: MiB,
    ends: Ends,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let (parts, body) = request.into_parts();
    let id = lambdas.number();
    let mut phases = Phases::default();
    let answer = answer(lambdas, max_body, ends, &parts, id, body, &mut phases).await;
    let mut response = match answer {
        Ok(answer) => respond(answer, &parts.method),
        Err(problem) => problem.respond(&parts.headers),
    };
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(X_OL_INVOCATION, id);
    }
    if parts.headers.get(X_OL_TIMING).is_some_and(|v| v == "1")
        && let Ok(phases) = HeaderValue::try_from(phases.to_string())
    {
        response.headers_mut().insert(X_OL_TIMING, phases);
    }
    response
}

async fn answer(
    lambdas: &Lambdas,
    max_body: MiB,
    ends: Ends,
    parts: &http::request::Parts,
    id: InvocationId,
    body: Incoming,
    phases: &mut Phases,
) -> Result<Answer, Problem> {
    let name = name_in(parts.uri.path()).unwrap_or_default();
    let name = FunctionName::parse(name)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad-name", error.to_string()))?;
    let body = incoming::take(body, max_body).await?;
    let call = Call {
        name: &name,
        id,
        parts,
        client: ends.client,
        server: ends.server,
    };
    Ok(lambdas.invoke(&call, body, phases).await?)
}

fn respond(answer: Answer, method: &Method) -> Response<ResponseBody> {
    let announced = announced_length(&answer);
    let mut response = Response::new(ResponseBody::from(answer.body));
    // A function that answers with no HTTP status has answered all the same; what it said is kept.
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if answer.headers.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, JSON);
    }
    for (name, value) in answer.headers {
        let (Ok(name), Some(value)) = (HeaderName::try_from(name), latin(&value)) else {
            continue;
        };
        // A name is in lower case by now.
        if NOT_THE_FUNCTIONS.contains(&name.as_str()) || name.as_str().starts_with(OURS) {
            continue;
        }
        // Fails over 2¹⁵ names, which the lambda layer's bound on an answer's head rules out.
        let _ = response.headers_mut().try_append(name, value);
    }
    // A whole body says how long it is, except to HEAD, which isn't sent the one that is meant. Of one that comes in parts the
    // function may know; hyper holds it to that.
    let length = match response.body().size_hint().exact() {
        Some(0) if method == Method::HEAD => announced.or(Some(0)),
        Some(length) => Some(length),
        None => announced,
    };
    if let Some(length) = length {
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// A header's value, of which each character stands for a byte (docs/guest-protocol.md); `None` if one can't.
fn latin(text: &str) -> Option<HeaderValue> {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    HeaderValue::from_bytes(&bytes?).ok()
}

/// The length of the body as the function says it.
fn announced_length(answer: &Answer) -> Option<u64> {
    let mut headers = answer.headers.iter();
    let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::name_in;

    #[test]
    fn the_name_ends_at_the_next_slash() {
        assert_eq!(name_in("/run/echo"), Some("echo"));
        assert_eq!(name_in("/run/echo/a/b"), Some("echo"));
        assert_eq!(name_in("/run/"), Some(""));
        assert_eq!(name_in("/runner"), None);
    }
}
