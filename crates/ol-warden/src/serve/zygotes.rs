//! Zygotes: the shells below them, and what becomes of those when a zygote ends.

use super::cells::{Cells, Stage};
use super::lease::Nest;
use super::nursery::Nursery;
use super::outbox::Outbox;
use super::watch::Token;
use crate::inside::{Inside, Kind};
use crate::maker::{Answer, Maker, host_number};
use ol_sys::process::Child;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

impl Cells {
    /// What makes the inhabitant of `slot` a zygote, if it is one that can fork.
    pub(super) fn nest(&mut self, slot: u32) -> Option<&mut Nest> {
        match &mut self.cells.get_mut(&slot)?.stage {
            Stage::Leased(lease) => lease.nest.as_mut(),
            _ => None,
        }
    }

    /// The depth of the zygote at `slot`.
    pub(super) fn depth(&self, slot: u32) -> Option<u32> {
        match self.cells.get(&slot)?.inside.kind {
            Kind::Zygote { depth } => Some(depth),
            Kind::Leaf => None,
        }
    }

    /// The zygote at `slot` may have children from now on; `shells` are kept ready for its leaves.
    pub(super) fn open_nursery(&mut self, slot: u32, shells: u16) {
        let nursery = Nursery {
            target: usize::from(shells),
            ..Nursery::default()
        };
        self.nurseries.insert((Some(slot), Kind::Leaf), nursery);
    }

    /// Orders the shell of `slot` from the maker of `zygote`, which is started for the first. Returns where its keeper says what fails.
    pub(super) fn ask_maker(
        &mut self,
        zygote: u32,
        slot: u32,
        inside: &Inside,
    ) -> io::Result<OwnedFd> {
        let gone = || io::Error::other("its zygote has ended");
        let cell = self.cells.get_mut(&zygote).ok_or_else(gone)?;
        let pair = cell.inside.pair;
        let keeper = cell.keeper.as_ref().ok_or_else(gone)?;
        let Stage::Leased(lease) = &mut cell.stage else {
            return Err(gone());
        };
        let nest = lease.nest.as_mut().ok_or_else(gone)?;
        let maker = match nest.maker.take() {
            Some(maker) => maker,
            None => {
                let maker =
                    Maker::start(&self.proof, &self.shell_mold, keeper.pidfd.as_fd(), pair)?;
                self.watch.own(maker, Token::Maker(zygote))?
            }
        };
        let (status, words) = pipe_with(PipeFlags::CLOEXEC)?;
        let asked = maker.ask(slot, inside, words.as_fd());
        nest.maker = Some(maker);
        asked.map(|()| status)
    }

    /// Hears what the maker of the zygote at `slot` says.
    pub(super) fn look_at_maker(&mut self, zygote: u32, outbox: &mut Outbox) {
        loop {
            let Some(maker) = self.nest(zygote).and_then(|nest| nest.maker.as_ref()) else {
                return;
            };
            match maker.answer() {
                Ok(None) => return,
                Ok(Some((Answer::Made(slot), mut fds))) => {
                    if let Some(pidfd) = fds.pop() {
                        self.keeper_made(slot, pidfd, outbox);
                    }
                }
                Ok(Some((Answer::Failed(slot, why), _))) => {
                    self.building_failed(slot, &why, outbox);
                    self.drop_unmade(slot, outbox);
                }
                Err(_) => {
                    if let Some(nest) = self.nest(zygote) {
                        nest.maker = None;
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
            // It has ended and was reaped as nobody's.
            Err(_) => self.keeper_gone(slot, outbox),
        }
    }

    /// The maker is gone: what it was asked for and did not make will not come.
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

    /// The zygote at `slot` forks no more: those who wait for its children are told, and shells that nobody can enter end. What it has
    /// forked lives on. Does nothing for a leaf.
    pub(super) fn retire(&mut self, slot: u32, outbox: &mut Outbox) {
        let kinds = [
            Some(Kind::Leaf),
            self.depth(slot)
                .map(|depth| Kind::Zygote { depth: depth + 1 }),
        ];
        for kind in kinds.into_iter().flatten() {
            let Some(nursery) = self.nurseries.remove(&(Some(slot), kind)) else {
                continue;
            };
            for waiting in nursery.waiting {
                outbox.refuse(waiting.id, "its zygote has ended".to_owned(), true);
            }
            for ready in nursery.ready {
                self.end(ready, None);
            }
        }
        if self.nest(slot).is_none() {
            return;
        }
        self.look_at_maker(slot, outbox);
        self.drop_all_unmade(slot, outbox);
        if let Some(Stage::Leased(lease)) = self.cells.get_mut(&slot).map(|cell| &mut cell.stage) {
            lease.nest = None;
        }
    }

    /// Ends the zygote at `slot` itself; its namespaces stay until the last that lies below them is gone.
    pub(super) fn end_zygote(&mut self, slot: u32, outbox: &mut Outbox) {
        self.retire(slot, outbox);
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        // What it may have started lies in its group; both fail only if there is nothing left to kill.
        let _ = cell.group.kill_members();
        let below = cell.below;
        let lease = match std::mem::replace(&mut cell.stage, Stage::Ready) {
            Stage::Leased(lease) => lease,
            other => {
                cell.stage = other;
                return;
            }
        };
        if let Some(pid) = lease.pid.filter(|pid| self.slot_of.contains_key(pid))
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            // Our child and not reaped yet, so the number still means it, in whichever group it may be.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let id = lease.id;
        cell.stage = Stage::Lingering { lease };
        if below == 0 {
            self.end(slot, Some(id));
        }
    }
}
