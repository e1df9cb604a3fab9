//! How the functions of a test start: the same tests hold whatever their leaves are made from.
//!
//! `OL_TEST_STARTS` says it for a whole run: `fork` (from the zygote, where it isn't set), `fresh` (an interpreter of their own),
//! `blank` (forked ahead; how a worker starts functions that are in demand) or `resume` (forked, and each call after a function's
//! first is made to a sandbox that was paused meanwhile).

use crate::patience::{eventually, within};
use crate::worker::Worker;

/// Names the variable.
const STARTS: &str = "OL_TEST_STARTS";

/// A pool that has room for a zygote and blanks beside the functions of a test.
const ROOMY_MB: u32 = 1000;

/// How leaves are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starts {
    /// By a new interpreter.
    Fresh,
    /// By a fork of the zygote.
    Fork,
    /// By binding one that was forked ahead.
    Blank,
    /// By a fork, and calls find them paused.
    Resume,
}

impl Starts {
    /// As this run wants it.
    ///
    /// # Panics
    /// When the variable has another value.
    #[must_use]
    pub fn of_this_run() -> Self {
        match std::env::var(STARTS).as_deref() {
            Ok("fresh") => Self::Fresh,
            Ok("blank") => Self::Blank,
            Ok("resume") => Self::Resume,
            Ok("fork") | Err(_) => Self::Fork,
            Ok(other) => panic!("{STARTS} is fresh, fork, blank or resume, not {other:?}"),
        }
    }

    /// How `X-OL-Timing` calls the start of a function's first call.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Fork | Self::Resume => "fork",
            Self::Blank => "blank",
        }
    }

    /// How many network namespaces a worker has that keeps `shells` ready and has started nothing, nor forked ahead: that many; below a
    /// zygote, its own, and one for what isn't forked.
    #[must_use]
    pub fn namespaces(self, shells: usize) -> usize {
        match self {
            Self::Fresh => shells,
            Self::Fork | Self::Blank | Self::Resume => shells + 2,
        }
    }

    /// This, or by a fork where none can stand ready: under `server_mode: "sock"`, without a zygote, without blanks, or with too little memory
    /// for them. The tests that ask for such a worker hold for it whatever the others are made from.
    pub(crate) fn with(self, options: &[&str]) -> Self {
        let refuses = |option: &&str| match option.split_once('=') {
            Some(("server_mode", mode)) => mode == "sock",
            Some(("features.import_cache", kind)) => kind.is_empty(),
            Some(("blanks.max", count)) => count == "0",
            // The kit's own function would be refused where that can't be had.
            Some(("network.default", _)) => true,
            Some(("mem_pool_mb", pool)) => pool.parse::<u32>().is_ok_and(|pool| pool < ROOMY_MB),
            _ => false,
        };
        if self == Self::Blank && options.iter().any(refuses) {
            Self::Fork
        } else {
            self
        }
    }

    /// The worker's options for it.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Fresh => &["features.import_cache="],
            Self::Fork | Self::Resume => &["blanks.max=0"],
            Self::Blank => &[],
        }
    }

    /// What a call waits for: that the sandboxes of earlier calls are paused, if they are to be. Not for long: others' calls may run.
    pub(crate) fn before_call(self, worker: &Worker<'_>) {
        if self == Self::Resume {
            let _ = within(0.3, || {
                (!worker.debug().contains(": running, pid")).then_some(())
            });
        }
    }

    /// Waits until `worker` can start functions so; a worker whose memory holds no zygote never will, and starts them afresh.
    ///
    /// # Panics
    /// When a blank is to be there and doesn't come.
    pub fn prepare(self, worker: &Worker<'_>) {
        match self {
            Self::Fresh => {}
            Self::Fork | Self::Resume => {
                let _ = within(2.0, || {
                    worker.debug().contains("zygote in sandbox").then_some(())
                });
            }
            Self::Blank => {
                eventually("a zygote", 10.0, || {
                    worker.debug().contains("zygote in sandbox").then_some(())
                });
                worker.install_untried("prelude", &[("f.py", "def f(event):\n    return event\n")]);
                let _ = worker.call("prelude", &serde_json::json!({})).ok();
                let _ = worker.request("DELETE", "/registry/prelude", b"");
                eventually("a blank, and the prelude to end", 10.0, || {
                    let ready = worker.debug().contains("blank in sandbox");
                    (ready && worker.leaves().is_empty()).then_some(())
                });
            }
        }
    }
}
