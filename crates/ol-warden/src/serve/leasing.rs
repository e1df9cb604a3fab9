//! Putting a leaf or zygote into a ready shell, and hearing of it until its death.

use super::cells::{Cells, Stage};
use super::lease::{First, Lease, Nest};
use super::nursery::{Key, Waiting};
use super::outbox::Outbox;
use super::watch::Token;
use crate::birth::{self, Cry, Order};
use crate::cgroup::{Freezer, Limits};
use crate::leaf::{self, Place};
use crate::network::Fitted;
use crate::protocol::{Event, FreezerKind, Network, Role, reason};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::WaitStatus;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// How many children of one zygote are under way at once: as many orders fit its channel, so a send never fails for want of room.
const BIRTHS_AT_ONCE: u32 = 16;

/// Processes that a zygote's group holds beside the zygote's own. Where the group that counts processes is entered late, each birth
/// leaves two in it for a moment: the child, and the go-between until it is reaped, which may be after the birth. Without room for
/// them the kernel refuses a fork as soon as a few callers want one.
const BIRTH_PROCESSES: u32 = 4 * BIRTHS_AT_ONCE;

/// Processes that a leaf's group needs for its birth, where it is entered early: the go-between makes the child in it.
const LEAST_PROCESSES: u32 = 2;

impl Cells {
    /// Gives the ready shells of `key` to those who wait for one, first come first served.
    pub(super) fn lease(&mut self, key: Key, outbox: &mut Outbox) {
        loop {
            if key
                .0
                .is_some_and(|zygote| self.births_of(zygote) >= BIRTHS_AT_ONCE)
            {
                return;
            }
            let Some(nursery) = self.nurseries.get_mut(&key) else {
                return;
            };
            if nursery.ready.is_empty() {
                return;
            }
            let Some(waiting) = nursery.waiting.pop_front() else {
                return;
            };
            let Some(slot) = nursery.ready.pop_front() else {
                return;
            };
            let id = waiting.id;
            if let Err(error) = self.inhabit(slot, waiting, outbox) {
                let by_parent = key.0.is_some();
                outbox.refuse(id, reason(&error.to_string()), by_parent);
                self.slot_by_id.remove(&id);
                self.end(slot, None);
            }
        }
    }

    fn births_of(&mut self, zygote: u32) -> u32 {
        self.nest(zygote).map_or(0, |nest| nest.births)
    }

    /// Puts into the shell of `slot` what `waiting` asked for.
    fn inhabit(&mut self, slot: u32, waiting: Waiting, outbox: &mut Outbox) -> io::Result<()> {
        let Waiting { id, spec, ends } = waiting;
        let gone = || io::Error::other("its shell is gone");
        let cell = self.cells.get_mut(&slot).ok_or_else(gone)?;
        let keeper = cell.keeper.as_ref().ok_or_else(gone)?;
        let mut limits = spec.content.limits;
        if spec.role.is_zygote() {
            limits.pids = limits.pids.saturating_add(BIRTH_PROCESSES);
        }
        let roomy = Limits {
            pids: limits.pids.max(LEAST_PROCESSES),
            ..limits
        };
        let by_fork = cell.parent.is_some();
        cell.group.limit(if by_fork { &roomy } else { &limits })?;
        self.fitter.fit(keeper.pidfd.as_fd(), &spec.content)?;
        let network = spec.content.network;
        let Fitted { link, gate } = self.networking.fit(keeper, network)?;
        cell.link = link;
        let keeper = keeper.pidfd.try_clone()?;
        let alarm = spec
            .content
            .limits
            .oom_ends_all
            .then(|| cell.group.out_of_memory_alarm());
        let alarm = match alarm.transpose()?.flatten() {
            Some(alarm) => Some(self.watch.own(alarm, Token::Alarm(slot))?),
            None => None,
        };
        let channel = match spec.role {
            Role::Leaf => None,
            Role::Zygote { .. } => Some(socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?),
        };
        let theirs = channel.as_ref().map(|(_, theirs)| theirs.as_fd());
        let mut lease = Lease::new(id, First::Over);
        match cell.parent {
            None => {
                let place = Place {
                    keeper: keeper.as_fd(),
                    group: &cell.group,
                    inside: &cell.inside,
                    host_network: network == Network::Host,
                };
                let newborn = leaf::begin(&self.proof, &self.leaf_mold, &place, &ends, theirs)?;
                let pid = newborn.child.pid;
                self.slot_of.insert(pid, slot);
                lease.pid = Some(pid);
                lease.first = First::Program(self.watch.own(newborn.status, Token::Status(slot))?);
            }
            Some(zygote) => {
                let entrances = cell.entrances.take().ok_or_else(gone)?;
                let inside = cell.inside;
                let (rights, bounds) = (self.rights, self.leaf_mold.bounds);
                let gone = || io::Error::other("its zygote has ended");
                let nest = match self.cells.get_mut(&zygote).map(|cell| &mut cell.stage) {
                    Some(Stage::Leased(lease)) => lease.nest.as_mut(),
                    _ => None,
                };
                let nest = nest.ok_or_else(gone)?;
                let order = Order {
                    inside: &inside,
                    bounds,
                    rights,
                    filter: self.leaf_mold.wire_filter(),
                    keeper: keeper.as_fd(),
                    guest: ends.guest.as_fd(),
                    log: ends.log.as_fd(),
                    channel: theirs,
                    entrances: &entrances,
                };
                let cradle = birth::order(nest.channel.as_fd(), &order)?;
                lease.first = First::Birth(self.watch.own(cradle, Token::Status(slot))?);
                nest.births += 1;
                self.births.insert(slot);
            }
        }
        lease.limits = (by_fork && roomy.pids != limits.pids).then_some(limits);
        lease.alarm = alarm;
        lease.gate = gate;
        lease.assigned = spec.content.code.is_some();
        lease.nest = channel.map(|(ours, _)| Nest {
            channel: ours,
            maker: None,
            births: 0,
        });
        let pid = lease.pid;
        let Some(cell) = self.cells.get_mut(&slot) else {
            return Err(gone());
        };
        cell.stage = Stage::Leased(lease);
        self.slot_by_id.insert(id, slot);
        if let Role::Zygote { shells } = spec.role {
            self.open_nursery(slot, shells);
        }
        match pid {
            Some(pid) => self.announce(slot, pid, outbox),
            None => Ok(()),
        }
    }

