//! The calls that wait for an instance, first come first served.

use super::lease::Lease;
use crate::invoke::InvokeError;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Where a waiting call is told its turn, or why it doesn't come.
pub(super) type Turn = oneshot::Sender<Result<Lease, InvokeError>>;

/// Waiting calls. One whose caller left stays until it is looked at.
#[derive(Default)]
pub(super) struct Queue(VecDeque<(Turn, Instant)>);

impl Queue {
    /// Takes a place at the end.
    pub(super) fn join(&mut self) -> oneshot::Receiver<Result<Lease, InvokeError>> {
        let (sender, turn) = oneshot::channel();
        self.0.push_back((sender, Instant::now()));
        turn
    }

    /// Whose turn it is: the first who still waits.
    pub(super) fn next(&mut self) -> Option<(Turn, Instant)> {
        loop {
            let first = self.0.pop_front()?;
            if !first.0.is_closed() {
                return Some(first);
            }
        }
    }

    /// Gives a turn back that could not be used.
    pub(super) fn put_back(&mut self, turn: (Turn, Instant)) {
        self.0.push_front(turn);
    }

    /// Forgets those who left.
    pub(super) fn prune(&mut self) {
        self.0.retain(|(turn, _)| !turn.is_closed());
    }

    /// Takes out those who have waited for `patience`.
    pub(super) fn expired(&mut self, patience: Duration) -> Vec<Turn> {
        let late = |(_, since): &&(Turn, Instant)| since.elapsed() >= patience;
        let count = self.0.iter().take_while(late).count();
        self.0.drain(..count).map(|(turn, _)| turn).collect()
    }

    /// How many wait, those included who left and weren't looked at since.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends all away: told why by `refusal`, or by silence that the worker is ending.
    pub(super) fn send_away(&mut self, refusal: Option<&InvokeError>) {
        for (turn, _) in self.0.drain(..) {
            if let Some(refusal) = refusal {
                // It may have left just now.
                let _ = turn.send(Err(refusal.clone()));
            }
        }
    }
}
