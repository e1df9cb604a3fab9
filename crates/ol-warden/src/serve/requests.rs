//! Handles the worker's requests, and refuses those that are not allowed.

use super::cells::{Cells, Stage};
use super::outbox::Outbox;
use super::supply::WaitingRequest;
use super::watch::Token;
use crate::identity::{DEEPEST, ShellKind};
use crate::leaf::WorkerFds;
use crate::protocol::{Content, Event, Network, Request, Role, SandboxId, Size, Spec, reason};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

impl Cells {
    pub(super) fn handle(&mut self, request: Request, fds: Vec<OwnedFd>, outbox: &mut Outbox) {
        match request {
            Request::Create { id, spec } => self.create(id, spec, fds, outbox),
            Request::Assign { id, content } => {
                let refused = self.assign(id, &content).err();
                let refused = refused.map(|error| reason(&error.to_string()));
                outbox.push(Event::Assigned { id, refused }, Vec::new());
            }
            Request::Resize { id, memory } => {
                let memory = self.resize(id, memory);
                outbox.push(Event::Resized { id, memory }, Vec::new());
            }
            Request::Destroy { id } => self.destroy(id, outbox),
        }
    }

    fn create(&mut self, id: SandboxId, spec: Spec, mut fds: Vec<OwnedFd>, outbox: &mut Outbox) {
        let (Some(log), Some(guest), true) = (fds.pop(), fds.pop(), fds.is_empty()) else {
            let reason = "a request came without its two descriptors".to_owned();
            return outbox.refuse(id, reason, false);
        };
        if let Some(reason) = self.objection(id, &spec) {
            return outbox.refuse(id, reason.to_owned(), false);
        }
        if let Some(reason) = self.means.networking.objection(spec.content.network) {
            return outbox.refuse(id, reason, false);
        }
        let parent = match spec.parent {
            None => None,
            Some(parent) => {
                let slot = self.slot_by_id.get(&parent).copied();
                let Some(slot) = slot.filter(|slot| self.zygote_state(*slot).is_some()) else {
                    return outbox.refuse(id, "its zygote has ended".to_owned(), true);
                };
                Some(slot)
            }
        };
        let depth = parent.map_or(0, |slot| self.depth(slot).map_or(0, |depth| depth + 1));
        let kind = match spec.role {
            Role::Leaf => ShellKind::Leaf,
            Role::Zygote { .. } if depth > DEEPEST => {
                let reason = format!(
                    "a zygote at depth {depth} can't be: the deepest is {DEEPEST}, for the kernel nests user namespaces no further"
                );
                return outbox.refuse(id, reason, false);
            }
            Role::Zygote { .. } => ShellKind::Zygote { depth },
        };
        let key = (parent, kind);
        let waiting = WaitingRequest {
            id,
            spec,
            worker_fds: WorkerFds { guest, log },
        };
        self.supplies
            .entry(key)
            .or_default()
            .waiting
            .push_back(waiting);
        self.hand_out_shells(key, outbox);
    }

    /// Why a request is refused; a worker that works correctly never sends such a request.
    fn objection(&self, id: SandboxId, spec: &Spec) -> Option<&'static str> {
        let waiting = || self.supplies.values().flat_map(|supply| &supply.waiting);
        let spare: usize = self.supplies.values().map(|supply| supply.target).sum();
        if self.slot_by_id.contains_key(&id) || waiting().any(|w| w.id == id) {
            Some("that number is in use")
        } else if !self.ceiling.allows(spec.role, &spec.content) {
            Some("it asks for more than max_limits allows any sandbox")
        } else if spec.role.is_zygote() && spec.content.network != Network::None {
            Some("a zygote has no network")
        } else if spec.parent.is_some() && spec.content.network == Network::Host {
            Some("what is forked can't have the host's network")
        } else if self.cells.len() + waiting().count() >= self.ceiling.sandboxes + spare {
            Some("there are as many sandboxes as the memory pool can hold")
        } else {
            None
        }
    }

    fn assign(&mut self, id: SandboxId, content: &Content) -> io::Result<()> {
        let unknown = || io::Error::other("there is no such sandbox");
        if !self.ceiling.allows(Role::Leaf, content) {
            return Err(io::Error::other(
                "it asks for more than max_limits allows any sandbox",
            ));
        }
        if matches!(content.network, Network::Host | Network::Gate) {
            return Err(io::Error::other(
                "what is there already can't have that network",
            ));
        }
        if let Some(reason) = self.means.networking.objection(content.network) {
            return Err(io::Error::other(reason));
        }
        let slot = *self.slot_by_id.get(&id).ok_or_else(unknown)?;
        let cell = self.cells.get_mut(&slot).ok_or_else(unknown)?;
        let Stage::Occupied(occupant) = &mut cell.stage else {
            return Err(unknown());
        };
        let keeper = cell.keeper.as_ref().ok_or_else(unknown)?;
        if occupant.pid.is_none() || std::mem::replace(&mut occupant.assigned, true) {
            return Err(io::Error::other(
                "it has its code already, or isn't there yet",
            ));
        }
        if cell.link.is_some() && content.network == Network::None {
            return Err(io::Error::other("it has a way out already"));
        }
        cell.group.limit(&content.limits)?;
        self.means.fitter.fit(keeper.pidfd.as_fd(), content)?;
        if cell.link.is_none() {
            cell.link = self.means.networking.fit(keeper, content.network)?.link;
        }
        if content.limits.oom_ends_all
            && let Some(alarm) = cell.group.out_of_memory_alarm()?
        {
            occupant.alarm = Some(self.watch.own(alarm, Token::Alarm(slot))?);
        }
        Ok(())
    }

    /// Sets a memory limit, and returns the limit afterwards in bytes; 0 if there is no such sandbox.
    fn resize(&mut self, id: SandboxId, memory: Size) -> u64 {
        const MIB: u64 = 1 << 20;
        let slot = self.slot_by_id.get(&id);
        let Some(cell) = slot.and_then(|slot| self.cells.get_mut(slot)) else {
            return 0;
        };
        let before = cell.group.memory_limit();
        let wanted = match memory {
            Size::Bytes(memory) => memory.min(self.ceiling.memory.max(self.ceiling.zygote_memory)),
            Size::UsedAnd(room) => match cell.group.memory_used() {
                Ok(used) => before.min(used.saturating_add(room).next_multiple_of(MIB)),
                Err(_) => return before,
            },
        };
        match cell.group.limit_memory_to(wanted) {
            Ok(()) => wanted,
            Err(_) => before,
        }
    }

    fn destroy(&mut self, id: SandboxId, outbox: &mut Outbox) {
        if let Some(slot) = self.slot_by_id.remove(&id) {
            let zygote = self.depth(slot).is_some();
            self.forget_fork(slot);
            return if zygote {
                self.end_zygote(slot, outbox);
            } else {
                self.end(slot, Some(id));
            };
        }
        for supply in self.supplies.values_mut() {
            supply.waiting.retain(|waiting| waiting.id != id);
        }
        // If it was not waiting either, its keeper died before, and everything of it is gone already.
        outbox.push(Event::Destroyed { id }, Vec::new());
    }
}
