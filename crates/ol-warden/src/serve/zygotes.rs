//! Zygotes: how shells are made below them, and what happens to those shells when a zygote ends.

use super::cells::{Cells, Stage};
use super::occupant::ZygoteState;
use super::outbox::Outbox;
use super::supply::ShellSupply;
use super::watch::Token;
use crate::identity::{ShellIdentity, ShellKind};
use crate::shell_maker::{MakerAnswer, ShellMaker, host_number};
use ol_sys::process::Child;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

impl Cells {
    /// The [`ZygoteState`] of the occupant of `slot`; `None` unless that is a zygote that can fork.
    pub(super) fn zygote_state(&mut self, slot: u32) -> Option<&mut ZygoteState> {
        match &mut self.cells.get_mut(&slot)?.stage {
            Stage::Occupied(occupant) => occupant.zygote_state.as_mut(),
            _ => None,
        }
    }

    /// The depth of the zygote at `slot`; `None` if the slot is no zygote's.
    pub(super) fn depth(&self, slot: u32) -> Option<u32> {
        match self.cells.get(&slot)?.identity.kind {
            ShellKind::Zygote { depth } => Some(depth),
            ShellKind::Leaf => None,
        }
    }

    /// Opens the supply of shells below the zygote at `slot`; `shells` of them are kept ready for its leaves.
    pub(super) fn open_supply(&mut self, slot: u32, shells: u16) {
        let supply = ShellSupply {
            target: usize::from(shells),
            ..ShellSupply::default()
        };
        self.supplies.insert((Some(slot), ShellKind::Leaf), supply);
    }

    /// Asks the shell maker of `zygote` for the shell of `slot`, and starts that maker if there is none yet.
    ///
    /// Returns the status pipe of the shell's keeper.
    pub(super) fn ask_maker(
        &mut self,
        zygote: u32,
        slot: u32,
        identity: &ShellIdentity,
    ) -> io::Result<OwnedFd> {
        let gone = || io::Error::other("its zygote has ended");
        let cell = self.cells.get_mut(&zygote).ok_or_else(gone)?;
        let pair = cell.identity.pair;
        let keeper = cell.keeper.as_ref().ok_or_else(gone)?;
        let Stage::Occupied(occupant) = &mut cell.stage else {
            return Err(gone());
        };
        let zygote_state = occupant.zygote_state.as_mut().ok_or_else(gone)?;
        let maker = match zygote_state.maker.take() {
            Some(maker) => maker,
            None => {
                let maker = ShellMaker::start(
                    &self.means.proof,
                    &self.means.shell_config,
                    keeper.pidfd.as_fd(),
                    pair,
                )?;
                self.watch.own(maker, Token::ShellMaker(zygote))?
            }
        };
        let (status, error_pipe) = pipe_with(PipeFlags::CLOEXEC)?;
        let asked = maker.ask(slot, identity, error_pipe.as_fd());
        zygote_state.maker = Some(maker);
        asked.map(|()| status)
    }

    /// Handles the answers that the shell maker of `zygote` has sent.
    pub(super) fn look_at_maker(&mut self, zygote: u32, outbox: &mut Outbox) {
        loop {
            let Some(maker) = self
                .zygote_state(zygote)
                .and_then(|zygote_state| zygote_state.maker.as_ref())
            else {
                return;
            };
            match maker.answer() {
                Ok(None) => return,
                Ok(Some((MakerAnswer::Made(slot), mut fds))) => {
                    if let Some(pidfd) = fds.pop() {
                        self.keeper_made(slot, pidfd, outbox);
                    }
                }
                Ok(Some((MakerAnswer::Failed(slot, why), _))) => {
                    self.building_failed(slot, &why, outbox);
                    self.drop_unmade(slot, outbox);
                }
                Err(_) => {
                    if let Some(zygote_state) = self.zygote_state(zygote) {
                        zygote_state.maker = None;
                    }
                    return self.drop_all_unmade(zygote, outbox);
                }
            }
        }
    }

    fn keeper_made(&mut self, slot: u32, pidfd: OwnedFd, outbox: &mut Outbox) {
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        match host_number(&pidfd) {
            Ok(pid) => {
                cell.keeper = Some(Child { pid, pidfd });
                self.slot_of.insert(pid, slot);
                if matches!(cell.stage, Stage::Ending { .. }) {
                    cell.kill();
                }
            }
            // The keeper has ended already, and was reaped before its slot was known.
            Err(_) => self.keeper_gone(slot, outbox),
        }
    }

    /// Drops all shells that the maker of `zygote` was asked for and did not make, since the maker is gone.
    fn drop_all_unmade(&mut self, zygote: u32, outbox: &mut Outbox) {
        let unmade: Vec<u32> = self
            .cells
            .iter()
            .filter(|(_, cell)| cell.parent == Some(zygote) && cell.keeper.is_none())
            .map(|(slot, _)| *slot)
            .collect();
        for slot in unmade {
            self.building_failed(slot, "the maker of shells for its zygote has ended", outbox);
            self.drop_unmade(slot, outbox);
        }
    }

    /// Handles that the zygote at `slot` forks no more: refuses requests that wait for its children, and ends its unused shells.
    ///
    /// What the zygote has forked lives on. Does nothing for a leaf.
    pub(super) fn retire(&mut self, slot: u32, outbox: &mut Outbox) {
        let kinds = [
            Some(ShellKind::Leaf),
            self.depth(slot)
                .map(|depth| ShellKind::Zygote { depth: depth + 1 }),
        ];
        for kind in kinds.into_iter().flatten() {
            let Some(supply) = self.supplies.remove(&(Some(slot), kind)) else {
                continue;
            };
            for waiting in supply.waiting {
                outbox.refuse(waiting.id, "its zygote has ended".to_owned(), true);
            }
            for ready in supply.ready {
                self.end(ready, None);
            }
        }
        if self.zygote_state(slot).is_none() {
            return;
        }
        self.look_at_maker(slot, outbox);
        self.drop_all_unmade(slot, outbox);
        if let Some(Stage::Occupied(occupant)) =
            self.cells.get_mut(&slot).map(|cell| &mut cell.stage)
        {
            occupant.zygote_state = None;
        }
    }

    /// Ends the zygote at `slot` itself; its namespaces stay until the last cell below them is gone.
    pub(super) fn end_zygote(&mut self, slot: u32, outbox: &mut Outbox) {
        self.retire(slot, outbox);
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        // Processes that the zygote started are in its group. This and the kill below fail only if nothing is left to kill.
        let _ = cell.group.kill_members();
        let below = cell.below;
        let occupant = match std::mem::replace(&mut cell.stage, Stage::Ready) {
            Stage::Occupied(occupant) => occupant,
            other => {
                cell.stage = other;
                return;
            }
        };
        if let Some(pid) = occupant.pid.filter(|pid| self.slot_of.contains_key(pid))
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            // It is the warden's child and not reaped yet, so the number still means it, whichever group it is in.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let id = occupant.id;
        cell.stage = Stage::Lingering { occupant };
        if below == 0 {
            self.end(slot, Some(id));
        }
    }
}
