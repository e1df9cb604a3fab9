//! The only place where an error becomes an HTTP status, a code in `X-OL-Error` and a text.

use crate::body::ResponseBody;
use crate::metrics::count_error;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Response, StatusCode};
use ol_lambda::{InvokeError, UploadError};
use std::time::SystemTime;

const X_OL_ERROR: HeaderName = HeaderName::from_static("x-ol-error");

/// An error as a caller sees it.
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    text: String,
    extra: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            code,
            text: text.into(),
            extra: None,
        }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.extra = HeaderValue::from_str(value).ok().map(|value| (name, value));
        self
    }

    /// Adds the advice to try again in a second.
    pub(crate) fn later(self) -> Self {
        self.with(RETRY_AFTER, "1")
    }

    /// All bytes of a response that hyper doesn't write: the connection is closed after it.
    pub(crate) fn plain(self) -> Vec<u8> {
        count_error(self.code);
        let status = self.status;
        let extra = self
            .extra
            .as_ref()
            .map(|(name, value)| (name.as_str().to_owned(), value.clone()));
        let text = format!("{}\n", self.text.trim_end());
        let date = httpdate::fmt_http_date(SystemTime::now());
        let mut head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: text/plain; charset=utf-8\r\nx-ol-error: {}\r\ncontent-length: {}\r\nconnection: close\r\ndate: {date}\r\n",
            status.as_str(),
            status.canonical_reason().unwrap_or_default(),
            self.code,
            text.len(),
        )
        .into_bytes();
        if let Some((name, value)) = extra {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(text.as_bytes());
        head
    }

    /// The response: plain text, or a problem document (RFC 9457) for clients that accept JSON.
    pub(crate) fn respond(self, request: &HeaderMap) -> Response<ResponseBody> {
        count_error(self.code);
        let accepts = request
            .get(ACCEPT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let json =
            accepts.contains("application/json") || accepts.contains("application/problem+json");
        let mut text = self.text;
        let (kind, body) = if json {
            let document = serde_json::json!({
                "type": format!("urn:open-lambda:error:{}", self.code),
                "title": self.status.canonical_reason().unwrap_or_default(),
                "status": self.status.as_u16(),
                "detail": text.trim_end(),
            });
            ("application/problem+json", document.to_string())
        } else {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            ("text/plain; charset=utf-8", text)
        };
        let mut response = Response::new(ResponseBody::whole(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(X_OL_ERROR, HeaderValue::from_static(self.code));
        if let Some((name, value)) = self.extra {
            headers.insert(name, value);
        }
        response
    }
}

impl From<InvokeError> for Problem {
    fn from(error: InvokeError) -> Self {
        use InvokeError as E;
        let (status, code) = match &error {
            E::NotFound(_) => (StatusCode::NOT_FOUND, "unknown-function"),
            E::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad-request"),
            E::TooLarge { .. } | E::TooLargeDecoded(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large")
            }
            E::UnknownEncoding(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown-encoding"),
            E::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "queue-full"),
            E::Waited { .. } => (StatusCode::TOO_MANY_REQUESTS, "queue-wait"),
            E::NoMemory(_) => (StatusCode::TOO_MANY_REQUESTS, "no-memory"),
            E::Raised(_) => (StatusCode::INTERNAL_SERVER_ERROR, "raised"),
            E::BadBundle { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "bad-bundle"),
            E::NoPackages { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "no-packages"),
            E::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            E::BadAnswer(_) => (StatusCode::BAD_GATEWAY, "bad-answer"),
            E::Died { .. } => (StatusCode::BAD_GATEWAY, "died"),
            E::CannotStart(_) => (StatusCode::BAD_GATEWAY, "cannot-start"),
            E::TimeLimit { .. } => (StatusCode::GATEWAY_TIMEOUT, "time-limit"),
            E::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            E::Ending => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
        };
        let problem = Self::new(status, code, error.to_string());
        match &error {
            // RFC 9110, 15.5.16.
            E::UnknownEncoding(_) => problem.with(ACCEPT_ENCODING, "gzip, identity"),
            E::QueueFull { .. } | E::Waited { .. } | E::NoMemory(_) | E::Draining | E::Ending => {
                problem.later()
            }
            _ => problem,
        }
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        let (status, code) = match &error {
            UploadError::Refused(_) => (StatusCode::BAD_REQUEST, "bad-bundle"),
            UploadError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            UploadError::Draining => return InvokeError::Draining.into(),
        };
        Self::new(status, code, error.to_string())
    }
}
