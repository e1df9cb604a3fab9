//! Serves one connection: its requests one after the other, and its end, so that no answer is lost.

use crate::api::run::Ends;
use crate::body::{Answering, ResponseBody};
use crate::date;
use crate::discard::linger;
use crate::exchange::Exchange;
use crate::head::unknown_coding;
use crate::heads::Head;
use crate::incoming::RequestBody;
use crate::respond::Problem;
use crate::service::{RequestLimits, Service};
use crate::wire::{Verdict, Wire};
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a client may take to send the head of a request.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long new connections, and requests on idle ones, are still accepted after the worker was told to stop.
///
/// What callers have sent by then is answered, if only by 503. If their connection were just closed, they wouldn't know what happened.
const LAST_CALL: Duration = Duration::from_millis(50);

/// How long sending the answer to a request that can't be read may take. The answer fits into any socket's buffer.
const LAST_WORD: Duration = Duration::from_secs(3);

/// How many header lines hyper accepts unless `max_headers` is called.
const HYPERS_HEADER_LINES: usize = 100;

/// Serves `stream` until either side closes it. `public` is `None` if it came by the worker's own socket, not by the port.
pub(crate) async fn serve(
    service: Arc<Service>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    public: Option<Ends>,
    mut stop: watch::Receiver<bool>,
) {
    let from = public.and_then(|ends| ends.client);
    let from = from.map(|client| client.ip());
    let exchange = Exchange::new(Head::new(Arc::clone(&service.heads), from));
    let mut wire = Wire::new(stream, Arc::clone(&exchange));
    let mut stopping = false;
    let served = {
        let answers = service_fn(|request: Request<Incoming>| {
            let expects = request.headers().contains_key(EXPECT);
            let request = request.map(|body| {
                let open = exchange.begin(&body, expects);
                RequestBody::new(open.then_some(body), expects, Arc::clone(&exchange))
            });
            let (service, exchange) = (Arc::clone(&service), Arc::clone(&exchange));
            async move {
                let mut response = service.answer(request, public).await;
                date::stamp(response.headers_mut());
                let close = exchange.answered().await;
                Ok::<_, Infallible>(as_answer(response, exchange, close))
            }
        });
        let mut http = http1::Builder::new();
        if service.limits.header_lines != HYPERS_HEADER_LINES {
            // Not called for hyper's own default: after this call hyper allocates the header lines in a way that costs every request.
            http.max_headers(service.limits.header_lines);
        }
        let connection = http
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_header_size(service.limits.header_bytes)
            .max_buf_size(service.limits.header_bytes.max(8 << 10))
            .serve_connection(TokioIo::new(&mut wire), answers);
        let mut connection = pin!(connection);
        // The connection isn't closed at once on a stop: a request may be on its way, and its caller would never know whether it ran.
        let (mut watched, told) = (false, stop.clone());
        let mut closing = pin!(last_call(&mut stop));
        poll_fn(|context| {
            let mut served = connection.as_mut().poll(context);
            if served.is_pending() && !stopping {
                // `closing` isn't polled every time: this task is woken for every request, but only once for a stop.
                let told = *told.borrow() || told.has_changed().unwrap_or(true);
                let changed = !watched || told;
                watched = true;
                if changed && closing.as_mut().poll(context).is_ready() {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                    served = connection.as_mut().poll(context);
                }
            }
            if served.is_pending() {
                exchange.poll_rest(context);
            }
            served
        })
        .await
    };
    if wire.verdict() == Some(Verdict::NoRoom) && !service.words.take() {
        return;
    }
    let word = last_word(
        wire.verdict(),
        served.as_ref().err(),
        &exchange,
        &service.limits,
    );
    if let Err(error) = &served {
        tracing::debug!("a connection ended early: {error}");
    }
    let refused = word.is_some();
    if let Some(word) = word {
        // If the client doesn't read the answer, nothing can be done.
        let _ = timeout(LAST_WORD, wire.stream().write_all(&word.plain())).await;
    }
    let in_order = served.is_ok() && !stopping;
    if (refused || in_order || exchange.is_broken())
        && wire.stream().shutdown().await.is_ok()
        && !wire.hung_up()
    {
        linger(wire.stream()).await;
    }
}

/// Resolves [`LAST_CALL`] after `stop` became true or lost its sender.
pub(crate) async fn last_call(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(LAST_CALL).await;
}

/// The answer as hyper sends it.
fn as_answer(
    response: Response<ResponseBody>,
    exchange: Arc<Exchange>,
    close: bool,
) -> Response<Answering> {
    let mut response = response.map(|body| Answering::new(body, exchange));
    if close {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// The answer to a request that couldn't be read, if there is one to give.
fn last_word(
    verdict: Option<Verdict>,
    error: Option<&hyper::Error>,
    exchange: &Exchange,
    limits: &RequestLimits,
) -> Option<Problem> {
    let bad = |text| Problem::new(StatusCode::BAD_REQUEST, "bad-request", text);
    let status = match verdict {
        Some(Verdict::Status(status)) => status,
        Some(Verdict::NoRoom) => {
            let text = "too many requests' heads come in pieces at once: try again later, or send the head faster";
            return Some(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "heads-full", text).later());
        }
        None => {
            let error = error.filter(|_| exchange.within_head())?;
            if error.is_timeout() {
                let text =
                    format!("the request's head took longer than {HEAD_TIMEOUT:?}: send it faster");
                return Some(Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "head-timeout",
                    text,
                ));
            }
            error.is_parse().then_some(StatusCode::BAD_REQUEST)?
        }
    };
    let why = error.map(ToString::to_string).unwrap_or_default();
    Some(match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Problem::new(
            status,
            "head-too-large",
            format!(
                "the request's head is larger than this worker takes ({} KiB, max_header_kb), or has more lines ({}, max_header_lines)",
                limits.header_bytes >> 10,
                limits.header_lines
            ),
        ),
        StatusCode::URI_TOO_LONG => Problem::new(
            status,
            "uri-too-long",
            "the request's address is longer than 65,534 bytes: send what is long in the body",
        ),
        _ if why.contains("invalid transfer-encoding") => unknown_coding(),
        _ if why.contains("unexpected transfer-encoding") => {
            bad("HTTP/1.0 has no Transfer-Encoding: send a Content-Length, or HTTP/1.1".to_owned())
        }
        _ => bad(format!("the request can't be read ({why}): send HTTP/1.1")),
    })
}
