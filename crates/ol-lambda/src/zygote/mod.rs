//! Zygotes: sandboxes that have imported modules and fork others, so that starting a function costs only a fork.
//!
//! ```text
//!   provision ── parent() ──▶ Zygotes ◀── keeps one root zygote alive ── a task
//!        └── a fork that failed: suspect() ──▶ replaced; starts are fresh meanwhile
//! ```
//! - `root`: keeps the root zygote, the only one at present, which has imported the runtime and nothing else
//! - `spawn`: makes a zygote
//! - `blanks`: leaves forked ahead, which a start takes instead of a fork; `demand` says how many there should be
//!
//! A zygote is not trusted: it may hang, lie or die. The pool checks what is forked from it and limits the time of a fork,
//! and no call fails because of a zygote.

mod blanks;
mod demand;
mod root;
mod spawn;

pub(crate) use blanks::{Blank, Blanks, Kept};
pub(crate) use root::Zygotes;
pub(crate) use spawn::{Recipe, SpawnError, Zygote};
