//! System calls without a C library. Thus there is no `errno`, and a zygote shares no such state with its go-between.

use core::arch::asm;
use core::ffi::{c_char, c_int, c_void};

pub const EINTR: isize = 4;
pub const SCM_RIGHTS: c_int = 1;
pub const PR_GET_TID_ADDRESS: c_int = 40;

#[repr(C)]
pub struct Part {
    pub base: *mut c_void,
    pub length: usize,
}

#[repr(C)]
pub struct Message {
    pub name: *mut c_void,
    pub name_length: u32,
    pub parts: *mut Part,
    pub count: usize,
    pub control: *mut c_void,
    pub control_length: usize,
    pub flags: c_int,
}

#[repr(C)]
pub struct ControlHeader {
    pub length: usize,
    pub level: c_int,
    pub kind: c_int,
}

/// Makes system call `number`; a result from -4095 to -1 is a negated error number.
pub fn call(number: usize, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    let result: isize;
    // SAFETY: each caller passes the arguments that its call takes; the kernel changes only the registers named.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            in("r9") 0_usize,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

pub fn close(fd: c_int) {
    call(3, fd as usize, 0, 0, 0, 0);
}

pub fn exit(status: i32) -> ! {
    loop {
        call(231, status as usize, 0, 0, 0, 0);
    }
}

pub fn gettid() -> c_int {
    call(186, 0, 0, 0, 0, 0) as c_int
}

pub fn prctl(option: c_int, a: usize, b: usize, c: usize) -> isize {
    call(157, option as usize, a, b, c, 0)
}

pub fn recvmsg(fd: c_int, message: &mut Message) -> isize {
    const CLOEXEC: usize = 0x4000_0000;
    call(47, fd as usize, &raw mut *message as usize, CLOEXEC, 0, 0)
}

/// Sends `bytes`; if the reader is gone, this fails without a signal.
pub fn send(fd: c_int, bytes: &[u8]) -> isize {
    const NOSIGNAL: usize = 0x4000;
    call(
        44,
        fd as usize,
        bytes.as_ptr() as usize,
        bytes.len(),
        NOSIGNAL,
        0,
    )
}

pub fn write(fd: c_int, bytes: &[u8]) -> isize {
    call(1, fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0)
}

/// The link count of `path`; `None` if it can't be had.
pub fn links(path: *const c_char) -> Option<u64> {
    let mut stat = [0_u64; 18];
    let done = call(4, path as usize, stat.as_mut_ptr() as usize, 0, 0, 0);
    (done == 0).then_some(stat[2])
}
