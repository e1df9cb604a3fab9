//! Zygotes: sandboxes that have imported and fork others, so that a function starts for the price of a fork.
//!
//! ```text
//!   provision ── parent() ──▶ Zygotes ◀── keeps one root zygote alive ── a task
//!        └── a fork that failed: suspect() ──▶ replaced; whoever asked starts afresh meanwhile
//! ```
//! - `root`: the one zygote that there is by now, which has imported the runtime and nothing else
//! - `spawn`: making any zygote
//! - `blanks`: leaves forked ahead, which a start takes instead of a fork; `demand` says how many there should be
//!
//! A zygote is not trusted: it may hang, lie or die. What is forked from it is checked, and bounded in time, by the pool,
//! and nobody's call fails because of it.

mod blanks;
mod demand;
mod root;
mod spawn;

pub(crate) use blanks::{Blank, Blanks, Kept};
pub(crate) use root::Zygotes;
pub(crate) use spawn::{Recipe, SpawnError, Zygote};
