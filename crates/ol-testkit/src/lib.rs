//! What black box tests need: a place of their own, a worker in it, and a check of what it left behind.
//!
//! ```text
//!   with_worker(options, |worker| …)
//!     Place::new ─▶ up ─▶ the test ─▶ down ─▶ residue counted ─▶ place removed
//!                              └ panics: killed by its own pid, cleaned up, log printed
//! ```
//!
//! - [`place`]: a directory with canaries around it, and the `ol` command run there
//! - [`worker`]: the fixture: a real worker, used only through HTTP
//! - [`residue`]: what is left of a worker, according to the kernel alone
//! - [`process`]: reads `/proc`
//! - [`http`]: a client that shows what is on the wire, and can break off
//! - [`network`]: network namespaces around a worker
//! - [`bases`]: base images with Python 3.9, 3.11 and 3.13
//! - [`flow`]: answers read while they arrive, requests sent in parts
//! - [`bundle`]: functions as tar.gz, honest and hostile
//! - [`index`]: a package index, honest or hostile
//! - [`victim`]: a function that must not notice what packages do
//! - [`patience`]: how long to wait, and for which conditions
//!
//! | variable | means |
//! |---|---|
//! | `OL_BIN` | the binary under test; otherwise the `ol` that was built beside the test |
//! | `OL_TEST_DIR` | where places are made; otherwise the temporary directory |
//! | `OL_TEST_SLOW` | this machine is slow: every deadline is ten times as long, or as many times as the value says |
//! | `OL_SKIP_LOG` | a file to which a skipped test appends `NAME<TAB>REASON` |
//! | `CI` | a skipped test is a failure |

pub mod bases;
pub mod bundle;
pub mod flow;
pub mod http;
pub mod index;
pub mod network;
pub mod patience;
pub mod place;
pub mod process;
pub mod residue;
pub mod victim;
pub mod worker;

mod skip;
mod starts;

pub use skip::root_or_skip;

pub use bases::bases;
pub use bundle::bundle;
pub use flow::{Incoming, Outgoing};
pub use http::{Client, Reply};
pub use index::{Dist, Hostile, Mischief, PackageIndex, sdist, wheel};
pub use patience::{Over, eventually, measured, patience, slowness};
pub use place::{Place, Said, in_place};
pub use starts::Starts;
pub use victim::with_victim;
pub use worker::{Worker, with_worker};
