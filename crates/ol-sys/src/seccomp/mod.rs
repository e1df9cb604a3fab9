//! The system calls that a sandbox may make: an allow-list, compiled to a binary search and installed for good.
//!
//! - [`allowed`](allowed::LEAF): the list, by purpose, and the calls whose arguments are checked
//! - `compile`: from list to BPF. Comparing 284 calls one by one costs 430–980 µs to install (the kernel runs the filter for every
//!   call number to build its cache, and translates each instruction); ranges in a binary search cost a tenth of a millisecond. A leaf
//!   that is forked has its zygote's filter already, and adds only the difference, which costs a quarter of that
//!
//! Any other call returns `ENOSYS`, which programs know how to handle. A call of another architecture (i386, x32) kills the
//! process, since there the same numbers mean other calls.

mod allowed;
mod compile;

use std::io;

pub use compile::Program;

/// The filter of a leaf.
pub fn leaf() -> Program {
    compile::compile(&allowed::LEAF)
}

/// The filter of a leaf that is forked from a zygote. It is installed on top of the zygote's, and does what [`leaf`] does only there.
pub fn forked_leaf() -> Program {
    compile::compile_on_top_of(&allowed::ZYGOTE, &allowed::LEAF)
}

/// The filter of a zygote: all that a leaf may do, and also joining the shells of its children and making a cgroup namespace.
pub fn zygote() -> Program {
    compile::compile(&allowed::ZYGOTE)
}

/// Installs `program` for this thread and all that it will start. Needs `no_new_privs` (seccomp(2)).
///
/// # Errors
/// Those of seccomp(2).
pub fn install(program: &Program) -> io::Result<()> {
    let length = libc::c_ushort::try_from(program.0.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog {
        len: length,
        filter: program.0.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions from `filter`, which outlives the call, and writes nothing.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const filter,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
