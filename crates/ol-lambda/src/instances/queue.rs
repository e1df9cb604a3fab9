//! The calls that wait for an instance, first come first served.

use super::lease::Lease;
use crate::invoke::InvokeError;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Tells a waiting call that its turn has come, or why it doesn't come.
pub(super) type Turn = oneshot::Sender<Result<Lease, InvokeError>>;

/// Waiting calls. An entry whose caller left stays until it is looked at.
#[derive(Default)]
pub(super) struct Queue(VecDeque<(Turn, Instant)>);

impl Queue {
    /// Takes a place at the end.
    pub(super) fn join(&mut self) -> oneshot::Receiver<Result<Lease, InvokeError>> {
        let (sender, turn) = oneshot::channel();
        self.0.push_back((sender, Instant::now()));
        turn
    }

    /// Takes out the first call that still waits.
    pub(super) fn next(&mut self) -> Option<(Turn, Instant)> {
        loop {
            let first = self.0.pop_front()?;
            if !first.0.is_closed() {
                return Some(first);
            }
        }
    }

    /// Puts a turn that could not be used back in front.
    pub(super) fn put_back(&mut self, turn: (Turn, Instant)) {
        self.0.push_front(turn);
    }

    /// Removes the entries whose callers left.
    pub(super) fn prune(&mut self) {
        self.0.retain(|(turn, _)| !turn.is_closed());
    }

    /// Takes out the calls that have waited for `patience`.
    pub(super) fn expired(&mut self, patience: Duration) -> Vec<Turn> {
        let late = |(_, since): &&(Turn, Instant)| since.elapsed() >= patience;
        let count = self.0.iter().take_while(late).count();
        self.0.drain(..count).map(|(turn, _)| turn).collect()
    }

    /// How many calls wait, including those whose callers left since the last look.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends all away with `refusal`; without it, their channels close, which means that the worker is ending.
    pub(super) fn send_away(&mut self, refusal: Option<&InvokeError>) {
        for (turn, _) in self.0.drain(..) {
            if let Some(refusal) = refusal {
                // The caller may have left just now.
                let _ = turn.send(Err(refusal.clone()));
            }
        }
    }
}
