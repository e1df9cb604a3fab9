//! The pipe on which one sandbox's processes print, and whose line is whose.
//!
//! The guest flushes before it ends a call, so at that moment the pipe holds all that the call printed: whoever ends the call
//! takes it out and names its invocation. Everything else is taken by a task. A function that prints faster than it may,
//! or than the disk takes it, waits on its pipe.

use super::line::{Source, entry};
use super::log::Log;
use crate::invoke::InvocationId;
use bytes::BytesMut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// A line is cut here, in bytes.
const LONGEST_LINE: usize = 16 << 10;

/// How long the rest of a line is waited for.
const MOMENT: Duration = Duration::from_millis(200);

/// What is taken out of the pipe before it is written, in bytes; what is more stays in the pipe.
const MOST: usize = 128 << 10;

/// Begins and ends the number of a call before a line (docs/guest-protocol.md).
const TAG: (u8, u8) = (0x1e, 0x1f);

#[derive(Debug, Default)]
struct State {
    /// The calls in flight.
    calls: Vec<(u32, InvocationId)>,
    /// The beginning of a line.
    pending: BytesMut,
    /// Lines as the log will have them, and how many bytes were printed for them.
    lines: String,
    bytes: usize,
    /// Every process has closed its end.
    ended: bool,
}

/// One sandbox's output.
#[derive(Debug)]
pub(crate) struct Outlet {
    sandbox: u64,
    pipe: pipe::Receiver,
    log: Arc<Log>,
    state: Mutex<State>,
    taken: Notify,
}

impl Outlet {
    /// Starts to copy what comes out of `pipe` to `log`, until every process of the sandbox has closed it.
    pub(crate) fn start(log: Arc<Log>, sandbox: u64, pipe: pipe::Receiver) -> Arc<Self> {
        let outlet = Arc::new(Self {
            sandbox,
            pipe,
            log,
            state: Mutex::default(),
            taken: Notify::new(),
        });
        tokio::spawn(Arc::clone(&outlet).copy());
        outlet
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins: what is printed from now on is its.
    pub(crate) fn begin(&self, call: u32, invocation: InvocationId) {
        self.state().calls.push((call, invocation));
    }

    /// A call has ended: what it printed is taken now, before another begins.
    pub(crate) fn end(&self, call: u32) {
        let mut state = self.state();
        // Costs no system call while nothing was printed: the pipe's readiness is known.
        self.take(&mut state);
        if state.calls.len() == 1 && !state.pending.is_empty() {
            // A line without an end must not become the beginning of another call's.
            let rest = state.pending.split();
            self.put(&mut state, &rest);
        }
        let printed = !state.lines.is_empty();
        state.calls.retain(|(other, _)| *other != call);
        drop(state);
        if printed {
            self.taken.notify_one();
        }
    }

    /// Takes what lies in the pipe, cut into lines.
    fn take(&self, state: &mut State) {
        while !state.ended && state.bytes < MOST {
            state.pending.reserve(8 << 10);
            match self.pipe.try_read_buf(&mut state.pending) {
                Ok(0) => state.ended = true,
                Ok(_) => {
                    while let Some(line) = next_line(&mut state.pending) {
                        self.put(state, &line);
                    }
                }
                // Nothing there, or nothing that could be done about it.
                Err(_) => break,
            }
        }
    }

    fn put(&self, state: &mut State, line: &[u8]) {
        let (invocation, text) = owner(&state.calls, line);
        let text = entry(
            SystemTime::now(),
            Source::Sandbox(self.sandbox),
            invocation,
            text,
        );
        state.bytes += line.len();
        state.lines.push_str(&text);
    }

    async fn copy(self: Arc<Self>) {
        loop {
            let (begun, ended) = {
                let mut state = self.state();
                self.take(&mut state);
                (!state.pending.is_empty(), state.ended)
            };
            self.write_lines().await;
            if ended {
                return self.write_pending().await;
            }
            let more = async {
                tokio::select! {
                    // An error shows again, and is dealt with, when it is read.
                    _ = self.pipe.readable() => {}
                    () = self.taken.notified() => {}
                }
            };
            if !begun {
                more.await;
            } else if timeout(MOMENT, more).await.is_err() {
                // A line without an end, and nothing follows: it is shown all the same.
                self.write_pending().await;
            }
        }
    }

    async fn write_pending(&self) {
        {
            let mut state = self.state();
            let rest = state.pending.split();
            if !rest.is_empty() {
                self.put(&mut state, &rest);
            }
        }
        self.write_lines().await;
    }

    /// Writes all lines that are there in one go, then waits if that was too much at once.
    async fn write_lines(&self) {
        let (text, bytes) = {
            let mut state = self.state();
            (
                std::mem::take(&mut state.lines),
                std::mem::take(&mut state.bytes),
            )
        };
        if text.is_empty() {
            return;
        }
        self.log.keep(&text);
        let wait = self.log.spend(bytes);
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }
}

/// Whose line it is, and the line without its tag. One that says nothing belongs to the only call there is.
fn owner<'a>(calls: &[(u32, InvocationId)], line: &'a [u8]) -> (Option<InvocationId>, &'a [u8]) {
    if let Some((tag, text)) = tagged(line) {
        let known = calls.iter().find(|(call, _)| *call == tag);
        return (known.map(|(_, invocation)| *invocation), text);
    }
    let only = match calls {
        [(_, invocation)] => Some(*invocation),
        _ => None,
    };
    (only, line)
}

fn tagged(line: &[u8]) -> Option<(u32, &[u8])> {
    let (first, rest) = line.split_first()?;
    if *first != TAG.0 {
        return None;
    }
    let end = rest.iter().take(11).position(|byte| *byte == TAG.1)?;
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((number, &rest[end + 1..]))
}

fn next_line(pending: &mut BytesMut) -> Option<BytesMut> {
    match pending
        .iter()
        .take(LONGEST_LINE)
        .position(|byte| *byte == b'\n')
    {
        Some(end) => Some(pending.split_to(end + 1)),
        None => (pending.len() >= LONGEST_LINE).then(|| pending.split_to(LONGEST_LINE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_belongs_to_its_tag_or_to_the_only_call() {
        let id = |number| InvocationId { run: 1, number };
        let two = [(4, id(40)), (5, id(50))];
        assert_eq!(
            owner(&two, b"\x1e5\x1fhello"),
            (Some(id(50)), &b"hello"[..])
        );
        assert_eq!(owner(&two, b"\x1e9\x1fhello"), (None, &b"hello"[..]));
        assert_eq!(owner(&two, b"hello"), (None, &b"hello"[..]));
        assert_eq!(owner(&two[..1], b"hello"), (Some(id(40)), &b"hello"[..]));
        assert_eq!(
            owner(&two[..1], b"\x1ehello"),
            (Some(id(40)), &b"\x1ehello"[..])
        );
        assert_eq!(owner(&[], b"hello"), (None, &b"hello"[..]));
    }
}
