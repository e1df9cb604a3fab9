//! Puts a leaf or zygote into a ready shell, and handles what happens to it until its death.

use super::cells::{Cells, Stage};
use super::occupant::{Occupant, Startup, ZygoteState};
use super::outbox::Outbox;
use super::supply::{SupplyKey, WaitingRequest};
use super::watch::Token;
use crate::cgroup::{Freezer, GroupLimits};
use crate::fork_order::{self, ForkOrder, ForkProgress};
use crate::leaf::{self, TargetShell};
use crate::network::SandboxNetwork;
use crate::protocol::{Event, FreezerKind, Network, Role, reason};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::WaitStatus;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// How many forks of one zygote may be under way at once.
///
/// The zygote's channel has room for this many orders, so sending one never fails for want of room.
const FORKS_AT_ONCE: u32 = 16;

/// How many processes a zygote's group must have room for in addition to the zygote's own limit.
///
/// A zygote forks a child by means of a go-between, a short-lived process that joins the shell's namespaces (`native/forker.rs`). The
/// child enters cgroup v1's pids group late, by itself. Until then each fork holds two processes in the zygote's group: the child, and
/// the go-between until it is reaped, which may be after the child has reported. Without room for them the kernel would refuse a fork
/// as soon as a few callers want one.
const FORK_PROCESSES: u32 = 4 * FORKS_AT_ONCE;

/// How many processes a leaf's group must allow while the leaf is forked into it.
///
/// Where the group is entered early, the go-between is in it as well when it makes the child.
const LEAST_PROCESSES: u32 = 2;

impl Cells {
    /// Gives the ready shells of `key` to the requests that wait for one, in the order in which they came.
    pub(super) fn hand_out_shells(&mut self, key: SupplyKey, outbox: &mut Outbox) {
        loop {
            if key
                .0
                .is_some_and(|zygote| self.forks_of(zygote) >= FORKS_AT_ONCE)
            {
                return;
            }
            let Some(supply) = self.supplies.get_mut(&key) else {
                return;
            };
            if supply.ready.is_empty() {
                return;
            }
            let Some(waiting) = supply.waiting.pop_front() else {
                return;
            };
            let Some(slot) = supply.ready.pop_front() else {
                return;
            };
            let id = waiting.id;
            if let Err(error) = self.occupy(slot, waiting, outbox) {
                let by_parent = key.0.is_some();
                outbox.refuse(id, reason(&error.to_string()), by_parent);
                self.slot_by_id.remove(&id);
                self.end(slot, None);
            }
        }
    }

    fn forks_of(&mut self, zygote: u32) -> u32 {
        self.zygote_state(zygote)
            .map_or(0, |zygote_state| zygote_state.forks)
    }

    /// Puts the leaf or zygote that `waiting` asks for into the shell of `slot`.
    fn occupy(
        &mut self,
        slot: u32,
        waiting: WaitingRequest,
        outbox: &mut Outbox,
    ) -> io::Result<()> {
        let WaitingRequest {
            id,
            spec,
            worker_fds,
        } = waiting;
        let gone = || io::Error::other("its shell is gone");
        let cell = self.cells.get_mut(&slot).ok_or_else(gone)?;
        let keeper = cell.keeper.as_ref().ok_or_else(gone)?;
        let mut limits = spec.content.limits;
        if spec.role.is_zygote() {
            limits.pids = limits.pids.saturating_add(FORK_PROCESSES);
        }
        let roomy = GroupLimits {
            pids: limits.pids.max(LEAST_PROCESSES),
            ..limits
        };
        let by_fork = cell.parent.is_some();
        cell.group.limit(if by_fork { &roomy } else { &limits })?;
        self.means.fitter.fit(keeper.pidfd.as_fd(), &spec.content)?;
        let network = spec.content.network;
        let SandboxNetwork { link, gate } = self.means.networking.fit(keeper, network)?;
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
        let mut occupant = Occupant::new(id, Startup::Done);
        match cell.parent {
            None => {
                let shell = TargetShell {
                    keeper: keeper.as_fd(),
                    group: &cell.group,
                    identity: &cell.identity,
                    host_network: network == Network::Host,
                };
                let starting = leaf::begin(
                    &self.means.proof,
                    &self.means.leaf_config,
                    &shell,
                    &worker_fds,
                    theirs,
                )?;
                let pid = starting.child.pid;
                self.slot_of.insert(pid, slot);
                occupant.pid = Some(pid);
                occupant.startup =
                    Startup::Exec(self.watch.own(starting.status, Token::Status(slot))?);
            }
            Some(zygote) => {
                let entrances = cell.entrances.take().ok_or_else(gone)?;
                let identity = cell.identity;
                let (rights, rlimits) = (self.rights, self.means.leaf_config.rlimits);
                let gone = || io::Error::other("its zygote has ended");
                let zygote_state = match self.cells.get_mut(&zygote).map(|cell| &mut cell.stage) {
                    Some(Stage::Occupied(occupant)) => occupant.zygote_state.as_mut(),
                    _ => None,
                };
                let zygote_state = zygote_state.ok_or_else(gone)?;
                let order = ForkOrder {
                    identity: &identity,
                    rlimits,
                    rights,
                    filter: self.means.leaf_config.wire_filter(),
                    keeper: keeper.as_fd(),
                    guest: worker_fds.guest.as_fd(),
                    log: worker_fds.log.as_fd(),
                    channel: theirs,
                    entrances: &entrances,
                };
                let pending = fork_order::send(zygote_state.channel.as_fd(), &order)?;
                occupant.startup = Startup::Fork(self.watch.own(pending, Token::Status(slot))?);
                zygote_state.forks += 1;
                self.forks.insert(slot);
            }
        }
        occupant.limits = (by_fork && roomy.pids != limits.pids).then_some(limits);
        occupant.alarm = alarm;
        occupant.gate = gate;
        occupant.assigned = spec.content.code.is_some();
        occupant.zygote_state = channel.map(|(ours, _)| ZygoteState {
            channel: ours,
            maker: None,
            forks: 0,
        });
        let pid = occupant.pid;
        let Some(cell) = self.cells.get_mut(&slot) else {
            return Err(gone());
        };
        cell.stage = Stage::Occupied(occupant);
        self.slot_by_id.insert(id, slot);
        if let Role::Zygote { shells } = spec.role {
            self.open_supply(slot, shells);
        }
        match pid {
            Some(pid) => self.announce(slot, pid, outbox),
            None => Ok(()),
        }
    }

