//! The body of an answer, as the function writes it.

use super::answer_head::Measure;
use super::exchange::Exchange;
use crate::guest::FrameKind;
use crate::invocation::InvocationId;
use crate::invoke::{AnswerStream, InvokeError};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The body of the answer of `exchange`.
///
/// `first` is its beginning, which `measure` has counted. Dropping the body gives up the rest: the function is told so if it listens.
pub(super) fn parts(
    first: Bytes,
    exchange: Exchange,
    measure: Measure,
    id: InvocationId,
) -> AnswerStream {
    let (sender, parts) = mpsc::channel(1);
    tokio::spawn(read(exchange, measure, id, sender));
    // A head may come without any body yet; the caller should have it at once.
    let first = Some(Ok(first)).filter(|first| !first.as_ref().is_ok_and(Bytes::is_empty));
    let rest = stream::unfold(Some(parts), next).fuse();
    Box::pin(stream::iter(first).chain(rest))
}

/// An answer one part at a time: `None` after the last part; closed without that if the caller took too long.
type Parts = mpsc::Receiver<Result<Option<Bytes>, InvokeError>>;

/// The next part, and the channel of those after it: nothing follows an error.
async fn next(parts: Option<Parts>) -> Option<(Result<Bytes, InvokeError>, Option<Parts>)> {
    let mut parts = parts?;
    let part = parts.recv().await.unwrap_or_else(|| {
        let why = "the answer was not taken as fast as it must be";
        Err(InvokeError::BadRequest(why.to_owned()))
    });
    let part = part.transpose()?;
    let rest = part.is_ok().then_some(parts);
    Some((part, rest))
}

/// Reads the answer for a caller, in a task of its own.
///
/// A slow caller doesn't poll its body at all, thus only a task can take the instance back from it. Each part has to be taken within the
/// function's own time limit.
async fn read(
    mut exchange: Exchange,
    mut measure: Measure,
    id: InvocationId,
    parts: mpsc::Sender<Result<Option<Bytes>, InvokeError>>,
) {
    let instances = Arc::clone(exchange.lease().instances());
    let patience = exchange.lease().instance().version.limits.runtime;
    // Returning drops the exchange, which cancels the call if it isn't over.
    loop {
        let frame = tokio::select! {
            biased;
            frame = exchange.next_of_answer() => frame,
            () = parts.closed() => return,
        };
        let mut last = false;
        let part = match frame {
            Ok(frame) if frame.kind == FrameKind::Body => {
                last = frame.end;
                if last {
                    exchange.end_answer(frame.busy);
                }
                // The last bytes of an answer whose length is wrong must not be sent: the answer would seem whole.
                let sound = measure.take(frame.payload.len(), last);
                sound.map(|()| frame.payload).map_err(refused)
            }
            Ok(fault) => Err(exchange.fault(fault)),
            Err(error) => Err(error),
        };
        if let Err(error) = &part {
            // The status is already sent; the caller learns of the error by a cut connection, the owner by the function's log.
            instances.note(id, error);
        }
        let over = part.is_err();
        exchange.clock.hold();
        if !part.as_ref().is_ok_and(Bytes::is_empty)
            && !matches!(
                timeout(patience, parts.send(part.map(Some))).await,
                Ok(Ok(()))
            )
        {
            return;
        }
        exchange.clock.go_on();
        if last {
            // Nothing is lost if this isn't taken: all parts were taken already.
            let _ = timeout(patience, parts.send(Ok(None))).await;
        }
        if last || over {
            return;
        }
    }
}

/// The error for an answer that can't be passed on.
pub(super) fn refused(why: String) -> InvokeError {
    InvokeError::BadAnswer(format!("the function's answer is refused: {why}\n"))
}
