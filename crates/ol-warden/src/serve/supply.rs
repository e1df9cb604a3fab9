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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::GroupLimits;
    use crate::protocol::{Content, Network, Packages, Role};
    use proptest::prelude::*;
    use std::fs::File;

    fn request(number: u64) -> WaitingRequest {
        let null = || File::open("/dev/null").expect("there").into();
        WaitingRequest {
            id: SandboxId(number),
            spec: Spec {
                role: Role::Leaf,
                parent: None,
                content: Content {
                    limits: GroupLimits {
                        memory: 1 << 20,
                        swap: 0,
                        pids: 1,
                        cpu_percent: 100,
                        oom_ends_all: true,
                    },
                    scratch: 1 << 20,
                    code: None,
                    packages: Packages::None,
                    network: Network::None,
                },
            },
            worker_fds: WorkerFds {
                guest: null(),
                log: null(),
            },
        }
    }

    fn supply(ready: u32, building: usize, waiting: u64, failures: u32) -> ShellSupply {
        ShellSupply {
            ready: (0..ready).collect(),
            building,
            waiting: (0..waiting).map(request).collect(),
            failures,
            target: 8,
        }
    }

    #[test]
    fn spare_shells_are_made_when_there_is_nothing_else_to_do_or_few_are_left() {
        for (ready, building, waiting, busy, idle) in [
            (0, 0, 0, true, true),
            (3, 0, 0, true, true),
            (4, 0, 0, false, true),
            (7, 0, 0, false, true),
            (8, 0, 0, false, false),
            (4, 4, 0, false, false),
            // Those in the making count.
            (6, 2, 0, false, false),
            // As many at once as may be.
            (0, 4, 0, false, false),
            (0, 3, 0, true, true),
            // Whoever waits is served first, and the spare ones come on top.
            (0, 0, 20, true, true),
            (0, 4, 20, false, false),
        ] {
            let lacks = |idle| supply(ready, building, waiting, 0).lacks(idle);
            let found = (lacks(false), lacks(true));
            assert_eq!(found, (busy, idle), "{ready} {building} {waiting}");
        }
    }

    #[test]
    fn after_failures_in_a_row_it_rests_until_somebody_waits() {
        assert!(supply(0, 0, 0, FAILURES_IN_A_ROW - 1).lacks(true));
        assert!(!supply(0, 0, 0, FAILURES_IN_A_ROW).lacks(true));
        assert!(supply(0, 0, 1, FAILURES_IN_A_ROW).lacks(true));
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Request,
        Made,
        Failed,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![Just(Act::Request), Just(Act::Made), Just(Act::Failed)]
    }

    proptest! {
        /// The loop of the warden in small: after each act it starts what is lacking.
        #[test]
        fn whoever_waits_is_served_or_refused_and_few_shells_are_made_at_once(
            acts in prop::collection::vec((act(), any::<bool>()), 1..80),
        ) {
            let mut supply = supply(0, 0, 0, 0);
            let (mut asked, mut served, mut refused) = (0, 0, 0);
            for (act, idle) in acts {
                match act {
                    Act::Request => {
                        supply.waiting.push_back(request(asked));
                        asked += 1;
                    }
                    Act::Made if supply.building > 0 => {
                        supply.building -= 1;
                        supply.failures = 0;
                        supply.ready.push_back(0);
                    }
                    Act::Failed if supply.building > 0 => {
                        supply.building -= 1;
                        supply.failures += 1;
                        if supply.given_up() {
                            refused += supply.waiting.drain(..).count() as u64;
                        }
                    }
                    Act::Made | Act::Failed => {}
                }
                while !supply.waiting.is_empty() && supply.ready.pop_front().is_some() {
                    supply.waiting.pop_front();
                    served += 1;
                }
                while supply.lacks(idle) {
                    supply.building += 1;
                }
                prop_assert_eq!(asked, served + refused + supply.waiting.len() as u64);
                prop_assert!(supply.building <= BUILDING_AT_ONCE);
                prop_assert!(supply.ready.len() + supply.building <= supply.waiting.len() + supply.target + BUILDING_AT_ONCE);
                // Nobody waits while nothing is under way.
                prop_assert!(supply.waiting.is_empty() || supply.building > 0);
            }
        }
    }
}
