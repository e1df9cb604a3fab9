//! The native half of a zygote: waits for the warden's orders and for each forks a child into a ready shell.
//!
//! It is a Python extension module, `_ol_forker`, that links no C library, with two functions: `clear_flag` (`python.rs`), and
//! `serve(channel) -> role`, which returns once in every child (0 for a leaf, 1 for a zygote), and -1 in the zygote when the warden
//! is gone. It is native because a go-between that shares the zygote's memory must join namespaces before it forks the child, and
//! because the child must be confined before a single line of Python runs in it: what a package registered to run after a fork is a
//! tenant's code.
//!
//! ```text
//!   zygote ──clone(VM, VFORK, PARENT)──▶ go-between: enter the groups, setns ──clone(PARENT)──▶ child, pid 2 of the shell
//!      └── sleeps until the go-between exits ──┘                                 │ gives up all privilege, says so, runs
//! ```
//! Go-between and child are both children of the zygote's parent, the warden, which thus learns of their ends whatever the zygote
//! does. The order's layout is written in `ol-warden`'s `fork_order.rs`. The warden trusts nothing that this code reports: a zygote
//! that was taken over runs other code.
#![no_std]

use core::arch::asm;
use core::ffi::{c_int, c_long, c_void};
use core::ptr::null_mut;

mod call;
mod confine;
mod python;

use call::*;
use confine::{Failure, Step};

/// The warden's order: integers in the machine's byte order, followed by `filter` instructions of eight bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Order {
    /// 0 a leaf, 1 a zygote.
    role: u32,
    /// The child's uid inside.
    uid: u32,
    files_soft: u64,
    files_hard: u64,
    largest_file: u64,
    pending_signals: u64,
    message_queues: u64,
    /// Landlock's rights: all that are checked, those for reading, those that a rule for a file can have, and the scopes.
    handled: u64,
    reading: u64,
    of_a_file: u64,
    scoped: u64,
    /// How many descriptors are for groups that the go-between enters, so that the child's memory is charged to them from its first
    /// page.
    early: u32,
    /// How many descriptors after those are for groups that only the child enters: they count processes, and the go-between would be
    /// one too many.
    late: u32,
    /// How many instructions of the child's own seccomp filter follow.
    filter: u32,
    _unused: u32,
}

const LEAF: u32 = 0;
const MESSAGE: usize = 8192;
/// The most descriptors that come with an order.
const DESCRIPTORS: usize = 16;

/// A received order.
///
/// `fds` are the keeper's pidfd, the guest socket, the log, the status socket, the channel if the child is to be a zygote, and then
/// the groups.
struct Received {
    bytes: [u64; MESSAGE / 8],
    length: usize,
    fds: [c_int; DESCRIPTORS],
    count: usize,
}

impl Received {
    fn order(&self) -> Option<Order> {
        // SAFETY: the buffer is aligned and longer than the structure, which is plain integers.
        let order = unsafe { *self.bytes.as_ptr().cast::<Order>() };
        let wanted = size_of::<Order>() + order.filter as usize * 8;
        let fixed = if order.role == LEAF { 4 } else { 5 };
        let groups = order.early as usize + order.late as usize;
        (self.length == wanted && self.count == fixed + groups).then_some(order)
    }

    fn filter(&self) -> *const c_void {
        // SAFETY: `order` has checked that it lies inside the buffer.
        unsafe {
            self.bytes
                .as_ptr()
                .cast::<u8>()
                .add(size_of::<Order>())
                .cast()
        }
    }

    fn close_all(&mut self) {
        for fd in self.fds.iter().take(self.count) {
            close(*fd);
        }
        self.count = 0;
    }
}

