//! What goes into the lambda layer: one event for a function, from any source.
//!
//! Nothing here uses HTTP's types, so that a source that isn't HTTP need not forge a request: it gives its name, and a web app that it
//! calls is told of a POST. Only [`HttpRequest`], which the function is told, is particular to HTTP.

use crate::invoke::InvokeError;
use bytes::Bytes;
use futures_util::Stream;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;

/// The number of an invocation, unique among all runs of a worker directory that began in different seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvocationId {
    /// When this run of the worker began, in seconds since 1970 modulo 2³².
    pub run: u32,
    /// Counts from 1.
    pub number: u64,
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.number)
    }
}

/// An event for a function, without its body. [`crate::Target::invoke`] returns its answer.
#[derive(Clone, Copy)]
pub struct Invocation<'a> {
    /// Its number, from [`crate::Lambdas::number`].
    pub id: InvocationId,
    /// Where it comes from.
    pub source: Source<'a>,
    /// What the source says of the event beside the body.
    pub headers: &'a dyn Headers,
}

/// Where an invocation comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A request to `/run/NAME`.
    Http(HttpRequest<'a>),
    /// Another source. A web app is told of a POST; many apps read its body only as far as a `content-length` among the headers says.
    Other {
        /// The part after `/run/NAME`: empty, or begins with a slash.
        path: &'a str,
    },
}

/// What a web app is told of an HTTP request.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// The method; usually in capitals.
    pub method: &'a str,
    /// The part after `/run/NAME`, as it was sent, percent signs and all: empty, or begins with a slash.
    pub path: &'a str,
    /// What follows the question mark in the URL.
    pub query: &'a str,
    /// The HTTP version: `1.0` or `1.1`.
    pub version: &'a str,
    /// The client's address; `None` if the request didn't come over TCP.
    pub client: Option<SocketAddr>,
    /// The worker's host name as the client wrote it, and the port.
    pub server: (&'a str, u16),
}

impl Source<'_> {
    /// Does this source want the body of an answer? A HEAD request doesn't.
    pub(crate) fn wants_a_body(&self) -> bool {
        !matches!(self, Self::Http(request) if request.method == "HEAD")
    }
}

/// The headers of an event: names in lower case, and values, which are bytes.
pub trait Headers: Sync {
    /// Shows each header to `see`, in order. A name may come several times.
    fn each(&self, see: &mut dyn FnMut(&str, &[u8]));

    /// Shows each value of the header `name` to `see`.
    fn values(&self, name: &str, see: &mut dyn FnMut(&[u8])) {
        self.each(&mut |known, value| {
            if known == name {
                see(value);
            }
        });
    }
}

/// Pairs of name and value.
impl Headers for [(&str, &str)] {
    fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self {
            see(name, value.as_bytes());
        }
    }
}

/// The same for arrays of any length, so that a literal can be used.
impl<const N: usize> Headers for [(&str, &str); N] {
    fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
        self.as_slice().each(see);
    }
}

/// The body of an event.
pub enum Body {
    /// The whole body.
    Whole(Bytes),
    /// The body as it arrives. An error ends the invocation with that error.
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, InvokeError>> + Send>>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Stream(_) => write!(f, "Stream"),
        }
    }
}
