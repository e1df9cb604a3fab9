//! The steps that a forked child takes before its first line of Python.
//!
//! They are the same, in the same order, as those of a leaf that the warden starts anew (`ol-warden`'s `leaf.rs`). If a step fails,
//! the child reports it on the status socket and ends.

use super::{LEAF, Order};
use crate::call::*;
use core::arch::asm;
use core::ffi::{c_char, c_int, c_void};

/// The step that failed. The warden knows the numbers (`fork_order.rs`).
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Step {
    Threads = 1,
    Fork,
    EnterGroup,
    JoinShell,
    ForkInside,
    CgroupNamespace,
    User,
    Session,
    Limits,
    Handler,
    Descriptors,
    Capabilities,
    Landlock,
    Seccomp,
}

pub struct Failure {
    pub step: Step,
    pub errno: i32,
}

/// Tells the warden of a failure: the step's number, then the error's.
pub fn tell(status: c_int, failure: &Failure) {
    let [a, b, c, d] = failure.errno.to_le_bytes();
    send(status, &[failure.step as u8, a, b, c, d]);
}

/// Confines this process, a child that was just forked; ends it if that fails.
pub fn child(order: &Order, fds: &[c_int], filter: *const c_void) {
    let status = fds[3];
    let done = steps(order, fds, filter);
    match done {
        // Reported only once the process is confined. The kernel adds the sender's process number.
        Ok(status) => {
            send(status, &[0]);
            close(status);
        }
        Err(failure) => {
            tell(failure.0.unwrap_or(status), &failure.1);
            exit(127);
        }
    }
    register_rseq();
}

type Fallible = Result<c_int, (Option<c_int>, Failure)>;

fn steps(order: &Order, fds: &[c_int], filter: *const c_void) -> Fallible {
    let check = |result: isize, step: Step| {
        if result < 0 {
            Err((
                None,
                Failure {
                    step,
                    errno: -result as i32,
                },
            ))
        } else {
            Ok(result)
        }
    };
    for group in &fds[fds.len() - order.late as usize..] {
        check(write(*group, b"0"), Step::EnterGroup)?;
    }
    check(call(272, 0x200_0000, 0, 0, 0, 0), Step::CgroupNamespace)?; // unshare(CLONE_NEWCGROUP)
    // Capabilities survive the change of uid until they are given up below.
    const NO_SETUID_FIXUP: usize = 1 << 2;
    check(prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0), Step::User)?;
    let uid = order.uid as usize;
    check(call(116, 0, 0, 0, 0, 0), Step::User)?; // setgroups
    check(call(119, uid, uid, uid, 0, 0), Step::User)?; // setresgid
    check(call(117, uid, uid, uid, 0, 0), Step::User)?; // setresuid
    check(call(112, 0, 0, 0, 0, 0), Step::Session)?; // setsid
    // Files open, core file, length of a file, pending signals, bytes of message queues.
    for (resource, soft, hard) in [
        (7, order.files_soft, order.files_hard),
        (4, 0, 0),
        (1, order.largest_file, order.largest_file),
        (11, order.pending_signals, order.pending_signals),
        (12, order.message_queues, order.message_queues),
    ] {
        let limit = [soft, hard];
        check(
            call(160, resource, limit.as_ptr() as usize, 0, 0, 0),
            Step::Limits,
        )?; // setrlimit
    }
    call(95, 0o077, 0, 0, 0, 0); // umask
    check(
        call(80, c"/handler".as_ptr() as usize, 0, 0, 0, 0),
        Step::Handler,
    )?; // chdir
    let status = descriptors(order, fds).map_err(|errno| {
        (
            None,
            Failure {
                step: Step::Descriptors,
                errno,
            },
        )
    })?;
    let check = |result: isize, step: Step| {
        if result < 0 {
            Err((
                Some(status),
                Failure {
                    step,
                    errno: -result as i32,
                },
            ))
        } else {
            Ok(result)
        }
    };
    renounce(&check)?;
    if order.role == LEAF {
        landlock(order, &check)?;
        if order.filter > 0 {
            let program = Program {
                length: order.filter as u16,
                filter,
            };
            check(
                call(317, 1, 0, &raw const program as usize, 0, 0),
                Step::Seccomp,
            )?; // seccomp(SET_MODE_FILTER)
        }
    }
    Ok(status)
}

#[repr(C)]
struct Program {
    length: u16,
    filter: *const c_void,
}

/// Renumbers the descriptors, closes all others, and returns the new number of the status socket.
///
/// 0 becomes `/dev/null`, 1 and 2 the log, 3 the guest socket, 4 a zygote's channel; the status socket comes after them. `/dev/null`
/// is opened anew, since whatever is set on an open file description is seen by all who share it.
fn descriptors(order: &Order, fds: &[c_int]) -> Result<c_int, i32> {
    let &[_, guest, log, status, ref rest @ ..] = fds else {
        return Err(22);
    };
    const ABOVE: usize = 16;
    // First duplicate the descriptors to numbers above those that will be overwritten.
    let lift = |fd: c_int| match call(72, fd as usize, 1030, ABOVE, 0, 0) {
        // fcntl(F_DUPFD_CLOEXEC)
        errno @ ..0 => Err(-errno as i32),
        new => Ok(new as usize),
    };
    let place = |from: usize, to: usize, flags: usize| match call(292, from, to, flags, 0, 0) {
        // dup3
        errno @ ..0 => Err(-errno as i32),
        _ => Ok(()),
    };
    const CLOEXEC: usize = 0o2_000_000;
    let (guest, log, status) = (lift(guest)?, lift(log)?, lift(status)?);
    const READ_WRITE: usize = 2;
    let null = match call(2, c"/dev/null".as_ptr() as usize, READ_WRITE, 0, 0, 0) {
        // open
        errno @ ..0 => return Err(-errno as i32),
        new => new as usize,
    };
    place(null, 0, 0)?;
    close(null as c_int);
    let mut next = 4;
    if order.role != LEAF {
        let channel = lift(rest[0])?;
        place(channel, next, CLOEXEC)?;
        next += 1;
    }
    place(log, 1, 0)?;
    place(log, 2, 0)?;
    place(guest, 3, CLOEXEC)?; // as `guest.py` makes it where Python starts anew: a program that is started doesn't get it
    place(status, next, CLOEXEC)?;
    match call(436, next + 1, u32::MAX as usize, 0, 0, 0) {
        // close_range
        errno @ ..0 => Err(-errno as i32),
        _ => Ok(next as c_int),
    }
}

