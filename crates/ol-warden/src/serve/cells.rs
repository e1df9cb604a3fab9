//! The table of cells. A cell is one slot of uids with its keeper, groups and, once leased, its leaf or zygote.
//!
//! ```text
//!           refill            status pipe closed         Create              Destroy, keeper died
//!   (free) ───────▶ Building ───────────────────▶ Ready ────────▶ Leased ─────────────────────────▶ Ending ──▶ (free)
//!                      │ words in the pipe                          │ a zygote's Destroy       ▲    keeper reaped,
//!                      └─────────────────────────▶ Ending           └─▶ Lingering ─────────────┘     groups removed
//!                                                                         until its last descendant is gone
//! ```

use super::lease::{First, Lease, last_words};
use super::nursery::{Key, Nursery};
use super::outbox::Outbox;
use super::watch::{Token, Watch, Watched};
use super::{Ceiling, Config};
use crate::cgroup::{Entrances, Group, Layout, Limits};
use crate::fit::Fitter;
use crate::inside::{Inside, Kind};
use crate::leaf;
use crate::network::Networking;
use crate::protocol::{Event, SandboxId, reason};
use crate::shell;
use crate::uids::Block;
use ol_sys::confine::Rights;
use ol_sys::process::{Child, SingleThread};
use rustix::process::{Signal, WaitOptions, WaitStatus, pidfd_send_signal, wait};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

pub(super) struct Cell {
    /// None until the maker of a zygote tells.
    pub keeper: Option<Child>,
    pub inside: Inside,
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
    Leased(Lease),
    /// A zygote that was destroyed; its namespaces hold those of its descendants.
    Lingering {
        lease: Lease,
    },
    Ending {
        lease: Option<Lease>,
        announce: Option<SandboxId>,
    },
}

/// Groups that were busy when their cell ended.
pub(super) struct Removal {
    group: Group,
    announce: Option<SandboxId>,
    tries: u32,
}

/// After so many tries whoever is still in a group has no business there: its namespaces are gone.
const PATIENT_TRIES: u32 = 50;

pub(super) struct Cells {
    pub proof: SingleThread,
    pub layout: Layout,
    pub prefix: String,
    pub uids: Block,
    pub shell_mold: shell::Mold,
    pub leaf_mold: leaf::Mold,
    pub fitter: Fitter,
    pub networking: Networking,
    pub rights: Rights,
    /// The limits that most sandboxes have, set before they are needed.
    pub usual: Limits,
    pub ceiling: Ceiling,
    pub watch: Watch,
    pub nurseries: BTreeMap<Key, Nursery>,
    pub cells: BTreeMap<u32, Cell>,
    pub slot_by_id: HashMap<SandboxId, u32>,
    /// Which slot a child belongs to.
    pub slot_of: HashMap<i32, u32>,
    /// Slots into which a zygote is forking.
    pub births: BTreeSet<u32>,
    next_slot: u32,
    removals: Vec<Removal>,
}

impl Cells {
    pub(super) fn new(
        proof: SingleThread,
        layout: Layout,
        config: &Config,
        watch: Watch,
        molds: (shell::Mold, leaf::Mold),
        (fitter, networking): (Fitter, Networking),
        uids: Block,
    ) -> Self {
        let root = Nursery {
            target: config.shells_ready,
            ..Nursery::default()
        };
        let (shell_mold, leaf_mold) = molds;
        Self {
            proof,
            layout,
            prefix: config.prefix.clone(),
            uids,
            shell_mold,
            leaf_mold,
            fitter,
            networking,
            rights: ol_sys::confine::rights(),
            usual: config.usual,
            ceiling: config.ceiling,
            watch,
            nurseries: BTreeMap::from([((None, Kind::Leaf), root)]),
            cells: BTreeMap::new(),
            slot_by_id: HashMap::new(),
            slot_of: HashMap::new(),
            births: BTreeSet::new(),
            next_slot: 0,
            removals: Vec::new(),
        }
    }

    /// Starts shells where there are fewer than wanted. True if one failed and is to be tried again.
    pub(super) fn refill(&mut self, idle: bool, outbox: &mut Outbox) -> bool {
        let mut failed = false;
        let keys: Vec<Key> = self.nurseries.keys().copied().collect();
        for key in keys {
            while self.nurseries.get(&key).is_some_and(|n| n.lacks(idle)) {
                if let Err(error) = self.begin_shell(key) {
                    self.shell_failed(key, &error.to_string(), outbox);
                    failed = true;
                    break;
                }
            }
        }
        failed
    }

