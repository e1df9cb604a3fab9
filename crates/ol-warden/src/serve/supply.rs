//! The ready shells of one kind below one zygote (or below none), and the requests that wait for one.

use crate::identity::ShellKind;
use crate::leaf::WorkerFds;
use crate::protocol::{SandboxId, Spec};
use std::collections::VecDeque;

/// The slot of the zygote below which the shells lie (`None`: directly below the host), and what they are for.
pub(super) type SupplyKey = (Option<u32>, ShellKind);

/// A request that waits for a shell.
pub(super) struct WaitingRequest {
    pub id: SandboxId,
    pub spec: Spec,
    pub worker_fds: WorkerFds,
}

/// How many shells may be in the making at once.
///
/// More would not be faster, since the kernel makes network namespaces one at a time, and would delay requests.
const BUILDING_AT_ONCE: usize = 4;

/// After this many failures in a row, waiting requests are refused, and no shell is tried until a request waits again.
///
/// Before that, a shell that could not be made is tried again soon.
const FAILURES_IN_A_ROW: u32 = 3;

#[derive(Default)]
pub(super) struct ShellSupply {
    /// Slots of shells that are ready.
    pub ready: VecDeque<u32>,
    pub building: usize,
    pub waiting: VecDeque<WaitingRequest>,
    pub failures: u32,
    /// The most shells to keep ready for requests that have not come yet.
    pub target: usize,
}

impl ShellSupply {
    /// Whether another shell must be started now.
    ///
    /// While there is other work (not `idle`), spare shells are made only if less than half of them are left: making one takes a core
    /// away from a call that waits for its sandbox.
    pub fn lacks(&self, idle: bool) -> bool {
        let there = self.ready.len() + self.building;
        let spare = if idle || there < self.waiting.len() + self.target / 2 {
            self.target
        } else {
            0
        };
        let resting = self.waiting.is_empty() && self.given_up();
        self.building < BUILDING_AT_ONCE && there < self.waiting.len() + spare && !resting
    }

    /// Whether so many shells failed in a row that waiting requests are refused.
    pub fn given_up(&self) -> bool {
        self.failures >= FAILURES_IN_A_ROW
    }
}
