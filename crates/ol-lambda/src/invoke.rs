//! What comes out of the lambda layer: answers, and every reason why there is none.

use bytes::Bytes;
use futures_util::Stream;
use ol_model::FunctionName;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

/// What a function answered.
#[derive(Debug)]
pub struct Answer {
    /// An HTTP status, from 200 to 999.
    pub status: u16,
    /// Header lines, in order, without `Content-Length`: names in lower case, and values as bytes. All are valid in HTTP.
    pub headers: Vec<(String, Bytes)>,
    /// The body length that the function announced. The body is checked against it.
    pub length: Option<u64>,
    /// The function sent a body without a head; the body is JSON.
    pub json: bool,
    /// The body; empty where the status allows none (204, 205, 304).
    pub body: AnswerBody,
}

/// The parts of a body as the function writes them; an error ends the stream.
///
/// Dropping the stream gives up the rest: the function is told if it listens, and what it still sends is discarded.
pub type AnswerStream = Pin<Box<dyn Stream<Item = Result<Bytes, InvokeError>> + Send>>;

/// The body of an [`Answer`].
pub enum AnswerBody {
    /// The whole body.
    Whole(Bytes),
    /// The body comes in parts.
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

/// Why an invocation has no answer from the function. `Display` is for the caller: no host path, nothing about other functions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// No such function.
    #[error("no function is named {0}: `ol ls` lists those that are")]
    NotFound(FunctionName),
    /// The request itself is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// The request body is over the limit.
    #[error("the request body is larger than this worker takes ({limit_mb} MiB, max_body_mb)")]
    TooLarge {
        /// The limit.
        limit_mb: u32,
    },
    /// The body is over the limit once it is decoded; the message names the limit.
    #[error("{0}")]
    TooLargeDecoded(String),
    /// The body has a `Content-Encoding` that isn't decoded for functions.
    #[error(
        "the request's Content-Encoding {0:?} is none that is decoded for f(event): send the body as it is, or as gzip"
    )]
    UnknownEncoding(String),
    /// As many calls wait as are allowed.
    #[error("{name} has {waiting} calls waiting already: try again later")]
    QueueFull {
        /// The function.
        name: FunctionName,
        /// How many calls wait.
        waiting: usize,
    },
    /// The call waited too long for an instance.
    #[error("no instance of {name} became free within {waited:?}: try again later")]
    Waited {
        /// The function.
        name: FunctionName,
        /// How long the call waited.
        waited: Duration,
    },
    /// The sandboxes' memory is all in use.
    #[error("{0}: try again later")]
    NoMemory(String),
    /// The function raised an exception; this is its traceback.
    #[error("{0}")]
    Raised(String),
    /// The function's answer is not allowed in HTTP; says what is wrong, with the traceback where the function can see it.
    #[error("{0}")]
    BadAnswer(String),
    /// The function's process ended before its answer did.
    #[error("the function's process ended during the call: {reason}")]
    Died {
        /// How the process ended.
        reason: String,
    },
    /// No instance could be started; says why, in the function's own words if it has any.
    #[error("{0}")]
    CannotStart(String),
    /// The bundle can't be used.
    #[error("the code of {name} can't be used: {why}")]
    BadBundle {
        /// The function.
        name: FunctionName,
        /// Why, with the name of the member or key.
        why: String,
    },
    /// The function's packages can't be resolved or installed.
    #[error("the packages of {name} can't be had: {why}")]
    NoPackages {
        /// The function.
        name: FunctionName,
        /// What went wrong, with the installer's own words.
        why: String,
    },
    /// The function ran longer than it may.
    #[error("the function ran past its limit of {} s and was ended", limit.as_secs_f64())]
    TimeLimit {
        /// The function's `runtime_sec`.
        limit: Duration,
    },
    /// The worker is stopping.
    #[error("this worker is stopping and takes no new calls")]
    Draining,
    /// The process that makes sandboxes is gone, thus this worker is about to end. Nothing ran.
    #[error(
        "this worker is ending, since what makes its sandboxes is gone: try again once it was started again"
    )]
    Ending,
    /// This worker itself failed; details are in its log only.
    #[error("this worker failed: {0}; its log says more")]
    Internal(&'static str),
}
