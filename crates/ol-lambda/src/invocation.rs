//! What goes into the lambda layer: one event for a function, whatever source it comes from.
//!
//! Nothing here is of HTTP's types, so that a source that isn't HTTP forges no requests: it names itself, and a web app that it
//! calls is told of a POST. What makes an event an HTTP request are words that the function is told ([`HttpRequest`]).

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

/// An event for a function, without its body. Its answer is what [`crate::Target::invoke`] returns.
#[derive(Clone, Copy)]
pub struct Invocation<'a> {
    /// Its number, from [`crate::Lambdas::number`].
    pub id: InvocationId,
    /// Where it comes from.
    pub source: Source<'a>,
    /// What its source says of it beside the body.
    pub headers: &'a dyn Headers,
}

/// Where an invocation comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A request to `/run/NAME`.
    Http(HttpRequest<'a>),
    /// Something else. A web app is told of a POST, whose body many read only as far as a `content-length` among the headers says.
    Other {
        /// Below `/run/NAME`: empty, or begins with a slash.
        path: &'a str,
    },
}

/// What a web app is told of an HTTP request.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// In capitals, as a rule.
    pub method: &'a str,
    /// Below `/run/NAME`, as it was sent, percent signs and all: empty, or begins with a slash.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: &'a str,
    /// `1.0` or `1.1`.
    pub version: &'a str,
    /// Who sent it; unknown where it didn't come over TCP.
    pub client: Option<SocketAddr>,
    /// The worker as the client named it, and the port.
    pub server: (&'a str, u16),
}

impl Source<'_> {
    /// Is the body of an answer sent to it? Not to who asked by HEAD.
    pub(crate) fn wants_a_body(&self) -> bool {
        !matches!(self, Self::Http(request) if request.method == "HEAD")
    }
}

/// The headers of an event: names in lower case, and values, which are bytes.
pub trait Headers: Sync {
    /// Shows each to `see`, in order. One name may come several times.
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

/// By name and value.
impl Headers for [(&str, &str)] {
    fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self {
            see(name, value.as_bytes());
        }
    }
}

/// The same, none or as many as there are.
impl<const N: usize> Headers for [(&str, &str); N] {
    fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
        self.as_slice().each(see);
    }
}

/// The body of an event.
pub enum Body {
    /// All of it, at hand.
    Whole(Bytes),
    /// As it arrives. An error ends the invocation with that error.
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
