//! The shells of one kind below one zygote (or below none), and who waits for one.

use crate::identity::ShellKind;
use crate::leaf::WorkerFds;
use crate::protocol::{SandboxId, Spec};
use std::collections::VecDeque;

/// Below which zygote's slot, and for whom.
pub(super) type SupplyKey = (Option<u32>, ShellKind);

/// A request that waits for a shell.
pub(super) struct WaitingRequest {
    pub id: SandboxId,
    pub spec: Spec,
    pub worker_fds: WorkerFds,
}

/// How many shells may be in the making at once; more would not be faster (the kernel makes network namespaces one at a
/// time) and would delay requests.
const BUILDING_AT_ONCE: usize = 4;

/// A shell that can't be made is tried again soon; after this many failures in a row those who wait are refused, and
/// nothing is tried until somebody waits again.
const FAILURES_IN_A_ROW: u32 = 3;

#[derive(Default)]
pub(super) struct ShellSupply {
    /// Slots of shells that are ready.
    pub ready: VecDeque<u32>,
    pub building: usize,
    pub waiting: VecDeque<WaitingRequest>,
    pub failures: u32,
    /// How many to keep ready when nothing is known of the demand, at most.
    pub target: usize,
}

impl ShellSupply {
    /// Is another shell to be begun? While there is other work, spares are only made when less than half of them are left: making one takes
    /// a core away from a call that waits for its sandbox.
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

    /// Have so many failed that those who wait are better told?
    pub fn given_up(&self) -> bool {
        self.failures >= FAILURES_IN_A_ROW
    }
}