    /// Tells the worker that the occupant of `slot` runs.
    fn announce(&mut self, slot: u32, pid: i32, outbox: &mut Outbox) -> io::Result<()> {
        let Some(cell) = self.cells.get_mut(&slot) else {
            return Ok(());
        };
        if let Some(limits) = cell
            .occupant_mut()
            .and_then(|occupant| occupant.limits.take())
        {
            cell.group.limit(&limits)?;
        }
        let (freezer, mut files): (_, Vec<OwnedFd>) = match cell.group.freezer()? {
            Freezer::V2 { freeze, events } => (FreezerKind::V2, vec![freeze, events]),
            Freezer::V1 { state } => (FreezerKind::V1, vec![state]),
        };
        if let Some(occupant) = cell.occupant_mut() {
            let id = occupant.id;
            files.extend(occupant.gate.take());
            outbox.push(Event::Created { id, pid, freezer }, files);
        }
        Ok(())
    }

    /// Handles the outcome of a fork into `slot`, if there is one yet.
    pub(super) fn look_at_fork(&mut self, slot: u32, outbox: &mut Outbox) {
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        let keeper = cell.keeper.as_ref().map_or(0, |keeper| keeper.pid);
        let Some(occupant) = cell.occupant_mut() else {
            return;
        };
        let Startup::Fork(pending) = &occupant.startup else {
            return;
        };
        let id = occupant.id;
        let why = match pending.progress() {
            ForkProgress::Pending => return,
            ForkProgress::Running(pid) if lives_with(pid, keeper) => {
                occupant.startup = Startup::Done;
                occupant.pid = Some(pid);
                self.forget_fork(slot);
                self.slot_of.insert(pid, slot);
                match self.announce(slot, pid, outbox) {
                    Ok(()) => return self.next_fork(slot, outbox),
                    Err(error) => error.to_string(),
                }
            }
            ForkProgress::Running(_) => {
                "a process outside of the shell answered for the child".to_owned()
            }
            ForkProgress::Failed(why) => why,
        };
        self.forget_fork(slot);
        self.slot_by_id.remove(&id);
        outbox.refuse(id, reason(&why), true);
        self.end(slot, None);
        self.next_fork(slot, outbox);
    }

    /// Stops counting `slot` among the forks that its zygote has under way.
    pub(super) fn forget_fork(&mut self, slot: u32) {
        let parent = self.cells.get(&slot).and_then(|cell| cell.parent);
        if self.forks.remove(&slot)
            && let Some(zygote_state) = parent.and_then(|zygote| self.zygote_state(zygote))
        {
            zygote_state.forks = zygote_state.forks.saturating_sub(1);
        }
    }

    fn next_fork(&mut self, slot: u32, outbox: &mut Outbox) {
        if let Some(cell) = self.cells.get(&slot) {
            self.hand_out_shells((cell.parent, cell.identity.kind), outbox);
        }
    }

    /// Handles that a child of the warden ended and was reaped.
    ///
    /// A process that belongs to no slot is a go-between of a fork, or was reparented to the warden; nothing more is to be done for it.
    pub(super) fn reaped(&mut self, pid: i32, status: WaitStatus, outbox: &mut Outbox) {
        if !self.slot_of.contains_key(&pid) {
            // It may be a child that reported just before it ended, and whose report was not read yet.
            for slot in self.forks.clone() {
                self.look_at_fork(slot, outbox);
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
        let Some(occupant) = cell
            .occupant_mut()
            .filter(|occupant| occupant.pid == Some(pid))
        else {
            return;
        };
        occupant.read_status();
        let died = Event::Died {
            id: occupant.id,
            death: occupant.death(status),
            oom_kills: kills.max(occupant.out_of_memory.into()),
        };
        outbox.push(died, Vec::new());
        self.retire(slot, outbox);
    }

    /// Ends the sandbox of `slot` if its alarm says that memory ran out.
    pub(super) fn look_at_alarm(&mut self, slot: u32) {
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        let Some(occupant) = cell.occupant_mut() else {
            return;
        };
        let told = |alarm: &OwnedFd| rustix::io::read(alarm, &mut [0_u8; 8]).is_ok();
        if occupant.alarm.as_ref().is_some_and(|alarm| told(alarm)) {
            occupant.alarm = None;
            occupant.out_of_memory = true;
            cell.kill();
        }
    }
}

/// Whether process `pid` is in the pid namespace of `keeper`.
///
/// Also true if either was reaped already: its namespace can't be read any more, and a process that is gone does no harm.
fn lives_with(pid: i32, keeper: i32) -> bool {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
    match (namespace(pid), namespace(keeper)) {
        (Ok(child), Ok(shell)) => child == shell && pid != keeper,
        _ => true,
    }
}
