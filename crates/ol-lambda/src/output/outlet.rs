//! The pipe to which one sandbox's processes print.
//!
//! The guest flushes before it ends a call, so at that moment the pipe holds all that the call printed: the code that ends the call
//! takes those bytes out, and notes which call they belong to ([`Backlog`]). A task does everything else, in short turns: it makes lines
//! of the bytes and writes them as fast as the log allows. A function that prints too fast waits on its pipe; what then lies
//! in the pipe when a call ends, and finds no room, is counted and dropped.

use super::backlog::{Backlog, Dropped, LINE, Turn};
use super::log::Log;
use crate::invocation::InvocationId;
use bytes::BytesMut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

/// How long to wait for the rest of a line.
const MOMENT: Duration = Duration::from_millis(200);

/// How many bytes are taken out of the pipe ahead of writing; the rest stays in the pipe.
const AHEAD: usize = 64 << 10;

/// How many bytes are kept in all, when calls end faster than the log takes their output.
const MOST: usize = 256 << 10;

/// How often the pipe is read in one turn (`READS`), and to empty it at a call's end (`PLACES`).
///
/// A pipe has at most `PLACES` places (a function may make its own as long as that), and each may hold a single byte.
const READS: usize = 64;
const PLACES: usize = 256;

/// What one turn may cost: no other task waits for it longer than some ten µs.
const TURN: usize = 16 << 10;

#[derive(Debug, Default)]
struct State {
    backlog: Backlog,
    /// Reads whose cost was not spent yet.
    reads: usize,
    /// Every process has closed its end.
    ended: bool,
}

/// The output of one sandbox.
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

    /// A call begins: what is printed from now on belongs to it.
    pub(crate) fn begin(&self, call: u32, invocation: InvocationId) {
        self.state().backlog.begin(call, invocation);
    }

    /// The guest is bound; `left`: processes that its import started are still running.
    pub(crate) fn bound(&self, left: bool) {
        self.state().backlog.bound(left);
    }

    /// A call has ended: takes what it printed now, before another call begins.
    ///
    /// `left`: processes that this call or an earlier one started are still running.
    pub(crate) fn end(&self, call: u32, left: bool) {
        let mut state = self.state();
        // Costs no system call if nothing was printed: tokio knows that the pipe is not ready.
        self.take(&mut state, MOST, PLACES);
        let mut dropped = Dropped::default();
        if state.backlog.len() >= MOST {
            self.drop_rest(&mut dropped);
        }
        let printed = state.backlog.end(call, dropped, left);
        drop(state);
        if printed {
            self.taken.notify_one();
        }
    }

    /// Reads the pipe, until the backlog holds `most` bytes or `reads` reads were made.
    fn take(&self, state: &mut State, most: usize, reads: usize) {
        for _ in 0..reads {
            if state.ended || state.backlog.len() >= most {
                return;
            }
            state.backlog.open.reserve(8 << 10);
            match self.pipe.try_read_buf(&mut state.backlog.open) {
                Ok(0) => state.ended = true,
                Ok(_) => state.reads += 1,
                // The pipe is empty, or failed in a way that can't be helped.
                Err(_) => return,
            }
        }
    }

    /// Empties the pipe: what one call printed must not be taken for the next call's output.
    fn drop_rest(&self, dropped: &mut Dropped) {
        let mut bytes = BytesMut::with_capacity(AHEAD);
        for _ in 0..PLACES {
            bytes.clear();
            match self.pipe.try_read_buf(&mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) => dropped.count(&bytes),
            }
        }
    }

    async fn copy(self: Arc<Self>) {
        loop {
            let (turn, begun, ended) = {
                let mut state = self.state();
                self.take(&mut state, AHEAD, READS);
                let mut turn = state.backlog.turn(TURN, self.sandbox);
                // A read costs about as much as a line, whatever it brings.
                turn.cost += std::mem::take(&mut state.reads) * LINE;
                (turn, state.backlog.has_begun(), state.ended)
            };
            let more = turn.more;
            self.write(turn).await;
            if more {
                continue;
            }
            if ended {
                self.state().backlog.break_off();
                let rest = self.state().backlog.turn(usize::MAX, self.sandbox);
                return self.write(rest).await;
            }
            let more = async {
                tokio::select! {
                    // An error shows again when the pipe is read, and is handled there.
                    _ = self.pipe.readable() => {}
                    () = self.taken.notified() => {}
                }
            };
            if !begun {
                more.await;
            } else if timeout(MOMENT, more).await.is_err() {
                // An incomplete line that isn't continued is written all the same.
                self.state().backlog.break_off();
            }
        }
    }

    /// Writes lines in one go, then lets other tasks run; waits longer if the lines cost more than the allowance had.
    async fn write(&self, turn: Turn) {
        if turn.cost == 0 {
            return;
        }
        if !turn.text.is_empty() {
            self.log.keep(&turn.text);
        }
        let wait = self.log.spend(turn.cost);
        if wait.is_zero() {
            yield_now().await;
        } else {
            sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Allowance, Retention};
    use super::*;
    use ol_model::FunctionName;
    use std::io::Write as _;

    const RETENTION: Retention = Retention {
        bytes: 64 << 20,
        files: 1,
    };

    /// Calls print and end faster than the log takes it: no output is taken for another call's, and the log says how much is missing.
    #[tokio::test]
    async fn a_call_that_ends_leaves_nothing_in_the_pipe() {
        let folder = tempfile::tempdir().expect("a directory");
        let name = FunctionName::parse("f").expect("a name");
        let all = Arc::new(Allowance::new(1 << 30));
        let log = Arc::new(Log::new(folder.path(), &name, RETENTION, all));
        // Spend so much that nothing is written while this test prints.
        let _ = log.spend(1 << 23);
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let reader = pipe::Receiver::from_owned_fd(reader.into()).expect("a pipe");
        let outlet = Outlet::start(Arc::clone(&log), 1, reader);
        let printed = [b'\n'; 60 << 10];
        for call in 0..8 {
            let id = InvocationId {
                run: 1,
                number: call.into(),
            };
            outlet.begin(call, id);
            writer.write_all(&printed).expect("it is empty");
            outlet.pipe.readable().await.expect("a pipe");
            outlet.end(call, false);
            let left = rustix::io::ioctl_fionread(&writer).expect("a pipe");
            assert_eq!(left, 0, "after call {call}");
        }
        let text = outlet.state().backlog.turn(usize::MAX, 1).text;
        let told = text.lines().last().unwrap_or_default();
        assert!(
            told.contains("lines (") && told.contains("missing"),
            "{told}"
        );
        let kept = text.lines().count() - 1;
        assert!((MOST - (1 << 10)..=MOST + AHEAD).contains(&kept), "{kept}");
    }
}