    /// Would an idle moment be used to start shells?
    pub(super) fn has_spares_to_make(&self) -> bool {
        self.nurseries.values().any(|nursery| nursery.lacks(true))
    }

    fn begin_shell(&mut self, key: Key) -> io::Result<()> {
        while self.cells.contains_key(&self.next_slot) {
            self.next_slot = (self.next_slot + 1) % Block::PAIRS;
        }
        let slot = self.next_slot;
        self.next_slot = (self.next_slot + 1) % Block::PAIRS;
        let (parent, kind) = key;
        let inside = Inside {
            kind,
            pair: self.uids.pair(slot),
            block: self.uids.range(),
        };
        let mut group = Group::create(&self.layout, &self.prefix, &format!("sandbox-{slot}"))?;
        let made = group
            .limit(&self.usual)
            .and_then(|()| parent.map(|_| group.entrances(true)).transpose())
            .and_then(|entrances| {
                let (keeper, status) = match parent {
                    None => {
                        let newborn = shell::begin(&self.proof, &self.shell_mold, &inside)?;
                        (Some(newborn.keeper), newborn.status)
                    }
                    Some(zygote) => (None, self.ask_maker(zygote, slot, &inside)?),
                };
                let status = self.watch.own(status, Token::Status(slot))?;
                Ok((keeper, status, entrances))
            });
        let (keeper, status, entrances) = match made {
            Ok(made) => made,
            Err(error) => {
                group.remove()?;
                return Err(error);
            }
        };
        if let Some(keeper) = &keeper {
            self.slot_of.insert(keeper.pid, slot);
        }
        let cell = Cell {
            keeper,
            inside,
            parent,
            below: 0,
            group,
            link: None,
            entrances,
            stage: Stage::Building { status },
        };
        self.cells.insert(slot, cell);
        if let Some(above) = parent.and_then(|parent| self.cells.get_mut(&parent)) {
            above.below += 1;
        }
        if let Some(nursery) = self.nurseries.get_mut(&key) {
            nursery.building += 1;
        }
        Ok(())
    }

    fn shell_failed(&mut self, key: Key, why: &str, outbox: &mut Outbox) {
        let Some(nursery) = self.nurseries.get_mut(&key) else {
            return;
        };
        nursery.failures += 1;
        if nursery.given_up() {
            let by_parent = key.0.is_some();
            for waiting in nursery.waiting.drain(..) {
                let reason = reason(&format!("make a sandbox: {why}"));
                outbox.refuse(waiting.id, reason, by_parent);
            }
        }
    }

    fn nursery_of(&mut self, slot: u32) -> Option<(Key, &mut Nursery)> {
        let cell = self.cells.get(&slot)?;
        let key = (cell.parent, cell.inside.kind);
        self.nurseries.get_mut(&key).map(|nursery| (key, nursery))
    }

    /// Moves on the shell or the inhabitant of `slot`, whose status has something to say.
    pub(super) fn look_at_status(&mut self, slot: u32, outbox: &mut Outbox) {
        let parent = self.cells.get(&slot).and_then(|cell| {
            let unknown = cell.keeper.is_none();
            cell.parent.filter(|_| unknown)
        });
        if let Some(parent) = parent {
            // What its maker said came first.
            self.look_at_maker(parent, outbox);
        }
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        match &mut cell.stage {
            Stage::Building { status } => match last_words(status.as_fd()) {
                None => {}
                Some(words) if words.is_empty() && cell.keeper.is_some() => {
                    cell.stage = Stage::Ready;
                    if let Some((key, nursery)) = self.nursery_of(slot) {
                        nursery.building = nursery.building.saturating_sub(1);
                        nursery.failures = 0;
                        nursery.ready.push_back(slot);
                        self.lease(key, outbox);
                    } else {
                        // Its zygote is gone.
                        self.end(slot, None);
                    }
                }
                Some(words) => self.building_failed(slot, &words, outbox),
            },
            Stage::Leased(lease) => match lease.first {
                First::Program(_) => lease.listen(),
                First::Birth(_) => self.look_at_birth(slot, outbox),
                First::Over => {}
            },
            _ => {}
        }
    }

    /// The shell of `slot` will not be ready.
    pub(super) fn building_failed(&mut self, slot: u32, why: &str, outbox: &mut Outbox) {
        let Some((key, nursery)) = self.nursery_of(slot) else {
            return self.end(slot, None);
        };
        nursery.building = nursery.building.saturating_sub(1);
        let why = if why.is_empty() {
            "its keeper died"
        } else {
            why
        };
        self.end(slot, None);
        self.shell_failed(key, why, outbox);
    }