const PR_SET_DUMPABLE: c_int = 4;
const PR_CAPBSET_DROP: c_int = 24;
const PR_SET_SECUREBITS: c_int = 28;
const PR_SET_NO_NEW_PRIVS: c_int = 38;
const PR_CAP_AMBIENT: c_int = 47;
const EINVAL: isize = 22;

/// Gives up every capability and every way to get one, as `ol-sys`'s `privilege::renounce` does.
fn renounce<E>(check: &impl Fn(isize, Step) -> Result<isize, E>) -> Result<(), E> {
    for capability in 0..64 {
        match prctl(PR_CAPBSET_DROP, capability, 0, 0) {
            errno if errno == -EINVAL => break,
            result => check(result, Step::Capabilities)?,
        };
    }
    check(prctl(PR_CAP_AMBIENT, 4, 0, 0), Step::Capabilities)?; // clear all
    // NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, each locked, and KEEP_CAPS locked as it is: off.
    const SECUREBITS: usize = 0b11 | 0b11 << 2 | 1 << 5 | 0b11 << 6;
    check(
        prctl(PR_SET_SECUREBITS, SECUREBITS, 0, 0),
        Step::Capabilities,
    )?;
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0), Step::Capabilities)?;
    let header = [0x2008_0522_u32, 0];
    let none = [0_u32; 6];
    check(
        call(
            126,
            header.as_ptr() as usize,
            none.as_ptr() as usize,
            0,
            0,
            0,
        ),
        Step::Capabilities,
    )?; // capset
    // Joining a user namespace made the process not dumpable, which took away its access to its own /proc files.
    check(prctl(PR_SET_DUMPABLE, 1, 0, 0), Step::Capabilities)?;
    Ok(())
}

/// Allows reading and executing anywhere, writing only beneath the sandbox's own directories, as `ol-sys`'s `confine::leaf` does.
fn landlock<E>(order: &Order, check: &impl Fn(isize, Step) -> Result<isize, E>) -> Result<(), E> {
    if order.handled == 0 {
        return Ok(()); // the kernel has none
    }
    let attributes = [order.handled, 0, order.scoped];
    // A kernel that knows no scopes has no field for them in this structure.
    let size = if order.scoped == 0 { 8 } else { 24 };
    let ruleset = check(
        call(444, attributes.as_ptr() as usize, size, 0, 0, 0),
        Step::Landlock,
    )?;
    let beneath = |path: *const c_char, access: u64| {
        const PATH_CLOEXEC: usize = 0o10_000_000 | 0o2_000_000;
        let fd = call(2, path as usize, PATH_CLOEXEC, 0, 0, 0); // open
        if fd < 0 {
            return 0; // what isn't there needs no rule
        }
        let rule = Rule {
            access,
            fd: fd as c_int,
        };
        let done = call(445, ruleset as usize, 1, &raw const rule as usize, 0, 0);
        close(fd as c_int);
        done
    };
    check(beneath(c"/".as_ptr(), order.reading), Step::Landlock)?;
    for path in [c"/host", c"/tmp", c"/dev/shm"] {
        check(beneath(path.as_ptr(), order.handled), Step::Landlock)?;
    }
    check(
        beneath(c"/dev/null".as_ptr(), order.handled & order.of_a_file),
        Step::Landlock,
    )?;
    check(call(446, ruleset as usize, 0, 0, 0, 0), Step::Landlock)?;
    close(ruleset as c_int);
    Ok(())
}

#[repr(C, packed)]
struct Rule {
    access: u64,
    fd: c_int,
}

/// Registers the C library's restartable sequences (rseq) with the kernel again.
///
/// The kernel dropped the registration because the go-between shared the zygote's memory. Without it, a newer glibc would report the
/// number of a CPU on which this process once ran.
fn register_rseq() {
    let offset: *const isize;
    // SAFETY: this reads the address of a weak symbol, null where the C library has none.
    unsafe {
        asm!(
            ".weak __rseq_offset",
            "mov {}, qword ptr [rip + __rseq_offset@GOTPCREL]",
            out(reg) offset,
            options(nostack, preserves_flags),
        );
    }
    if offset.is_null() {
        return;
    }
    let thread: *mut u8;
    // SAFETY: on x86_64 the thread control block begins with its own address; the C library keeps the area at the offset from it.
    unsafe {
        asm!("mov {}, fs:0", out(reg) thread, options(nostack, readonly, preserves_flags));
        let area = thread.offset(*offset);
        const SIGNATURE: usize = 0x5305_3053;
        if call(334, area as usize, 32, 0, SIGNATURE, 0) < 0 {
            // The CPU number -1 means "not registered"; the library then asks the kernel for the number.
            area.add(4).cast::<i32>().write_volatile(-1);
        }
    }
}
