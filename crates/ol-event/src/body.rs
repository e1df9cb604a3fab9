//! Response bodies: a function's answer, whole or in parts as it comes, or the answer of a control route.

use crate::exchange::Exchange;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use ol_lambda::{AnswerBody, AnswerStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A response body.
pub(crate) enum ResponseBody {
    Whole(Full<Bytes>),
    Parts(AnswerStream),
    Control(axum::body::Body),
}

impl ResponseBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }
}

impl From<AnswerBody> for ResponseBody {
    fn from(body: AnswerBody) -> Self {
        match body {
            AnswerBody::Whole(bytes) => Self::whole(bytes),
            AnswerBody::Stream(parts) => Self::Parts(parts),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(full) => Pin::new(full)
                .poll_frame(context)
                .map_err(|never| match never {}),
            // An error here cuts the connection: the status is sent already, so nothing else can tell the client that the answer failed.
            Self::Parts(parts) => parts
                .as_mut()
                .poll_next(context)
                .map_ok(Frame::data)
                .map_err(axum::Error::new),
            Self::Control(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(full) => full.is_end_stream(),
            Self::Parts(_) => false,
            Self::Control(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(full) => full.size_hint(),
            Self::Parts(_) => SizeHint::default(),
            Self::Control(body) => body.size_hint(),
        }
    }
}

/// A response body that is being sent; its drop tells the connection's [`Exchange`].
pub(crate) struct Answering {
    body: ResponseBody,
    exchange: Arc<Exchange>,
}

impl Answering {
    pub(crate) fn new(body: ResponseBody, exchange: Arc<Exchange>) -> Self {
        Self { body, exchange }
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.exchange.handed_over();
    }
}
