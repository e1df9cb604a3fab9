//! How the functions of a test are started: the same tests must pass for each way.
//!
//! `OL_TEST_STARTS` sets it for a whole run: `fork` (from the zygote; the default), `fresh` (with a new interpreter), `blank` (forked
//! before they are needed, as a worker does for functions in demand) or `resume` (forked, and each call after a function's first finds its
//! sandbox paused).

/// The name of the variable.
const STARTS: &str = "OL_TEST_STARTS";

/// A memory pool that has room for a zygote and blanks in addition to a test's functions.
const ROOMY_MB: u32 = 1000;

/// How leaves are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starts {
    /// By a new interpreter.
    Fresh,
    /// By a fork of the zygote.
    Fork,
    /// By a fork before it is needed, which gets the function's code later.
    Blank,
    /// By a fork, and calls find them paused.
    Resume,
}

impl Starts {
    /// The way that the variable sets for this run.
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

    /// The kind that `X-OL-Timing` shows for a function's first call.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Fork | Self::Resume => "fork",
            Self::Blank => "blank",
        }
    }

    /// The number of network namespaces of a worker that keeps `shells` ready and hasn't started or forked anything: `shells`; with a
    /// zygote, also the zygote's, and one for sandboxes that aren't forked.
    #[must_use]
    pub fn namespaces(self, shells: usize) -> usize {
        match self {
            Self::Fresh => shells,
            Self::Fork | Self::Blank | Self::Resume => shells + 2,
        }
    }

    /// This way, or `Fork` if the worker's options don't allow blanks: `server_mode: "sock"`, no zygote, no blanks, or too little memory.
    ///
    /// Tests that use such options are about these, whatever the way.
    pub(crate) fn with(self, options: &[&str]) -> Self {
        let refuses = |option: &&str| match option.split_once('=') {
            Some(("server_mode", mode)) => mode == "sock",
            Some(("features.import_cache", kind)) => kind.is_empty(),
            Some(("blanks.max", count)) => count == "0",
            // The prelude function could be refused, if this network can't be had.
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

    /// The worker's options for this way.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Fresh => &["features.import_cache="],
            Self::Fork | Self::Resume => &["blanks.max=0"],
            Self::Blank => &[],
        }
    }
}
