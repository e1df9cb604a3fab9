//! An answer's body, as the function writes it.

use super::answer_head::Measure;
use super::exchange::Exchange;
use crate::guest::Kind;
use crate::invoke::{InvocationId, InvokeError};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The answer's body, as the function writes it. Dropping it cancels the call.
pub struct AnswerStream {
    first: Option<Bytes>,
    /// One part at a time, `None` after the last; closed without that when the caller took too long.
    parts: mpsc::Receiver<Result<Option<Bytes>, InvokeError>>,
    complete: bool,
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerStream")
    }
}

impl AnswerStream {
    /// The rest of the answer of `exchange`, after `first`, which `measure` has counted.
    pub(super) fn new(
        first: Bytes,
        exchange: Exchange,
        measure: Measure,
        id: InvocationId,
    ) -> Self {
        let (sender, parts) = mpsc::channel(1);
        tokio::spawn(read(exchange, measure, id, sender));
        Self {
            // A head may come without any body yet; the caller is to have it at once.
            first: Some(first).filter(|first| !first.is_empty()),
            parts,
            complete: false,
        }
    }

    /// The next part, `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Bytes, InvokeError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        if self.complete {
            return None;
        }
        let part = self.parts.recv().await.unwrap_or_else(|| {
            Err(InvokeError::BadRequest(
                "the answer was not taken as fast as it must be".to_owned(),
            ))
        });
        // Nothing follows the last part, nor an error.
        self.complete = !matches!(part, Ok(Some(_)));
        part.transpose()
    }
}

/// Reads the answer for a caller, in a task of its own, because a caller who doesn't take his parts doesn't even ask for them: he
/// must not hold an instance for ever. Each part has to be taken within the function's own time limit.
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
            Ok(frame) if frame.kind == Kind::Body => {
                last = frame.end;
                if last {
                    exchange.end_answer(frame.busy);
                }
                // The last bytes of an answer that isn't what it said must not leave: it would seem whole.
                let sound = measure.take(frame.payload.len(), last);
                sound.map(|()| frame.payload).map_err(refused)
            }
            Ok(fault) => Err(exchange.fault(fault)),
            Err(error) => Err(error),
        };
        if let Err(error) = &part {
            // The status is sent; the caller learns by a cut connection, the owner by the function's log.
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
            // Nothing is lost if it isn't taken: all else was.
            let _ = timeout(patience, parts.send(Ok(None))).await;
        }
        if last || over {
            return;
        }
    }
}

/// The error of an answer that can't be passed on.
pub(super) fn refused(why: String) -> InvokeError {
    InvokeError::BadAnswer(format!("the function's answer is refused: {why}\n"))
}
