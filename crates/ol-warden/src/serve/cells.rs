//! The table of cells. A cell is one slot of uids with its keeper, groups and, once leased, its leaf.
//!
//! ```text
//!           refill            status pipe closed         Create              Destroy, keeper died
//!   (free) ───────▶ Building ───────────────────▶ Ready ────────▶ Leased ─────────────────────────▶ Ending ──▶ (free)
//!                      │ words in the pipe                                     keeper killed,        keeper reaped,
//!                      └────────────────────────────────────────────────────▶ everything in it dies  groups removed
//! ```

use super::lease::{Lease, last_words};
use super::outbox::Outbox;
use super::{Ceiling, Config};
use crate::cgroup::{Freezer, Group, Layout};
use crate::leaf::{self, Ends};
use crate::protocol::{Event, FreezerKind, LeafSpec, Request, SandboxId, reason};
use crate::shell;
use crate::uids::Block;
use ol_sys::process::{Child, SingleThread};
use rustix::process::{Signal, WaitOptions, WaitStatus, pidfd_send_signal, wait};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many shells may be in the making at once; more would not be faster (the kernel makes network namespaces one at a
/// time) and would delay requests.
const BUILDING_AT_ONCE: usize = 4;

/// A shell that can't be made is tried again soon; after this many failures in a row those who wait are refused, and
/// nothing is tried until somebody waits again.
const FAILURES_IN_A_ROW: u32 = 3;

struct Cell {
    keeper: Child,
    group: Group,
    stage: Stage,
}

enum Stage {
    Building {
        status: OwnedFd,
    },
    Ready,
    Leased(Lease),
    Ending {
        lease: Option<Lease>,
        announce: Option<SandboxId>,
    },
}

/// A request that waits for a shell.
struct Waiting {
    id: SandboxId,
    spec: LeafSpec,
    ends: Ends,
}

pub(super) struct Cells {
    proof: SingleThread,
    layout: Layout,
    prefix: String,
    uids: Block,
    shell_mold: shell::Mold,
    leaf_mold: leaf::Mold,
    target: usize,
    ceiling: Ceiling,
    next_slot: u32,
    cells: BTreeMap<u32, Cell>,
    /// Which slot a child belongs to.
    slot_of: HashMap<i32, u32>,
    slot_by_id: HashMap<SandboxId, u32>,
    waiting: VecDeque<Waiting>,
    /// Groups that were busy when their cell ended.
    removals: Vec<(Group, Option<SandboxId>)>,
    failures: u32,
}

impl Cells {
    pub(super) fn new(
        proof: SingleThread,
        layout: Layout,
        config: &Config,
        uids: Block,
        shell_mold: shell::Mold,
        leaf_mold: leaf::Mold,
    ) -> Self {
        Self {
            proof,
            layout,
            prefix: config.prefix.clone(),
            uids,
            shell_mold,
            leaf_mold,
            target: config.shells_ready,
            ceiling: config.ceiling,
            next_slot: 0,
            cells: BTreeMap::new(),
            slot_of: HashMap::new(),
            slot_by_id: HashMap::new(),
            waiting: VecDeque::new(),
            removals: Vec::new(),
            failures: 0,
        }
    }

    /// Starts shells while there are fewer than wanted, a few at once. True if one failed and is to be tried again.
    pub(super) fn refill(&mut self, outbox: &mut Outbox) -> bool {
        loop {
            let count =
                |want: fn(&Stage) -> bool| self.cells.values().filter(|c| want(&c.stage)).count();
            let building = count(|s| matches!(s, Stage::Building { .. }));
            let ready = count(|s| matches!(s, Stage::Ready));
            if building >= BUILDING_AT_ONCE || building + ready >= self.target + self.waiting.len()
            {
                return false;
            }
            if self.failures >= FAILURES_IN_A_ROW && self.waiting.is_empty() {
                return false;
            }
            if let Err(error) = self.begin_shell() {
                self.shell_failed(&error.to_string(), outbox);
                return true;
            }
        }
    }

    fn begin_shell(&mut self) -> io::Result<()> {
        while self.cells.contains_key(&self.next_slot) {
            self.next_slot = (self.next_slot + 1) % Block::PAIRS;
        }
        let slot = self.next_slot;
        self.next_slot = (self.next_slot + 1) % Block::PAIRS;
        let group = Group::create(&self.layout, &self.prefix, &format!("sandbox-{slot}"))?;
        match shell::begin(&self.proof, &self.shell_mold, self.uids.pair(slot)) {
            Ok(newborn) => {
                self.slot_of.insert(newborn.keeper.pid, slot);
                let stage = Stage::Building {
                    status: newborn.status,
                };
                self.cells.insert(
                    slot,
                    Cell {
                        keeper: newborn.keeper,
                        group,
                        stage,
                    },
                );
                Ok(())
            }
            Err(error) => {
                group.remove()?;
                Err(error)
            }
        }
    }

    fn shell_failed(&mut self, why: &str, outbox: &mut Outbox) {
        self.failures += 1;
        if self.failures >= FAILURES_IN_A_ROW {
            for waiting in self.waiting.drain(..) {
                outbox.push(
                    Event::Refused {
                        id: waiting.id,
                        reason: reason(&format!("make a sandbox: {why}")),
                    },
                    Vec::new(),
                );
            }
        }
    }

    pub(super) fn handle(&mut self, request: Request, mut fds: Vec<OwnedFd>, outbox: &mut Outbox) {
        match request {
            Request::Create { id, spec } => {
                let (Some(log), Some(guest), true) = (fds.pop(), fds.pop(), fds.is_empty()) else {
                    let reason = "a request came without its two descriptors".to_owned();
                    return outbox.push(Event::Refused { id, reason }, Vec::new());
                };
                if let Some(reason) = self.objection(id, &spec) {
                    let reason = reason.to_owned();
                    return outbox.push(Event::Refused { id, reason }, Vec::new());
                }
                self.waiting.push_back(Waiting {
                    id,
                    spec,
                    ends: Ends { guest, log },
                });
                self.lease(outbox);
            }
            Request::Destroy { id } => self.destroy(id, outbox),
        }
    }

    /// What a worker that is what it should be never asks.
    fn objection(&self, id: SandboxId, spec: &LeafSpec) -> Option<&'static str> {
        let known = self.slot_by_id.contains_key(&id) || self.waiting.iter().any(|w| w.id == id);
        if known {
            Some("that number is in use")
        } else if !self.ceiling.allows(spec) {
            Some("it asks for more than max_limits allows any sandbox")
        } else if self.cells.len() + self.waiting.len() >= self.ceiling.sandboxes + self.target {
            Some("there are as many sandboxes as the memory pool can hold")
        } else {
            None
        }
    }

    /// Gives ready shells to those who wait, first come first served.
    fn lease(&mut self, outbox: &mut Outbox) {
        while !self.waiting.is_empty() {
            let Some(slot) = self
                .cells
                .iter()
                .find(|(_, c)| matches!(c.stage, Stage::Ready))
                .map(|(s, _)| *s)
            else {
                return;
            };
            let (Some(waiting), Some(cell)) = (self.waiting.pop_front(), self.cells.get_mut(&slot))
            else {
                return;
            };
            let Waiting { id, spec, ends } = waiting;
            let made = leaf::begin(
                &self.proof,
                &self.leaf_mold,
                cell.keeper.pidfd.as_fd(),
                &cell.group,
                &spec,
                &ends,
            )
            .and_then(|newborn| {
                let alarm = spec
                    .limits
                    .oom_ends_all
                    .then(|| cell.group.out_of_memory_alarm());
                Ok((newborn, cell.group.freezer()?, alarm.transpose()?.flatten()))
            });
            match made {
                Ok((newborn, freezer, alarm)) => {
                    let pid = newborn.child.pid;
                    self.slot_of.insert(pid, slot);
                    self.slot_by_id.insert(id, slot);
                    let lease = Lease {
                        id,
                        leaf_pid: pid,
                        status: Some(newborn.status),
                        words: String::new(),
                        alarm,
                        out_of_memory: false,
                    };
                    cell.stage = Stage::Leased(lease);
                    let (freezer, mut files) = match freezer {
                        Freezer::V2 { freeze, events } => (FreezerKind::V2, vec![freeze, events]),
                        Freezer::V1 { state } => (FreezerKind::V1, vec![state]),
                    };
                    files.insert(0, newborn.child.pidfd);
                    outbox.push(Event::Created { id, pid, freezer }, files);
                }
                Err(error) => {
                    outbox.push(
                        Event::Refused {
                            id,
                            reason: reason(&error.to_string()),
                        },
                        Vec::new(),
                    );
                    self.end(slot, None);
                }
            }
        }
    }

    fn destroy(&mut self, id: SandboxId, outbox: &mut Outbox) {
        if let Some(slot) = self.slot_by_id.remove(&id) {
            self.end(slot, Some(id));
        } else if let Some(at) = self.waiting.iter().position(|w| w.id == id) {
            self.waiting.remove(at);
            outbox.push(Event::Destroyed { id }, Vec::new());
        } else {
            // Its keeper died by itself, and all of it is gone already.
            outbox.push(Event::Destroyed { id }, Vec::new());
        }
    }

    /// Kills the keeper of `slot`, and so all in its pid namespace.
    fn end(&mut self, slot: u32, announce: Option<SandboxId>) {
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        let lease = match std::mem::replace(&mut cell.stage, Stage::Ready) {
            Stage::Leased(lease)
            | Stage::Ending {
                lease: Some(lease), ..
            } => Some(lease),
            _ => None,
        };
        cell.stage = Stage::Ending { lease, announce };
        // Both fail only if there is nothing left to kill or to thaw.
        let _ = pidfd_send_signal(&cell.keeper.pidfd, Signal::KILL);
        let _ = cell.group.thaw_to_die();
    }

    /// Pipes that tell of a shell or a leaf being made.
    pub(super) fn status_pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.cells.values().filter_map(|cell| match &cell.stage {
            Stage::Building { status, .. } => Some(status.as_fd()),
            Stage::Leased(Lease {
                status: Some(status),
                ..
            }) => Some(status.as_fd()),
            _ => None,
        })
    }

    /// What tells that a sandbox ran out of memory.
    pub(super) fn alarms(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.cells.values().filter_map(|cell| match &cell.stage {
            Stage::Leased(lease) => lease.alarm.as_ref().map(AsFd::as_fd),
            _ => None,
        })
    }

    /// Ends every sandbox that is to end when memory is out and is there.
    pub(super) fn look_at_alarms(&mut self) {
        for cell in self.cells.values_mut() {
            let Stage::Leased(lease) = &mut cell.stage else {
                continue;
            };
            let told = |alarm: &OwnedFd| rustix::io::read(alarm, &mut [0_u8; 8]).is_ok();
            if lease.alarm.as_ref().is_some_and(told) {
                lease.alarm = None;
                lease.out_of_memory = true;
                // Both fail only if there is nothing left to kill or to thaw.
                let _ = pidfd_send_signal(&cell.keeper.pidfd, Signal::KILL);
                let _ = cell.group.thaw_to_die();
            }
        }
    }

    /// Moves on every shell and leaf whose status pipe has something to say.
    pub(super) fn look_at_status(&mut self, outbox: &mut Outbox) {
        let mut failed = Vec::new();
        for (slot, cell) in &mut self.cells {
            match &mut cell.stage {
                Stage::Building { status, .. } => match last_words(status.as_fd()) {
                    None => {}
                    Some(words) if words.is_empty() => {
                        cell.stage = Stage::Ready;
                        self.failures = 0;
                    }
                    Some(words) => failed.push((*slot, words)),
                },
                Stage::Leased(lease) => lease.listen(),
                _ => {}
            }
        }
        for (slot, words) in failed {
            self.end(slot, None);
            self.shell_failed(&words, outbox);
        }
        self.lease(outbox);
    }

    /// Takes note of a child that ended. One that isn't ours was reparented to us; reaping it was all it needed.
    pub(super) fn reaped(&mut self, pid: i32, status: WaitStatus, outbox: &mut Outbox) {
        let Some(slot) = self.slot_of.remove(&pid) else {
            return;
        };
        let Some(cell) = self.cells.get_mut(&slot) else {
            return;
        };
        if cell.keeper.pid == pid {
            return self.keeper_gone(slot, outbox);
        }
        let lease = match &mut cell.stage {
            Stage::Leased(lease) => Some(lease),
            Stage::Ending { lease, .. } => lease.as_mut(),
            _ => None,
        };
        if let Some(lease) = lease.filter(|lease| lease.leaf_pid == pid) {
            lease.listen();
            let oom_kills = cell.group.oom_kills().max(lease.out_of_memory.into());
            outbox.push(
                Event::Died {
                    id: lease.id,
                    death: lease.death(status),
                    oom_kills,
                },
                Vec::new(),
            );
        }
    }

    /// The keeper is reaped, so its namespaces are empty and gone: only the groups remain.
    fn keeper_gone(&mut self, slot: u32, outbox: &mut Outbox) {
        let Some(cell) = self.cells.remove(&slot) else {
            return;
        };
        let announce = match cell.stage {
            Stage::Ending { announce, .. } => announce,
            Stage::Leased(lease) => {
                self.slot_by_id.remove(&lease.id);
                None
            }
            Stage::Building { status } => {
                let words = last_words(status.as_fd()).unwrap_or_default();
                self.shell_failed(
                    if words.is_empty() {
                        "its keeper died"
                    } else {
                        &words
                    },
                    outbox,
                );
                None
            }
            Stage::Ready => None,
        };
        self.remove_group(cell.group, announce, outbox);
    }

    fn remove_group(&mut self, group: Group, announce: Option<SandboxId>, outbox: &mut Outbox) {
        if group.remove().is_err() {
            return self.removals.push((group, announce));
        }
        if let Some(id) = announce {
            outbox.push(Event::Destroyed { id }, Vec::new());
        }
    }

    pub(super) fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    pub(super) fn retry_removals(&mut self, outbox: &mut Outbox) {
        for (group, announce) in std::mem::take(&mut self.removals) {
            self.remove_group(group, announce, outbox);
        }
    }

    /// Ends every cell and waits until nothing is left; for the end of the warden. `other` hears of every child that ends
    /// meanwhile.
    pub(super) fn end_all(&mut self, mut other: impl FnMut(i32, WaitStatus)) -> io::Result<()> {
        let mut outbox = Outbox::default();
        let slots: Vec<u32> = self.cells.keys().copied().collect();
        for slot in slots {
            self.end(slot, None);
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
}
