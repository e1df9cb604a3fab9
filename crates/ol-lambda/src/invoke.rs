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
    /// Header lines, in order, without `Content-Length`: names in lower case, and bytes. HTTP allows all of them.
    pub headers: Vec<(String, Bytes)>,
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
