//! The table of cells. A cell is one slot of uids with its keeper, groups and, once leased, its leaf or zygote.
//!
//! ```text
//!           refill            status pipe closed         Create              Destroy, keeper died
//!   (free) ───────▶ Building ───────────────────▶ Ready ────────▶ Occupied ─────────────────────────▶ Ending ──▶ (free)
//!                      │ words in the pipe                          │ a zygote's Destroy       ▲    keeper reaped,
//!                      └─────────────────────────▶ Ending           └─▶ Lingering ─────────────┘     groups removed
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
    /// None until the maker of a zygote tells.
    pub keeper: Option<Child>,
    pub identity: ShellIdentity,
    /// The slot of the zygote that it lies below.
    pub parent: Option<u32>,
    /// Cells that lie directly below it.
    pub below: usize,
    pub group: Group,
    /// Its way out, by number.
    pub link: Option<u32>,
    /// For a process that forks into it.
    pub entrances: Option<Entrances>,
    pub stage: Stage,
}

pub(super) enum Stage {
    Building {
        status: Watched<OwnedFd>,
    },
    Ready,
    Occupied(Occupant),
    /// A zygote that was destroyed; its namespaces hold those of its descendants.
    Lingering {
        occupant: Occupant,
    },
    Ending {
        occupant: Option<Occupant>,
        announce: Option<SandboxId>,
    },
}

pub(super) struct Cells {
    pub proof: SingleThread,
    pub layout: Layout,
    pub prefix: String,
    pub uids: Block,
    pub shell_config: shell::ShellConfig,
    pub leaf_config: leaf::LeafConfig,
    pub fitter: Fitter,
    pub networking: Networking,
    pub rights: Rights,
    /// The limits that most sandboxes have, set before they are needed.
    pub usual: GroupLimits,
    pub ceiling: Ceiling,
    pub watch: Watch,
    pub supplies: BTreeMap<SupplyKey, ShellSupply>,
    pub cells: BTreeMap<u32, Cell>,
    pub slot_by_id: HashMap<SandboxId, u32>,
    /// Which slot a child belongs to.
    pub slot_of: HashMap<i32, u32>,
    /// Slots into which a zygote is forking.
    pub forks: BTreeSet<u32>,
    /// Where the search for a free slot goes on.
    pub next_slot: u32,
    /// To be tried again.
    pub removals: Vec<Removal>,
}

impl Cells {
    pub(super) fn new(
        proof: SingleThread,
        layout: Layout,
        config: &Config,
        watch: Watch,
        configs: (shell::ShellConfig, leaf::LeafConfig),
        (fitter, networking): (Fitter, Networking),
        uids: Block,
    ) -> Self {
        let root = ShellSupply {
            target: config.shells_ready,
            ..ShellSupply::default()
        };
        let (shell_config, leaf_config) = configs;
        Self {
            proof,
            layout,
            prefix: config.prefix.clone(),
            uids,
            shell_config,
            leaf_config,
            fitter,
            networking,
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

    /// Where shells like that of `slot` are made ready; none once their zygote is gone.
    pub(super) fn supply_of(&mut self, slot: u32) -> Option<(SupplyKey, &mut ShellSupply)> {
        let cell = self.cells.get(&slot)?;
        let key = (cell.parent, cell.identity.kind);
        self.supplies.get_mut(&key).map(|supply| (key, supply))
    }
}

impl Cell {
    /// Both fail only if there is nothing left to kill or to thaw.
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
