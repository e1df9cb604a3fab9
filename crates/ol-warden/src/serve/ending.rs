//! Ends cells: kills the keeper, reaps it, then removes its cgroups, however many tries that takes.

use super::cells::{Cells, Stage};
use super::occupant::read_failure;
use super::outbox::Outbox;
use crate::cgroup::Group;
use crate::protocol::{Event, SandboxId};
use rustix::process::{WaitOptions, WaitStatus, wait};
use std::io;
use std::os::fd::AsFd;

/// The groups of a cell that has ended, to be removed.
pub(super) struct Removal {
    group: Group,
    announce: Option<SandboxId>,
    tries: u32,
}

/// After this many tries, processes that are still in a group are killed: its namespaces are gone, so they don't belong there.
const PATIENT_TRIES: u32 = 50;

impl Cells {
    /// Kills the keeper of `slot`, and with it every process in its pid namespace.
    pub(super) fn end(&mut self, slot: u32, announce: Option<SandboxId>) {
        self.forget_fork(slot);
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        let occupant = match std::mem::replace(&mut cell.stage, Stage::Ready) {
            Stage::Occupied(occupant)
            | Stage::Lingering { occupant }
            | Stage::Ending {
                occupant: Some(occupant),
                ..
            } => Some(occupant),
            _ => None,
        };
        cell.stage = Stage::Ending { occupant, announce };
        cell.kill();
    }

    /// Handles that the keeper of `slot` was reaped: its namespaces are gone, and only the groups remain to be removed.
    pub(super) fn keeper_gone(&mut self, slot: u32, outbox: &mut Outbox) {
        let unbuilt = match self.cells.get(&slot).map(|cell| &cell.stage) {
            Some(Stage::Building { status }) => Some(read_failure(status.as_fd())),
            _ => None,
        };
        if let Some(failure) = unbuilt {
            self.building_failed(slot, &failure.unwrap_or_default(), outbox);
        }
        if let Some((_, supply)) = self.supply_of(slot) {
            supply.ready.retain(|ready| *ready != slot);
        }
        self.retire(slot, outbox);
        self.forget_fork(slot);
        let Some(cell) = self.cells.remove(&slot) else {
            return;
        };
        if let Some(link) = cell.link {
            self.means.networking.release(link);
        }
        let announce = match cell.stage {
            Stage::Ending { announce, .. } => announce,
            Stage::Occupied(occupant) if occupant.pid.is_none() => {
                // The keeper died before the fork was reported; the worker still waits for an answer to its request.
                self.slot_by_id.remove(&occupant.id);
                outbox.refuse(occupant.id, "its keeper died".to_owned(), true);
                None
            }
            Stage::Occupied(occupant) => {
                self.slot_by_id.remove(&occupant.id);
                None
            }
            Stage::Lingering { occupant } => Some(occupant.id),
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
        if let (Stage::Lingering { occupant }, 0) = (&above.stage, above.below) {
            let id = occupant.id;
            self.end(slot, Some(id));
        }
    }

    /// Removes the cell of `slot` if it never had a keeper, since no process is in it.
    pub(super) fn drop_unmade(&mut self, slot: u32, outbox: &mut Outbox) {
        if self.cells.get(&slot).is_some_and(|c| c.keeper.is_none()) {
            self.keeper_gone(slot, outbox);
        }
    }

    fn remove_group(&mut self, removal: Removal, outbox: &mut Outbox) {
        if removal.group.remove().is_err() {
            if removal.tries == PATIENT_TRIES {
                // Fails only if no process is left to kill.
                let _ = removal.group.kill_members();
            }
            let tries = removal.tries.saturating_add(1);
            return self.removals.push(Removal { tries, ..removal });
        }
        if let Some(id) = removal.announce {
            outbox.push(Event::Destroyed { id }, Vec::new());
        }
    }

    /// Ends every cell and waits until all keepers are reaped; used when the warden ends.
    ///
    /// `other` is called for every child that ends meanwhile.
    pub(super) fn end_all(&mut self, mut other: impl FnMut(i32, WaitStatus)) -> io::Result<()> {
        let mut outbox = Outbox::default();
        self.supplies.clear();
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
