//! What goes into the lambda layer and what comes out of it.

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use ol_model::{ErrorDetail, FunctionName};
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

/// A request's body.
pub enum Body {
    /// All of it, at hand.
    Whole(Bytes),
    /// As it arrives. An error ends the invocation with that error.
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, InvokeError>> + Send>>),
}

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

/// What is known of a request beside its body. An event that isn't HTTP is put into the words of one.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The function.
    pub name: &'a FunctionName,
    /// Its number, from [`crate::Lambdas::number`].
    pub id: InvocationId,
    /// Method, URI (its path begins with `/run/NAME`) and headers.
    pub parts: &'a http::request::Parts,
    /// Who sent it.
    pub client: Option<SocketAddr>,
    /// Where it arrived.
    pub server: Option<SocketAddr>,
}

/// What a function answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status, 200 or higher.
    pub status: StatusCode,
    /// Header lines, in order, without `Content-Length`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The length that the function announced. A body that comes is held to it.
    pub length: Option<u64>,
    /// The function said nothing but the body, which is JSON.
    pub json: bool,
    /// The body; empty where the status allows none (204, 205, 304).
    pub body: AnswerBody,
}

/// The parts of a body as the function writes them. An error is the last of them. Its drop gives the rest up: the function is told
/// so if it listens, and finishes unheard.
pub type AnswerStream = Pin<Box<dyn Stream<Item = Result<Bytes, InvokeError>> + Send>>;

/// The body of an [`Answer`].
pub enum AnswerBody {
    /// All of it.
    Whole(Bytes),
    /// It comes in parts.
    Stream(AnswerStream),
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => f.debug_tuple("Whole").field(bytes).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// Why an invocation has no answer of the function's. `Display` is for the caller: no host path, nothing of others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// No such function.
    #[error("no function is named {0}: `ol ls` lists those that are")]
    NotFound(FunctionName),
    /// The function's ol.yaml doesn't allow this method.
    #[error("HTTP method not allowed. Sent: {sent}, Allowed: [{}]", allowed.join(" "))]
    MethodNotAllowed {
        /// The request's.
        sent: String,
        /// Those of its ol.yaml.
        allowed: Vec<String>,
    },
    /// The request itself is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// The body is over the limit.
    #[error("the request body is larger than this worker takes ({limit_mb} MiB, max_body_mb)")]
    TooLarge {
        /// The limit.
        limit_mb: u32,
    },
    /// The body is over the limit once it is decoded; the sentence names it.
    #[error("{0}")]
    TooLargeDecoded(String),
    /// The body is encoded in a way that isn't decoded for functions.
    #[error(
        "the request's Content-Encoding {0:?} is none that is decoded for f(event): send the body as it is, or as gzip"
    )]
    UnknownEncoding(String),
    /// As many wait as may.
    #[error("{name} has {waiting} calls waiting already: try again later")]
    QueueFull {
        /// The function.
        name: FunctionName,
        /// How many.
        waiting: usize,
    },
    /// Its turn didn't come in time.
    #[error("no instance of {name} became free within {waited:?}: try again later")]
    Waited {
        /// The function.
        name: FunctionName,
        /// How long it waited.
        waited: Duration,
    },
    /// The sandboxes' memory is all in use.
    #[error("{0}: try again later")]
    NoMemory(String),
    /// The function raised; its traceback.
    #[error("{0}")]
    Raised(String),
    /// The function's answer is none that HTTP allows; which, with the traceback where the function can see it.
    #[error("{0}")]
    BadAnswer(String),
    /// The function's process ended before its answer did.
    #[error("the function's process ended during the call: {reason}")]
    Died {
        /// How.
        reason: String,
    },
    /// No instance could be started; why, in the function's own words where it has any.
    #[error("{0}")]
    CannotStart(String),
    /// The bundle can't be used.
    #[error("the code of {name} can't be used: {why}")]
    BadBundle {
        /// The function.
        name: FunctionName,
        /// Why, naming the member or key.
        why: String,
    },
    /// Its packages can't be had.
    #[error("the packages of {name} can't be had: {why}")]
    NoPackages {
        /// The function.
        name: FunctionName,
        /// What went wrong, with the installer's own words.
        why: String,
    },
    /// It ran longer than it may.
    #[error("the function ran past its limit of {} s and was ended", limit.as_secs_f64())]
    TimeLimit {
        /// Its `runtime_sec`.
        limit: Duration,
    },
    /// The worker is stopping.
    #[error("this worker is stopping and takes no new calls")]
    Draining,
    /// What makes sandboxes is gone, so this worker is about to end. Nothing ran.
    #[error(
        "this worker is ending, since what makes its sandboxes is gone: try again once it was started again"
    )]
    Ending,
    /// This worker's own trouble; details are in its log only.
    #[error("this worker failed: {0}; its log says more")]
    Internal(&'static str),
}

impl InvokeError {
    /// As callers of a function are told it that shows them its errors so. The function's log has it whole, under `id`.
    pub(crate) fn told(self, detail: ErrorDetail, id: InvocationId) -> Self {
        if detail == ErrorDetail::Full {
            return self;
        }
        let why = format!("its log says why, under invocation {id}\n");
        match self {
            Self::Raised(_) => Self::Raised(format!("the function raised an error: {why}")),
            Self::CannotStart(_) => {
                Self::CannotStart(format!("the function can't be started: {why}"))
            }
            Self::BadAnswer(_) => {
                Self::BadAnswer(format!("the function's answer can't be sent: {why}"))
            }
            Self::BadBundle { name, .. } | Self::NoPackages { name, .. } => {
                Self::CannotStart(format!("{name} can't be used: its owner is told why\n"))
            }
            other => other,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Stream(_) => write!(f, "Stream"),
        }
    }
}