    /// Kills the keeper of `slot`, and so all in its pid namespace.
    pub(super) fn end(&mut self, slot: u32, announce: Option<SandboxId>) {
        self.forget_birth(slot);
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        let lease = match std::mem::replace(&mut cell.stage, Stage::Ready) {
            Stage::Leased(lease)
            | Stage::Lingering { lease }
            | Stage::Ending {
                lease: Some(lease), ..
            } => Some(lease),
            _ => None,
        };
        cell.stage = Stage::Ending { lease, announce };
        cell.kill();
    }

    /// The keeper is reaped, so its namespaces are empty and gone: only the groups remain.
    pub(super) fn keeper_gone(&mut self, slot: u32, outbox: &mut Outbox) {
        let unbuilt = match self.cells.get(&slot).map(|cell| &cell.stage) {
            Some(Stage::Building { status }) => Some(last_words(status.as_fd())),
            _ => None,
        };
        if let Some(words) = unbuilt {
            self.building_failed(slot, &words.unwrap_or_default(), outbox);
        }
        if let Some((_, nursery)) = self.nursery_of(slot) {
            nursery.ready.retain(|ready| *ready != slot);
        }
        self.retire(slot, outbox);
        self.forget_birth(slot);
        let Some(cell) = self.cells.remove(&slot) else {
            return;
        };
        if let Some(link) = cell.link {
            self.networking.release(link);
        }
        let announce = match cell.stage {
            Stage::Ending { announce, .. } => announce,
            Stage::Leased(lease) if lease.pid.is_none() => {
                // It ends before it was born: whoever asked for it waits for a word.
                self.slot_by_id.remove(&lease.id);
                outbox.refuse(lease.id, "its keeper died".to_owned(), true);
                None
            }
            Stage::Leased(lease) => {
                self.slot_by_id.remove(&lease.id);
                None
            }
            Stage::Lingering { lease } => Some(lease.id),
            _ => None,
        };
        self.remove_group(
            Removal {
                group: cell.group,
                announce,
                tries: 0,
            },
            outbox,
        );
        self.one_less_below(cell.parent);
    }

    fn one_less_below(&mut self, parent: Option<u32>) {
        let Some((slot, above)) = parent.and_then(|slot| Some((slot, self.cells.get_mut(&slot)?)))
        else {
            return;
        };
        above.below = above.below.saturating_sub(1);
        if let (Stage::Lingering { lease }, 0) = (&above.stage, above.below) {
            let id = lease.id;
            self.end(slot, Some(id));
        }
    }

    /// Forgets a cell that never had a keeper: there is nothing in it.
    pub(super) fn drop_unmade(&mut self, slot: u32, outbox: &mut Outbox) {
        if self.cells.get(&slot).is_some_and(|c| c.keeper.is_none()) {
            self.keeper_gone(slot, outbox);
        }
    }

    fn remove_group(&mut self, removal: Removal, outbox: &mut Outbox) {
        if removal.group.remove().is_err() {
            if removal.tries == PATIENT_TRIES {
                // Fails only if there is nobody left to kill.
                let _ = removal.group.kill_members();
            }
            let tries = removal.tries.saturating_add(1);
            return self.removals.push(Removal { tries, ..removal });
        }
        if let Some(id) = removal.announce {
            outbox.push(Event::Destroyed { id }, Vec::new());
        }
    }

    /// Ends every cell and waits until nothing is left; for the end of the warden. `other` hears of every child that ends
    /// meanwhile.
    pub(super) fn end_all(&mut self, mut other: impl FnMut(i32, WaitStatus)) -> io::Result<()> {
        let mut outbox = Outbox::default();
        self.nurseries.clear();
        let slots: Vec<u32> = self.cells.keys().copied().collect();
        for slot in slots {
            self.end(slot, None);
            self.drop_unmade(slot, &mut outbox);
        }
        while !self.cells.is_empty() {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => {
                    other(pid.as_raw_pid(), status);
                    self.reaped(pid.as_raw_pid(), status, &mut outbox);
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CHILD) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    pub(super) fn retry_removals(&mut self, outbox: &mut Outbox) {
        for removal in std::mem::take(&mut self.removals) {
            self.remove_group(removal, outbox);
        }
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

    pub(super) fn lease_mut(&mut self) -> Option<&mut Lease> {
        match &mut self.stage {
            Stage::Leased(lease) | Stage::Lingering { lease } => Some(lease),
            Stage::Ending { lease, .. } => lease.as_mut(),
            _ => None,
        }
    }
}
