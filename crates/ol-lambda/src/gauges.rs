//! How much a worker holds at this moment, for monitoring.

use ol_model::MiB;

/// What a worker holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// Memory that no sandbox holds.
    pub free_memory: MiB,
    /// Sandboxes that serve a function, busy or not; in `server_mode: "sock"`, all sandboxes.
    pub sandboxes: usize,
    /// Sandboxes being started for a function.
    pub starting: usize,
    /// Calls that wait for a sandbox.
    pub waiting: usize,
}

impl Gauges {
    /// The gauges of a worker that has this much free memory, and nothing else yet.
    pub(crate) fn new(free_memory: MiB) -> Self {
        Self {
            free_memory,
            sandboxes: 0,
            starting: 0,
            waiting: 0,
        }
    }
}