    /// Tells the worker that the inhabitant of `slot` runs.
    fn announce(&mut self, slot: u32, pid: i32, outbox: &mut Outbox) -> io::Result<()> {
        let Some(cell) = self.cells.get_mut(&slot) else {
            return Ok(());
        };
        if let Some(limits) = cell.lease_mut().and_then(|lease| lease.limits.take()) {
            cell.group.limit(&limits)?;
        }
        let (freezer, mut files): (_, Vec<OwnedFd>) = match cell.group.freezer()? {
            Freezer::V2 { freeze, events } => (FreezerKind::V2, vec![freeze, events]),
            Freezer::V1 { state } => (FreezerKind::V1, vec![state]),
        };
        if let Some(lease) = cell.lease_mut() {
            let id = lease.id;
            files.extend(lease.gate.take());
            outbox.push(Event::Created { id, pid, freezer }, files);
        }
        Ok(())
    }

    /// Hears what a child that is being forked into `slot` has to say.
    pub(super) fn look_at_birth(&mut self, slot: u32, outbox: &mut Outbox) {
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        let keeper = cell.keeper.as_ref().map_or(0, |keeper| keeper.pid);
        let Some(lease) = cell.lease_mut() else {
            return;
        };
        let First::Birth(cradle) = &lease.first else {
            return;
        };
        let id = lease.id;
        let why = match cradle.listen() {
            Cry::Silence => return,
            Cry::Born(pid) if lives_with(pid, keeper) => {
                lease.first = First::Over;
                lease.pid = Some(pid);
                self.forget_birth(slot);
                self.slot_of.insert(pid, slot);
                match self.announce(slot, pid, outbox) {
                    Ok(()) => return self.next_birth(slot, outbox),
                    Err(error) => error.to_string(),
                }
            }
            Cry::Born(_) => "a process outside of the shell answered for the child".to_owned(),
            Cry::Stillborn(why) => why,
        };
        self.forget_birth(slot);
        self.slot_by_id.remove(&id);
        outbox.refuse(id, reason(&why), true);
        self.end(slot, None);
        self.next_birth(slot, outbox);
    }

    /// The zygote above `slot` has one order less to follow.
    pub(super) fn forget_birth(&mut self, slot: u32) {
        let parent = self.cells.get(&slot).and_then(|cell| cell.parent);
        if self.births.remove(&slot)
            && let Some(nest) = parent.and_then(|zygote| self.nest(zygote))
        {
            nest.births = nest.births.saturating_sub(1);
        }
    }

    fn next_birth(&mut self, slot: u32, outbox: &mut Outbox) {
        if let Some(cell) = self.cells.get(&slot) {
            self.lease((cell.parent, cell.inside.kind), outbox);
        }
    }

    /// Takes note of a child that ended. One that isn't ours is a go-between of a fork, or was reparented to us; reaping it was all it
    /// needed.
    pub(super) fn reaped(&mut self, pid: i32, status: WaitStatus, outbox: &mut Outbox) {
        if !self.slot_of.contains_key(&pid) {
            // It may have said that it lives just before it ended.
            for slot in self.births.clone() {
                self.look_at_birth(slot, outbox);
            }
        }
        let Some(slot) = self.slot_of.remove(&pid) else {
            return;
        };
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        if cell.keeper.as_ref().is_some_and(|keeper| keeper.pid == pid) {
            return self.keeper_gone(slot, outbox);
        }
        let kills = cell.group.oom_kills();
        let Some(lease) = cell.lease_mut().filter(|lease| lease.pid == Some(pid)) else {
            return;
        };
        lease.listen();
        let died = Event::Died {
            id: lease.id,
            death: lease.death(status),
            oom_kills: kills.max(lease.out_of_memory.into()),
        };
        outbox.push(died, Vec::new());
        self.retire(slot, outbox);
    }

    /// Ends the sandbox of `slot`, which is to end when memory is out, if it is.
    pub(super) fn look_at_alarm(&mut self, slot: u32) {
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        let Some(lease) = cell.lease_mut() else {
            return;
        };
        let told = |alarm: &OwnedFd| rustix::io::read(alarm, &mut [0_u8; 8]).is_ok();
        if lease.alarm.as_ref().is_some_and(|alarm| told(alarm)) {
            lease.alarm = None;
            lease.out_of_memory = true;
            cell.kill();
        }
    }
}

/// Is process `pid` in the pid namespace of `keeper`? One that is reaped already can't be asked, and does no harm.
fn lives_with(pid: i32, keeper: i32) -> bool {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
    match (namespace(pid), namespace(keeper)) {
        (Ok(child), Ok(shell)) => child == shell && pid != keeper,
        _ => true,
    }
}
