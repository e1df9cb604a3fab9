//! Keeps the root zygote alive: it is made at start, and replaced when it dies or fails too often.

use super::spawn::{Recipe, Zygote};
use ol_model::{Limits, MiB};
use ol_sandbox::{Packages, Parent, Pool};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How many forks may fail in a row before a zygote is replaced.
///
/// One fork may fail for a reason of its own, such as a limit too small for a process.
const FAILURES_IN_A_ROW: u32 = 3;

/// How long to wait before a zygote that died early is replaced; doubles up to the longest.
const SHORTEST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// If a zygote lived this long, nothing that the next one shares caused its death.
const LONG_LIFE: Duration = Duration::from_secs(10);

/// The root zygote has imported no tenant's or package's code: this is plenty for Python itself.
const ROOT_MEMORY: MiB = MiB(64);

/// The zygotes of a worker.
#[derive(Default)]
pub(crate) struct Zygotes {
    current: Mutex<Current>,
    failures: AtomicU32,
    /// Notified when the zygote in service is to be replaced, or when everything is to end.
    changed: Notify,
}

#[derive(Default)]
struct Current {
    zygote: Option<Arc<Zygote>>,
    ended: bool,
}

impl Zygotes {
    /// Keeps a root zygote alive, from now until [`Self::end`]; until the first one is ready, every start is fresh.
    ///
    /// `limits` are the limits of a zygote.
    pub(crate) fn keep(self: &Arc<Self>, pool: &Arc<dyn Pool>, limits: Limits, shells: u16) {
        let most = limits.mem;
        let limits = Limits {
            mem: MiB(limits.mem.0.min(ROOT_MEMORY.0)),
            ..limits
        };
        let recipe = Recipe {
            parent: Parent::Root,
            limits,
            most,
            shells,
            packages: Packages::None,
            path: Vec::new(),
            imports: Vec::new(),
        };
        tokio::spawn(keep(Arc::downgrade(self), Arc::clone(pool), recipe));
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The zygote to fork from, if there is one.
    pub(crate) fn root(&self) -> Option<Arc<Zygote>> {
        self.current().zygote.clone()
    }

    /// Notes that a fork succeeded.
    pub(crate) fn praise(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Notes that a fork from `zygote` failed, and why.
    pub(crate) fn suspect(&self, zygote: &Arc<Zygote>, why: &str) {
        tracing::warn!("the zygote in sandbox {} failed: {why}", zygote.id());
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < FAILURES_IN_A_ROW {
            return;
        }
        if self.dismiss(zygote) {
            self.changed.notify_one();
        }
    }

    /// Drops all zygotes, for good.
    pub(crate) fn end(&self) {
        let mut current = self.current();
        current.ended = true;
        current.zygote = None;
        self.changed.notify_one();
    }

    /// For people: the zygote, if there is one.
    pub(crate) fn describe(&self) -> Option<String> {
        self.current().zygote.as_ref().map(|z| z.describe())
    }

    /// Puts `zygote` in service; returns false if everything has ended.
    fn serve(&self, zygote: &Arc<Zygote>) -> bool {
        let mut current = self.current();
        if !current.ended {
            current.zygote = Some(Arc::clone(zygote));
            self.praise();
        }
        !current.ended
    }

    /// Takes `zygote` out of service; returns false if it wasn't in service.
    fn dismiss(&self, zygote: &Arc<Zygote>) -> bool {
        let serving = &mut self.current().zygote;
        let dismissed = serving.take_if(|serving| Arc::ptr_eq(serving, zygote));
        dismissed.is_some()
    }
}

async fn keep(zygotes: Weak<Zygotes>, pool: Arc<dyn Pool>, recipe: Recipe) {
    let mut rest = SHORTEST_REST;
    loop {
        let begun = Instant::now();
        match Zygote::spawn(&*pool, recipe.clone()).await {
            Ok(zygote) => {
                let zygote = Arc::new(zygote);
                let Some(zygotes) = zygotes.upgrade().filter(|z| z.serve(&zygote)) else {
                    return;
                };
                let mut obituary = zygote.obituary();
                tokio::select! {
                    death = obituary.wait() => {
                        let how = death.map_or_else(|| "and with it what makes sandboxes".to_owned(), |d| d.to_string());
                        tracing::warn!("the zygote in sandbox {} is gone ({how}); making another", zygote.id());
                    }
                    () = zygotes.changed.notified() => {}
                }
                zygotes.dismiss(&zygote);
                if zygotes.current().ended {
                    return;
                }
            }
            Err(error) => tracing::warn!(
                "no zygote could be made, so functions start afresh, which is slower: {error}"
            ),
        }
        if begun.elapsed() > LONG_LIFE {
            rest = SHORTEST_REST;
        }
        tokio::time::sleep(rest).await;
        rest = (rest * 2).min(LONGEST_REST);
        if zygotes.upgrade().is_none_or(|z| z.current().ended) {
            return;
        }
    }
}
