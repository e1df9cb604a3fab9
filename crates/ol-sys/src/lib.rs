//! Safe wrappers over the Linux calls that isolate a sandbox, and nothing else.
//!
//! This is the only crate that may say `unsafe`. What rustix already wraps safely is used from there, by us and by
//! the crates above; here is what it lacks:
//!
//! - [`process`]: `clone3` of a single-threaded process, `exec` by descriptor, closing of descriptors
//! - [`mount`]: `mount_setattr`, and mounts as detached trees
//! - [`namespaces`]: joining and leaving namespaces
//! - [`privilege`]: giving up uid, capabilities and the right to gain any
//! - [`seccomp`]: the system calls a sandbox may make, as a binary search
//! - [`confine`]: Landlock rulesets for leaves and for the worker
//! - [`heap`]: giving back what the allocator holds and nobody uses
//! - [`loopback`]: bringing `lo` up in a new network namespace
//! - [`socket`]: watching a socket for a part of what it can do, receiving into memory that was not set to zero
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
