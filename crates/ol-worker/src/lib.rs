//! One worker: its directory, its two processes, and the place where the layers meet.
//!
//! ```text
//!   ol worker up ── up: lock, listen, fork ─┬─ this process: the warden (root), until the worker ends
//!                                           └─ the child: confine, then assemble: pool ─▶ lambdas ─▶ server
//! ```
//!
//! - [`directory`]: what lies where, and who may run there
//! - [`up`]: from a directory and a configuration to two processes, and what each exit means
//! - `confine`: what the worker gives up before it reads its first byte
//! - `view`: reaching directories that lie in somebody's home without the right to pass it
//! - `relay`: answers functions' questions of names
//! - `signals`: what each signal means, and that one isn't counted twice
//! - `memory`: gives back what a flood took
//! - `assemble`: the only place where the parts meet, and their end in order
//!
//! Failure: whichever of the two processes dies, the other notices by their socket, cleans up, and exits with a reason.

pub mod directory;

mod assemble;
mod confine;
mod memory;
mod relay;
mod runtime;
mod signals;
mod up;
mod view;

pub use up::up;
