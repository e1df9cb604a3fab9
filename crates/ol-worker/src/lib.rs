//! One worker: its directory, its two processes, and the place where the layers meet.
//!
//! ```text
//!   ol worker up ── up: lock, listen, fork ─┬─ this process: the warden (root), until the worker ends
//!                                           └─ the child: confine, then assemble: pool ─▶ lambdas ─▶ server
//! ```
//!
//! - [`directory`]: the worker directory's layout, and who may run there
//! - [`up`]: starts the two processes of a worker, and turns their ends into an exit status
//! - `confine`: what the worker gives up before it reads anything from outside
//! - `view`: reaching directories in somebody's home without the right to enter that home
//! - `relay`: answers DNS questions of functions
//! - `signals`: what each signal means, without counting one twice
//! - `say`: lines for the operator
//! - `memory`: returns memory to the system after a flood of requests
//! - `assemble`: the only place where the layers are put together, and shut down in order
//!
//! Failure: whichever of the two processes dies, the other notices at the socket between them, cleans up, and exits with a reason.

pub mod directory;

mod assemble;
mod confine;
mod memory;
mod relay;
mod runtime;
mod say;
mod signals;
mod up;
mod view;

pub use up::up;
