//! The table of cells. A cell is one slot (two uids), with its keeper, cgroups and, once it is occupied, its leaf or zygote.
//!
//! ```text
//!           refill            status pipe closed         Create              Destroy, keeper died
//!   (free) ───────▶ Building ───────────────────▶ Ready ────────▶ Occupied ──────────────────────▶ Ending ──▶ (free)
//!                      │ an error in the pipe                       │ a zygote's Destroy      ▲    keeper reaped,
//!                      └─────────────────────────▶ Ending           └─▶ Lingering ────────────┘     groups removed
//!                                                                         until its last descendant is gone
//! ```

use super::ending::Removal;
use super::occupant::Occupant;
use super::supply::{ShellSupply, SupplyKey};
use super::watch::{Watch, Watched};
use super::{Ceiling, Config};
use crate::cgroup::{Entrances, Group, GroupLimits, Layout};
use crate::fit::Fitter;
use crate::identity::{ShellIdentity, ShellKind};
use crate::leaf;
use crate::network::Networking;
use crate::protocol::SandboxId;
use crate::shell;
use crate::uids::Block;
use ol_sys::confine::Rights;
use ol_sys::process::{Child, SingleThread};
use rustix::process::{Signal, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;

pub(super) struct Cell {
    /// `None` while the zygote's shell maker has not yet said that it made the keeper.
    pub keeper: Option<Child>,
    pub identity: ShellIdentity,
    /// The slot of the zygote below which this cell's namespaces lie; `None` if they lie directly below the host's.
    pub parent: Option<u32>,
    /// How many cells have this one as their parent.
    pub below: usize,
    pub group: Group,
    /// The number of its network link, if it has one.
    pub link: Option<u32>,
    /// The cgroup files for a process that is forked into the shell; taken when that is ordered.
    pub entrances: Option<Entrances>,
    pub stage: Stage,
}

pub(super) enum Stage {
    Building {
        status: Watched<OwnedFd>,
    },
    Ready,
    Occupied(Occupant),
    /// A zygote that was destroyed, while its namespaces still hold those of its descendants.
    Lingering {
        occupant: Occupant,
    },
    Ending {
        occupant: Option<Occupant>,
        announce: Option<SandboxId>,
    },
}

/// What sandboxes are made with, the same for all of them.
pub(super) struct Means {
    pub proof: SingleThread,
    pub layout: Layout,
    pub uids: Block,
    pub shell_config: shell::ShellConfig,
    pub leaf_config: leaf::LeafConfig,
    pub fitter: Fitter,
    pub networking: Networking,
}

pub(super) struct Cells {
    pub means: Means,
    pub prefix: String,
    pub rights: Rights,
    /// The limits that most sandboxes have; they are set on each shell ahead.
    pub usual: GroupLimits,
    pub ceiling: Ceiling,
    pub watch: Watch,
    pub supplies: BTreeMap<SupplyKey, ShellSupply>,
    pub cells: BTreeMap<u32, Cell>,
    pub slot_by_id: HashMap<SandboxId, u32>,
    /// The slot that a child process belongs to, by its process number on the host.
    pub slot_of: HashMap<i32, u32>,
    /// Slots into which a zygote is forking.
    pub forks: BTreeSet<u32>,
    /// Where the search for a free slot continues.
    pub next_slot: u32,
    /// Groups that could not be removed yet; tried again in each turn of the loop.
    pub removals: Vec<Removal>,
}

impl Cells {
    pub(super) fn new(means: Means, config: &Config, watch: Watch) -> Self {
        let root = ShellSupply {
            target: config.shells_ready,
            ..ShellSupply::default()
        };
        Self {
            means,
            prefix: config.prefix.clone(),
            rights: ol_sys::confine::rights(),
            usual: config.usual,
            ceiling: config.ceiling,
            watch,
            supplies: BTreeMap::from([((None, ShellKind::Leaf), root)]),
            cells: BTreeMap::new(),
            slot_by_id: HashMap::new(),
            slot_of: HashMap::new(),
            forks: BTreeSet::new(),
            next_slot: 0,
            removals: Vec::new(),
        }
    }

    /// The supply to which the shell of `slot` belongs; `None` once its zygote is gone.
    pub(super) fn supply_of(&mut self, slot: u32) -> Option<(SupplyKey, &mut ShellSupply)> {
        let cell = self.cells.get(&slot)?;
        let key = (cell.parent, cell.identity.kind);
        self.supplies.get_mut(&key).map(|supply| (key, supply))
    }
}

impl Cell {
    /// Kills the keeper, and thaws the group so that its processes can die.
    ///
    /// Errors are ignored: they mean that nothing is left to kill or to thaw.
    pub(super) fn kill(&self) {
        if let Some(keeper) = &self.keeper {
            let _ = pidfd_send_signal(&keeper.pidfd, Signal::KILL);
        }
        let _ = self.group.thaw_to_die();
    }

    pub(super) fn occupant_mut(&mut self) -> Option<&mut Occupant> {
        match &mut self.stage {
            Stage::Occupied(occupant) | Stage::Lingering { occupant } => Some(occupant),
            Stage::Ending { occupant, .. } => occupant.as_mut(),
            _ => None,
        }
    }
}
