//! The keeper: pid 1 of one sandbox's namespaces. It holds them open and does nothing else.
//!
//! It is written without a libc so that it costs two pages. Before the exec, the same process has set SIGCHLD to be ignored, so that
//! the kernel reaps orphans of the sandbox, and PDEATHSIG, so that it dies with the warden. It makes itself not dumpable only here,
//! since an exec resets that; otherwise a process with its uid could open `/proc/1/mem`.
#![no_std]
#![no_main]

use core::arch::global_asm;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov eax, 157", // prctl
    "mov edi, 4",   // PR_SET_DUMPABLE
    "xor esi, esi",
    "syscall",
    "2:",
    "mov eax, 34", // pause
    "syscall",
    "jmp 2b",
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
