//! Makes shells ahead: starts one wherever a supply lacks some, and notices when it is ready (its status pipe closes).

use super::cells::{Cell, Cells, Stage};
use super::occupant::{Startup, read_failure};
use super::outbox::Outbox;
use super::supply::SupplyKey;
use super::watch::Token;
use crate::cgroup::Group;
use crate::identity::ShellIdentity;
use crate::protocol::reason;
use crate::shell;
use crate::uids::Block;
use std::io;
use std::os::fd::AsFd;

impl Cells {
    /// Starts shells where a supply lacks some. Returns true if one failed and must be tried again.
    pub(super) fn refill(&mut self, idle: bool, outbox: &mut Outbox) -> bool {
        let mut failed = false;
        let keys: Vec<SupplyKey> = self.supplies.keys().copied().collect();
        for key in keys {
            while self.supplies.get(&key).is_some_and(|n| n.lacks(idle)) {
                if let Err(error) = self.begin_shell(key) {
                    self.shell_failed(key, &error.to_string(), outbox);
                    failed = true;
                    break;
                }
            }
        }
        failed
    }

    /// Whether there are spare shells to make when the loop is idle.
    pub(super) fn has_spares_to_make(&self) -> bool {
        self.supplies.values().any(|supply| supply.lacks(true))
    }

    fn begin_shell(&mut self, key: SupplyKey) -> io::Result<()> {
        while self.cells.contains_key(&self.next_slot) {
            self.next_slot = (self.next_slot + 1) % Block::PAIRS;
        }
        let slot = self.next_slot;
        self.next_slot = (self.next_slot + 1) % Block::PAIRS;
        let (parent, kind) = key;
        let identity = ShellIdentity {
            kind,
            pair: self.means.uids.pair(slot),
            block: self.means.uids.range(),
        };
        let mut group =
            Group::create(&self.means.layout, &self.prefix, &format!("sandbox-{slot}"))?;
        let made = group
            .limit(&self.usual)
            .and_then(|()| parent.map(|_| group.entrances(true)).transpose())
            .and_then(|entrances| {
                let (keeper, status) = match parent {
                    None => {
                        let starting =
                            shell::begin(&self.means.proof, &self.means.shell_config, &identity)?;
                        (Some(starting.keeper), starting.status)
                    }
                    Some(zygote) => (None, self.ask_maker(zygote, slot, &identity)?),
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
            identity,
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
        if let Some(supply) = self.supplies.get_mut(&key) {
            supply.building += 1;
        }
        Ok(())
    }

    fn shell_failed(&mut self, key: SupplyKey, why: &str, outbox: &mut Outbox) {
        let Some(supply) = self.supplies.get_mut(&key) else {
            return;
        };
        supply.failures += 1;
        if supply.given_up() {
            let by_parent = key.0.is_some();
            for waiting in supply.waiting.drain(..) {
                let reason = reason(&format!("make a sandbox: {why}"));
                outbox.refuse(waiting.id, reason, by_parent);
            }
        }
    }

    /// Handles news on the status descriptor of `slot`: of its shell, if that is being made, else of its occupant.
    pub(super) fn look_at_status(&mut self, slot: u32, outbox: &mut Outbox) {
        let parent = self.cells.get(&slot).and_then(|cell| {
            let unknown = cell.keeper.is_none();
            cell.parent.filter(|_| unknown)
        });
        if let Some(parent) = parent {
            // The maker's message about this keeper was sent before the keeper went on, so it is read first.
            self.look_at_maker(parent, outbox);
        }
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        match &mut cell.stage {
            Stage::Building { status } => match read_failure(status.as_fd()) {
                None => {}
                Some(failure) if failure.is_empty() && cell.keeper.is_some() => {
                    cell.stage = Stage::Ready;
                    if let Some((key, supply)) = self.supply_of(slot) {
                        supply.building = supply.building.saturating_sub(1);
                        supply.failures = 0;
                        supply.ready.push_back(slot);
                        self.hand_out_shells(key, outbox);
                    } else {
                        // Its zygote is gone.
                        self.end(slot, None);
                    }
                }
                Some(failure) => self.building_failed(slot, &failure, outbox),
            },
            Stage::Occupied(occupant) => match occupant.startup {
                Startup::Exec(_) => occupant.read_status(),
                Startup::Fork(_) => self.look_at_fork(slot, outbox),
                Startup::Done => {}
            },
            _ => {}
        }
    }

    /// Handles that the shell of `slot` could not be made, because of `why`.
    pub(super) fn building_failed(&mut self, slot: u32, why: &str, outbox: &mut Outbox) {
        let Some((key, supply)) = self.supply_of(slot) else {
            return self.end(slot, None);
        };
        supply.building = supply.building.saturating_sub(1);
        let why = if why.is_empty() {
            "its keeper died"
        } else {
            why
        };
        self.end(slot, None);
        self.shell_failed(key, why, outbox);
    }
}
