//! Safe wrappers over the Linux calls that isolate a sandbox, and nothing else.
//!
//! This is the only crate that may use `unsafe`. Calls that rustix already wraps safely are used from there, by this crate and by
//! the crates above; this crate adds what rustix lacks:
//!
//! - [`process`]: forking a single-threaded process (`clone3`), `exec` by descriptor, closing descriptors, signals
//! - [`mount`]: `mount_setattr`, and mounts as detached trees
//! - [`namespaces`]: joining and leaving namespaces
//! - [`privilege`]: giving up uid, capabilities and the right to gain any
//! - [`seccomp`]: the system calls a sandbox may make, as a binary search
//! - [`confine`]: Landlock rulesets for leaves and for the worker
//! - [`heap`]: giving free memory of the allocator back to the system
//! - [`loopback`]: bringing `lo` up in a new network namespace
//! - [`socket`]: sockets of an event loop: watching one, and receiving into memory that was not zeroed before
//! - [`KEEPER`]: the program that is pid 1 of a sandbox

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!(
    "the SOCK sandbox is written for Linux on x86_64: its seccomp list and keeper know no other machine yet"
);

pub mod confine;
mod fork;
pub mod heap;
pub mod loopback;
pub mod mount;
pub mod namespaces;
pub mod privilege;
pub mod process;
pub mod seccomp;
pub mod socket;

/// The keeper's ELF image: static, position-dependent, no libc (see `keeper/keeper.rs`).
pub const KEEPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keeper"));
