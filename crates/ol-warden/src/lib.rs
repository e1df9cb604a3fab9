//! The warden: the only privileged process. It makes and ends sandboxes, and knows nothing of functions, HTTP or JSON.
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
//! - [`network`]: how sandboxes reach the outside, and which addresses none of them can reach
//! - `shell`, `leaf`: the two kinds of process, each a list of steps in the order the kernel demands; `identity`: their uids and
//!   process numbers inside
//! - `fit`, `packages`: mount a function's code and packages into a shell from outside
//! - `shell_maker`: makes the shells below a zygote's own; `fork_order`: orders a zygote to fork into one, and reads the result
//! - [`serve`]: the loop that owns all sandboxes; when it returns, no process, mount or cgroup of them is left
//!
//! Failure: if the worker dies, the socket closes and the warden destroys everything. If the warden is killed, the kernel kills
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
