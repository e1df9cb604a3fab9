//! Runs filters as the kernel would.

use super::super::{allowed, forked_leaf, leaf};
use super::*;

/// Runs `program` as the kernel would, for one call.
fn run(program: &Program, arch: u32, number: u32, arguments: [u32; 6]) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let i = program.0[at];
        let hit = match i.code {
            RETURN => return i.k,
            LOAD => {
                accumulator = match i.k {
                    NUMBER_AT => number,
                    ARCH_AT => arch,
                    k => arguments[((k - 16) / 8) as usize],
                };
                at += 1;
                continue;
            }
            IF_EQUAL => accumulator == i.k,
            IF_AT_LEAST => accumulator >= i.k,
            IF_ANY_BIT => accumulator & i.k != 0,
            code => panic!("unknown instruction {code}"),
        };
        at += 1 + usize::from(if hit { i.jt } else { i.jf });
    }
}

fn call(number: c_long, arguments: [u32; 3]) -> u32 {
    let [a, b, c] = arguments;
    call_of_six(number, [a, b, c, 0, 0, 0])
}

fn call_of_six(number: c_long, arguments: [u32; 6]) -> u32 {
    run(&leaf(), AUDIT_ARCH_X86_64, call_number(number), arguments)
}

#[test]
fn every_number_gets_the_verdict_of_the_list() {
    let program = leaf();
    let always: Vec<u32> = allowed::LEAF
        .always
        .iter()
        .flat_map(|c| c.iter())
        .map(|n| call_number(*n))
        .collect();
    let needless: Vec<u32> = allowed::LEAF
        .needless
        .iter()
        .map(|n| call_number(*n))
        .collect();
    let asked: Vec<u32> = allowed::LEAF
        .by_argument
        .iter()
        .flat_map(|calls| calls.iter())
        .map(|(n, _)| call_number(*n))
        .collect();
    for number in 0..1024 {
        let verdict = run(&program, AUDIT_ARCH_X86_64, number, [0; 6]);
        if always.contains(&number) {
            assert_eq!(verdict, ALLOW, "call {number}");
        } else if needless.contains(&number) {
            assert_eq!(verdict, DONE, "call {number}");
        } else if !asked.contains(&number) {
            assert_eq!(verdict, NO_SUCH_CALL, "call {number}");
        }
    }
}

#[test]
fn a_zygote_joins_namespaces_and_a_leaf_does_not() {
    let zygote = super::super::zygote();
    let ask = |program: &Program, number, [a, b, c]: [u32; 3]| {
        let arguments = [a, b, c, 0, 0, 0];
        run(program, AUDIT_ARCH_X86_64, call_number(number), arguments)
    };
    let cgroup = libc::CLONE_NEWCGROUP.cast_unsigned();
    let user = libc::CLONE_NEWUSER.cast_unsigned();
    assert_eq!(ask(&zygote, libc::SYS_setns, [3, user, 0]), ALLOW);
    assert_eq!(ask(&zygote, libc::SYS_unshare, [cgroup, 0, 0]), ALLOW);
    assert_eq!(ask(&zygote, libc::SYS_unshare, [user, 0, 0]), NOT_PERMITTED);
    assert_eq!(ask(&zygote, libc::SYS_mount, [0; 3]), NO_SUCH_CALL);
    for number in [libc::SYS_setns, libc::SYS_unshare] {
        assert_eq!(ask(&leaf(), number, [cgroup, cgroup, 0]), NO_SUCH_CALL);
    }
}

#[test]
fn foreign_architectures_are_killed() {
    assert_eq!(run(&leaf(), 0x4000_0003, 20, [0; 6]), KILL, "i386 getpid");
    assert_eq!(
        run(&leaf(), AUDIT_ARCH_X86_64, X32 + 39, [0; 6]),
        KILL,
        "x32 getpid"
    );
}