/// Serves orders from `channel`; returns in each child, and -1 in the zygote at the end of the channel.
pub fn serve(channel: c_int) -> c_long {
    let mut received = Received {
        bytes: [0; MESSAGE / 8],
        length: 0,
        fds: [-1; DESCRIPTORS],
        count: 0,
    };
    loop {
        match receive(channel, &mut received) {
            Some(true) => {}
            Some(false) => continue,
            None => return -1,
        }
        let Some(order) = received.order() else {
            received.close_all();
            continue;
        };
        let status = received.fds[3];
        let threads = threads();
        if threads != 1 {
            // A fork copies only one thread; locks that the others hold would stay locked for ever in the child.
            confine::tell(
                status,
                &Failure {
                    step: Step::Threads,
                    errno: threads as i32,
                },
            );
            received.close_all();
            continue;
        }
        // SAFETY: this thread holds the interpreter's lock.
        unsafe { python::PyOS_BeforeFork() };
        match fork_into(&order, &received) {
            Ok(Side::Child) => {
                let fds = &received.fds[..received.count];
                confine::child(&order, fds, received.filter());
                // SAFETY: as above; the child inherited the lock.
                unsafe { python::PyOS_AfterFork_Child() };
                return c_long::from(order.role);
            }
            Ok(Side::Zygote) => {
                // SAFETY: as above.
                unsafe { python::PyOS_AfterFork_Parent() };
            }
            Err(failure) => {
                // SAFETY: as above.
                unsafe { python::PyOS_AfterFork_Parent() };
                confine::tell(status, &failure);
            }
        }
        received.close_all();
    }
}

enum Side {
    Zygote,
    Child,
}

const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
const SIGCHLD: u64 = 17;
/// User, mount, pid, ipc, uts and network namespaces.
const NAMESPACES: u64 =
    0x1000_0000 | 0x2_0000 | 0x2000_0000 | 0x800_0000 | 0x400_0000 | 0x4000_0000;

/// What the go-between needs. It has no stack of its own, so it reads everything from here.
#[repr(C)]
struct Plan {
    keeper: u64,          // 0
    namespaces: u64,      // 8
    groups: *const c_int, // 16
    count: u64,           // 24
    flags: u64,           // 32
    thread: *mut c_int,   // 40
    errno: i64,           // 48
    step: u64,            // 56
    zero: u64,            // 64: the text "0"
}

/// Forks a child into the shell.
fn fork_into(order: &Order, received: &Received) -> Result<Side, Failure> {
    let (early, late) = (order.early as usize, order.late as usize);
    let groups = &received.fds[received.count - late - early..received.count - late];
    let thread = thread_number();
    let track = if thread.is_null() {
        0
    } else {
        CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID
    };
    let mut plan = Plan {
        keeper: received.fds[0] as u64,
        namespaces: NAMESPACES,
        groups: groups.as_ptr(),
        count: groups.len() as u64,
        flags: CLONE_PARENT | SIGCHLD | track,
        thread,
        errno: 0,
        step: 0,
        zero: 0x30,
    };
    let between = CLONE_VM | CLONE_VFORK | CLONE_PARENT | SIGCHLD;
    let result: i64;
    // SAFETY: the go-between runs on the zygote's stack while the zygote sleeps (CLONE_VFORK) and touches it nowhere: only
    // registers and `plan`. The child has a copy of all memory and leaves the block as a fork leaves its call.
    unsafe {
        asm!(
            "mov eax, 56", // clone
            "xor esi, esi",
            "xor edx, edx",
            "xor r10d, r10d",
            "xor r8d, r8d",
            "syscall",
            "test rax, rax",
            "jnz 9f", // the zygote again, or an error
            // The go-between. Step 1: enter the groups.
            "mov qword ptr [r12 + 56], 1",
            "xor r13d, r13d",
            "2:",
            "cmp r13, [r12 + 24]",
            "jae 3f",
            "mov r14, [r12 + 16]",
            "mov edi, [r14 + r13 * 4]",
            "lea rsi, [r12 + 64]",
            "mov edx, 1",
            "mov eax, 1", // write
            "syscall",
            "cmp rax, 1",
            "jne 5f",
            "inc r13",
            "jmp 2b",
            // Step 2: the shell's namespaces.
            "3:",
            "mov qword ptr [r12 + 56], 2",
            "mov rdi, [r12]",
            "mov rsi, [r12 + 8]",
            "mov eax, 308", // setns
            "syscall",
            "test rax, rax",
            "jnz 5f",
            // Step 3: the child.
            "mov qword ptr [r12 + 56], 3",
            "mov rdi, [r12 + 32]",
            "xor esi, esi",
            "xor edx, edx",
            "mov r10, [r12 + 40]",
            "xor r8d, r8d",
            "mov eax, 56", // clone
            "syscall",
            "test rax, rax",
            "jz 9f", // the child
            "js 5f",
            "xor edi, edi",
            "mov eax, 60", // exit
            "syscall",
            "5:",
            "mov [r12 + 48], rax",
            "mov edi, 1",
            "mov eax, 60", // exit
            "syscall",
            "9:",
            inlateout("rdi") between => _,
            in("r12") &raw mut plan,
            lateout("rax") result,
            out("rsi") _, out("rdx") _, out("r10") _, out("r8") _, out("r13") _, out("r14") _,
            out("rcx") _, out("r11") _,
        );
        let errno = (&raw const plan.errno).read_volatile();
        match (result, errno) {
            (0, _) => Ok(Side::Child),
            (..0, _) => Err(Failure {
                step: Step::Fork,
                errno: -result as i32,
            }),
            (_, 0) => Ok(Side::Zygote),
            // A short write to a group is no error.
            (_, errno) => {
                let step = match (&raw const plan.step).read_volatile() {
                    1 => Step::EnterGroup,
                    2 => Step::JoinShell,
                    _ => Step::ForkInside,
                };
                Err(Failure {
                    step,
                    errno: -errno as i32,
                })
            }
        }
    }
}

