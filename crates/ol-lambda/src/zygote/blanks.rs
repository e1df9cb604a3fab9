//! Blanks: leaves forked ahead and warmed, which know nothing of any function until a start takes one.
//!
//! ```text
//!   start ── take() ──▶ a blank, given code and limits by the pool: bound, and never shared again
//!              └ demand ─▶ the task here forks as many as are wanted, while nobody waits for a start
//! ```

use super::demand::Demand;
use super::root::Zygotes;
use super::spawn::Zygote;
use crate::guest::frame::Outgoing;
use crate::guest::{Channel, FrameKind};
use ol_model::{Limits, MiB, OomScope};
use ol_sandbox::{
    Content, CreateError, Created, Network, Packages, Pool, Role, Running, SandboxSpec,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long after a start nothing is forked ahead: the start should have the cores for itself.
const COURTESY: Duration = Duration::from_millis(3);
/// How often to check whether there are more blanks than wanted.
const LOOK: Duration = Duration::from_secs(5);
/// How long a blank may take to warm up.
const WARMING: Duration = Duration::from_secs(5);

/// A leaf that waits for a function.
pub(crate) struct Blank {
    pub sandbox: Running,
    pub channel: Channel,
    pub output: pipe::Receiver,
    /// The zygote that it was forked from.
    pub zygote: Arc<Zygote>,
}

/// How blanks are made, and how many there may be.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub limits: Limits,
    pub most: usize,
    /// The network of every blank. Blanks have it from the beginning: to set up a link takes longer than all else that a start adds.
    pub network: Network,
}

/// The blanks of a worker.
pub(crate) struct Blanks {
    kept: Kept,
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Blank>,
    demand: Demand,
}

impl Blanks {
    /// Keeps blanks forked from `zygotes`, from now on until the returned handle is dropped.
    pub(crate) fn keep(kept: Kept, zygotes: &Arc<Zygotes>, pool: &Arc<dyn Pool>) -> Arc<Self> {
        let blanks = Arc::new(Self {
            kept,
            state: Mutex::default(),
            asked: Notify::new(),
        });
        if blanks.kept.most > 0 {
            let weak = Arc::downgrade(&blanks);
            tokio::spawn(tend(weak, Arc::downgrade(zygotes), Arc::clone(pool)));
        }
        blanks
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A start begins: takes a blank with that network, if there is one.
    pub(crate) fn take(&self, network: Network) -> Option<Blank> {
        if network != self.kept.network {
            return None;
        }
        let mut state = self.state();
        state.demand.arrived(Instant::now());
        let alive = |blank: &Blank| blank.sandbox.obituary().death().is_none();
        let blank = std::iter::from_fn(|| state.ready.pop_front()).find(alive);
        drop(state);
        self.asked.notify_one();
        blank
    }

    /// Drops all blanks, because memory is short or the worker ends; returns how much memory that frees.
    pub(crate) fn let_go(&self) -> MiB {
        let mut state = self.state();
        let ready = std::mem::take(&mut state.ready);
        if !ready.is_empty() {
            // Blanks are made again only after the next start, not at once.
            state.demand = Demand::default();
        }
        let count = u32::try_from(ready.len()).unwrap_or(u32::MAX);
        MiB(count.saturating_mul(self.kept.limits.mem.0))
    }

    /// For people: the blanks that are ready.
    pub(crate) fn describe(&self) -> Vec<String> {
        let state = self.state();
        let line = |blank: &Blank| {
            let sandbox = &blank.sandbox;
            format!("blank in sandbox {}: {}", sandbox.id().0, sandbox.process())
        };
        state.ready.iter().map(line).collect()
    }

    /// Is another blank to be made? Also drops surplus blanks, and those forked from another zygote than `zygote`.
    fn lacks(&self, zygote: Option<&Arc<Zygote>>, pool: &dyn Pool) -> bool {
        let mut state = self.state();
        state
            .ready
            .retain(|blank| zygote.is_some_and(|zygote| Arc::ptr_eq(zygote, &blank.zygote)));
        let each = self.kept.limits.mem.0.max(1);
        let room = (pool.free_memory().0 / each) as usize + state.ready.len();
        let wanted = state.demand.wanted(Instant::now(), self.kept.most, room);
        state.ready.truncate(wanted);
        zygote.is_some() && state.ready.len() < wanted
    }
}

async fn tend(blanks: Weak<Blanks>, zygotes: Weak<Zygotes>, pool: Arc<dyn Pool>) {
    loop {
        let Some((kept, zygotes)) = blanks.upgrade().zip(zygotes.upgrade()) else {
            return;
        };
        let zygote = zygotes.root();
        drop(zygotes);
        let lacks = kept.lacks(zygote.as_ref(), &*pool);
        let (limits, network) = (kept.kept.limits.clone(), kept.kept.network);
        drop(kept);
        match zygote.filter(|_| lacks) {
            Some(zygote) => {
                let made = make(&*pool, zygote, limits, network).await;
                let Some(kept) = blanks.upgrade() else { return };
                match made {
                    Ok(blank) => kept.state().ready.push_back(blank),
                    Err(why) => {
                        tracing::debug!("no blank could be made: {why}");
                        drop(kept);
                        tokio::time::sleep(LOOK / 10).await;
                    }
                }
            }
            None => {
                let Some(kept) = blanks.upgrade() else { return };
                let _ = tokio::time::timeout(LOOK, kept.asked.notified()).await;
                drop(kept);
                tokio::time::sleep(COURTESY).await;
            }
        }
    }
}

async fn make(
    pool: &dyn Pool,
    zygote: Arc<Zygote>,
    limits: Limits,
    network: Network,
) -> Result<Blank, String> {
    let spec = SandboxSpec {
        parent: zygote.as_parent(),
        role: Role::Leaf,
        content: Content {
            limits,
            oom: OomScope::Process,
            code: None,
            packages: Packages::None,
            patience: Duration::ZERO,
            network,
        },
        opening: Vec::new(),
    };
    let created = pool.create(spec).await;
    let Created {
        sandbox,
        guest,
        output,
        ..
    } = created.map_err(|error: CreateError| error.to_string())?;
    let channel = Channel::new(guest, 1);
    let warming = async {
        let mut conversation = channel.about_itself();
        channel
            .send(Outgoing::new(FrameKind::Warm, 0))
            .await
            .map_err(|error| error.to_string())?;
        for wanted in [FrameKind::Ready, FrameKind::Warmed] {
            let frame = channel
                .next(&mut conversation)
                .await
                .map_err(|error| error.to_string())?;
            if frame.kind != wanted {
                return Err(format!("it said {:?}", frame.kind));
            }
        }
        Ok(())
    };
    tokio::time::timeout(WARMING, warming)
        .await
        .unwrap_or_else(|_| Err(format!("it took longer than {WARMING:?}")))?;
    Ok(Blank {
        sandbox,
        channel,
        output,
        zygote,
    })
}
