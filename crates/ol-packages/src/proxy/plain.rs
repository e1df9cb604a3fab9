//! Forwards a `GET` to an index without TLS, without hop-by-hop headers; the answer is passed on as it arrives.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::metered::Metered;

/// Sends the request over a connection and returns the answer.
///
/// `absolute` sends the whole URL, as another proxy needs it; `authorization` is the value of that proxy's `Proxy-Authorization`.
pub(super) async fn pass_on(
    request: &Request<Incoming>,
    connection: Metered,
    absolute: bool,
    authorization: Option<&str>,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await?;
    // The task ends with the answer's body, or when either side is dropped or idle.
    tokio::spawn(connection);
    let mut onward = Request::new(Empty::<Bytes>::new());
    *onward.method_mut() = request.method().clone();
    *onward.headers_mut() = end_to_end(request.headers());
    let uri = request.uri();
    // The host in the URL, which was judged, not the one in the client's `Host` header.
    if let Some(host) = uri
        .authority()
        .and_then(|name| HeaderValue::from_str(name.as_str()).ok())
    {
        onward.headers_mut().insert(HOST, host);
    }
    *onward.uri_mut() = match uri.path_and_query() {
        Some(path) if !absolute => path.clone().into(),
        _ => uri.clone(),
    };
    if let Some(value) = authorization.and_then(|text| HeaderValue::from_str(text).ok()) {
        onward.headers_mut().insert("proxy-authorization", value);
    }
    let mut answer = sender.send_request(onward).await?;
    *answer.headers_mut() = end_to_end(answer.headers());
    Ok(answer)
}

/// Removes the hop-by-hop headers: the fixed ones, and those that `Connection` names.
pub(super) fn end_to_end(headers: &HeaderMap<HeaderValue>) -> HeaderMap<HeaderValue> {
    let mut kept = headers.clone();
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let fixed = [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "trailer",
    ];
    let fixed = fixed.map(HeaderName::from_static);
    for name in named
        .iter()
        .chain(&fixed)
        .chain(&[CONNECTION, TRANSFER_ENCODING, UPGRADE])
    {
        kept.remove(name);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_hop_is_left_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("connection", "x-other"),
            ("x-hop", "1"),
            ("x-other", "2"),
            ("proxy-authorization", "Basic abc"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("authorization", "Basic def"),
            ("accept", "text/html"),
        ] {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let kept = end_to_end(&headers);
        let mut names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "authorization"]);
    }
}