#[test]
fn arguments_decide() {
    let thread = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND).cast_unsigned();
    assert_eq!(call(libc::SYS_clone, [thread, 0, 0]), ALLOW);
    assert_eq!(
        call(libc::SYS_clone, [libc::CLONE_NEWUSER.cast_unsigned(), 0, 0]),
        NOT_PERMITTED
    );
    for (family, verdict) in [
        (1, ALLOW),
        (2, ALLOW),
        (10, ALLOW),
        (17, NOT_PERMITTED),
        (38, NOT_PERMITTED),
        (40, NOT_PERMITTED),
    ] {
        assert_eq!(
            call(libc::SYS_socket, [family, 1, 0]),
            verdict,
            "family {family}"
        );
    }
    assert_eq!(call(libc::SYS_socket, [16, 3, 0]), ALLOW, "netlink route");
    assert_eq!(
        call(libc::SYS_socket, [16, 3, 12]),
        NOT_PERMITTED,
        "netlink netfilter"
    );
    assert_eq!(
        call(libc::SYS_ioctl, [0, 0x5412, 0]),
        NOT_PERMITTED,
        "TIOCSTI"
    );
    assert_eq!(call(libc::SYS_ioctl, [0, 0x5401, 0]), ALLOW, "TCGETS");
    assert_eq!(call(libc::SYS_clone3, [0; 3]), NO_SUCH_CALL);
}

#[test]
fn what_reaches_other_tenants_is_refused_in_words_that_programs_expect() {
    let read = |flags| call_of_six(libc::SYS_preadv2, [3, 0, 1, 0, 0, flags]);
    assert_eq!(read(0), ALLOW);
    assert_eq!(read(1), ALLOW, "HIPRI");
    for flags in [0x08, 0x80, 0x09, 0x100, 1 << 31] {
        assert_eq!(read(flags), NOT_SUPPORTED, "{flags:#x}");
    }
    let fcntl = |command: i32| call(libc::SYS_fcntl, [3, command.cast_unsigned(), 0]);
    assert_eq!(fcntl(libc::F_NOTIFY), NOT_PERMITTED);
    assert_eq!(fcntl(libc::F_GETFL), ALLOW);
    assert_eq!(fcntl(libc::F_SETLK), ALLOW);
    let advise = |advice| call_of_six(libc::SYS_fadvise64, [3, 0, 0, advice, 0, 0]);
    assert_eq!((advise(3), advise(4)), (ALLOW, DONE), "WILLNEED, DONTNEED");
    let madvise = |advice| call(libc::SYS_madvise, [0, 0, advice]);
    assert_eq!((madvise(4), madvise(14)), (ALLOW, ALLOW));
    assert_eq!([12, 20, 21].map(madvise), [DONE; 3]);
    let map = |flags| call_of_six(libc::SYS_mmap, [0, 0, 3, flags, 0, 0]);
    assert_eq!((map(0x22), map(0x4_0022)), (ALLOW, NOT_PERMITTED));
    assert_eq!(call(libc::SYS_memfd_create, [0, 4, 0]), NOT_PERMITTED);
    assert_eq!(call(libc::SYS_shmget, [0, 0, 0o4000]), NOT_PERMITTED);
    assert_eq!(call(libc::SYS_mincore, [0; 3]), NO_SUCH_CALL);
    assert_eq!(call(libc::SYS_fsync, [3, 0, 0]), DONE);
}

/// The answer of two filters: the stricter one, or of two errors that of the filter that was installed last (seccomp(2)).
fn stricter(last: u32, first: u32) -> u32 {
    let rank = |answer| match answer {
        ALLOW => 2,
        KILL => 0,
        _ => 1,
    };
    if rank(last) <= rank(first) {
        last
    } else {
        first
    }
}

#[test]
fn a_forked_leaf_may_do_what_any_leaf_may() {
    let (leaf, zygote, forked) = (leaf(), super::super::zygote(), forked_leaf());
    let bits = (0..32).map(|bit| 1 << bit);
    let few: Vec<u32> = (0..64).chain(bits).chain([u32::MAX, 0x5412]).collect();
    for arch in [AUDIT_ARCH_X86_64, 0x4000_0003] {
        for number in (0..1024).chain([X32, X32 + 39]) {
            for value in &few {
                for index in 0..6 {
                    let mut arguments = [0; 6];
                    arguments[index] = *value;
                    let ask = |program| run(program, arch, number, arguments);
                    let both = stricter(ask(&forked), ask(&zygote));
                    assert_eq!(both, ask(&leaf), "call {number} with {arguments:?}");
                }
            }
        }
    }
}

#[test]
fn they_stay_short() {
    let long = |program: Program| program.0.len();
    let lengths = [
        long(leaf()),
        long(super::super::zygote()),
        long(forked_leaf()),
    ];
    assert!(
        lengths[0] < 180 && lengths[1] < 190 && lengths[2] < 20,
        "{lengths:?}"
    );
}
