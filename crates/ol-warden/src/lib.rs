//! The warden: the one privileged process. It makes sandboxes and ends them; it knows no function, no HTTP, no JSON.
//!
//! ```text
//!   worker (no capability) ── SEQPACKET: typed messages + descriptors ──▶ warden (root, one thread)
//!                                                                          │ fork, exec
//!                             shell: keeper = pid 1 of fresh namespaces ◀──┤  made ahead, before any tenant is known
//!                             leaf: pid 2, no privilege, tenant code   ◀───┤  made on request, in a ready shell
//!                             zygote: no privilege; forks leaves ◀── orders ┘  into ready shells below its own
//! ```
//!
//! - [`protocol`]: the messages; none carries a path, so nothing a tenant wrote is resolved with privilege
//! - [`cgroup`]: limits, freezing and counting on v2, v1 and hybrid machines behind one interface
//! - [`rootfs`]: what a sandbox sees, as data, then as mounts
//! - [`network`]: how sandboxes reach the outside, and what none of them reaches
//! - `shell`, `leaf`: the two kinds of process, each a list of steps in the order the kernel demands; `inside` is what they are to
//!   each other
//! - `fit`, `packages`: what is moved into a shell from outside
//! - `maker`: makes the shells below a zygote's; `birth`: orders a zygote to fork into one, and hears of the child
//! - [`serve`]: the loop that owns them all; when it ends, nothing of them is left
//!
//! Failure: if the worker dies, the socket closes and everything is destroyed. If the warden is killed, the kernel kills
//! each keeper (PDEATHSIG) and with it its whole pid namespace; only empty cgroups remain, which [`cgroup::remove_all`]
//! clears at the next start.

pub mod cgroup;
pub mod network;
pub mod protocol;
pub mod rootfs;

mod child;
mod fit;
mod fork_order;
mod identity;
mod leaf;
mod packages;
mod serve;
mod shell;
mod shell_maker;
mod uids;

pub use serve::{Ceiling, Config, Ending, PASSED_ON, serve};