/// The address at which the C library keeps this thread's number, where the kernel must write the child's number.
///
/// Null if the address isn't known: some C libraries keep something else at the address that they gave the kernel.
fn thread_number() -> *mut c_int {
    let mut at: *mut c_int = null_mut();
    let known = prctl(PR_GET_TID_ADDRESS, &raw mut at as usize, 0, 0) == 0 && !at.is_null();
    // SAFETY: the kernel was given this address by the C library, for an integer it owns.
    if known && unsafe { at.read_volatile() } == gettid() {
        at
    } else {
        null_mut()
    }
}

/// Receives the next order; `Some(false)` if the message is no order, `None` at the end of the channel.
fn receive(channel: c_int, into: &mut Received) -> Option<bool> {
    #[repr(C)]
    struct Control {
        header: ControlHeader,
        fds: [c_int; DESCRIPTORS],
    }
    // SAFETY: plain integers, for which zeroes are valid.
    let mut control: Control = unsafe { core::mem::zeroed() };
    let mut part = Part {
        base: into.bytes.as_mut_ptr().cast(),
        length: MESSAGE,
    };
    let mut message = Message {
        name: null_mut(),
        name_length: 0,
        parts: &raw mut part,
        count: 1,
        control: (&raw mut control).cast(),
        control_length: size_of::<Control>(),
        flags: 0,
    };
    let got = recvmsg(channel, &mut message);
    if got == -EINTR {
        return Some(false);
    }
    if got <= 0 {
        return None;
    }
    into.length = got as usize;
    into.count = 0;
    if message.control_length >= size_of::<ControlHeader>() && control.header.kind == SCM_RIGHTS {
        into.count = ((control.header.length - size_of::<ControlHeader>()) / 4).min(DESCRIPTORS);
        into.fds = control.fds;
    }
    Some(into.length >= size_of::<Order>())
}

/// How many threads this process has; 0 if that can't be read.
fn threads() -> u64 {
    links(c"/proc/self/task".as_ptr()).map_or(0, |links| links.saturating_sub(2))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(101)
}

/// The core library's tables refer to this symbol, but it is never called, since a panic ends the process.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
