//! Compiles an allow-list to a BPF program: a binary search over sorted ranges of call numbers.

use libc::{c_long, sock_filter};
use std::collections::BTreeMap;

/// A compiled filter.
#[derive(Clone)]
pub struct Program(pub(super) Vec<sock_filter>);

impl Program {
    /// Its instructions as the kernel reads them, eight bytes each.
    pub fn bytes(&self) -> Vec<u8> {
        let instruction = |i: &sock_filter| {
            let [a, b] = i.code.to_ne_bytes();
            let [c, d, e, f] = i.k.to_ne_bytes();
            [a, b, i.jt, i.jf, c, d, e, f]
        };
        self.0.iter().flat_map(instruction).collect()
    }
}

/// What a filter allows; all other calls return `ENOSYS`.
pub(super) struct AllowList {
    /// Calls allowed whatever their arguments.
    pub always: &'static [&'static [c_long]],
    /// Calls that are not carried out and return success.
    pub needless: &'static [c_long],
    /// Calls that are allowed depending on an argument.
    pub by_argument: &'static [&'static [(c_long, Argument)]],
}

/// A test of one argument.
///
/// It reads only the low 32 bits: flags, families and commands fit in these, and the kernel truncates them in the same way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    /// None of these bits is set.
    NoBits {
        index: u32,
        bits: u32,
        refusal: Refusal,
    },
    /// The argument is one of these.
    OneOf { index: u32, values: &'static [u32] },
    /// The argument is none of these.
    NoneOf {
        index: u32,
        values: &'static [u32],
        refusal: Refusal,
    },
    /// socket(2): families UNIX, INET, INET6; NETLINK only for the routing protocol (glibc lists addresses with it).
    Socket,
}

/// What a call returns that is refused because of its argument.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// EPERM.
    Forbidden,
    /// EOPNOTSUPP, which a file system returns for a flag that it doesn't know.
    Unsupported,
    /// Success, since nothing has to be done.
    Needless,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Needless,
    Refuse,
    Ask(Argument),
}

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// From this number on, calls are x32 calls.
const X32: u32 = 0x4000_0000;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const IF_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K

const NUMBER_AT: u32 = 0; // seccomp_data.nr
const ARCH_AT: u32 = 4; // seccomp_data.arch

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
const NOT_PERMITTED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();

const NOT_SUPPORTED: u32 = libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP.cast_unsigned();
/// No error: the call returns 0.
const DONE: u32 = libc::SECCOMP_RET_ERRNO;

impl Refusal {
    const fn verdict(self) -> u32 {
        match self {
            Self::Forbidden => NOT_PERMITTED,
            Self::Unsupported => NOT_SUPPORTED,
            Self::Needless => DONE,
        }
    }
}

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Where the low half of argument `index` lies in seccomp_data (little-endian).
const fn argument_at(index: u32) -> u32 {
    16 + 8 * index
}

/// What becomes of each call number; a number that isn't here is refused.
fn verdicts(list: &AllowList) -> BTreeMap<u32, Verdict> {
    let always = list.always.iter().flat_map(|calls| calls.iter());
    let always = always.map(|number| (*number, Verdict::Allow));
    let needless = list.needless.iter();
    let needless = needless.map(|number| (*number, Verdict::Needless));
    let asked = list.by_argument.iter().flat_map(|calls| calls.iter());
    let asked = asked.map(|(number, argument)| (*number, Verdict::Ask(*argument)));
    let all = always.chain(needless).chain(asked);
    all.map(|(number, verdict)| (call_number(number), verdict))
        .collect()
}

/// The filter that allows what is in `list`.
pub(super) fn compile(list: &AllowList) -> Program {
    program(&verdicts(list), Verdict::Refuse)
}

/// The filter that restricts a process to `list` on which the filter of `installed` is already installed.
///
/// The kernel asks all filters of a process and takes the strictest answer. Thus this filter only says what is different, which makes
/// it short: the time to install a filter grows with its length.
pub(super) fn compile_on_top_of(installed: &AllowList, list: &AllowList) -> Program {
    let (before, wanted) = (verdicts(installed), verdicts(list));
    let verdict = |of: &BTreeMap<u32, Verdict>, number: &u32| {
        of.get(number).copied().unwrap_or(Verdict::Refuse)
    };
    let different = before.keys().chain(wanted.keys()).filter_map(|number| {
        let wanted = verdict(&wanted, number);
        (wanted != verdict(&before, number)).then_some((*number, wanted))
    });
    program(&different.collect(), Verdict::Allow)
}

/// The filter that answers the call numbers in `verdicts` as they say, and all others with `otherwise`.
fn program(verdicts: &BTreeMap<u32, Verdict>, otherwise: Verdict) -> Program {
    // Each range begins at its key and lasts to the next one.
    let mut ranges: Vec<(u32, Verdict)> = vec![(0, verdicts.get(&0).copied().unwrap_or(otherwise))];
    let mut add = |from: u32, verdict: Verdict| {
        if ranges.last().is_some_and(|(_, last)| *last != verdict) {
            ranges.push((from, verdict));
        }
    };
    for (number, verdict) in verdicts {
        add(*number, *verdict);
        if !verdicts.contains_key(&(number + 1)) {
            add(number + 1, otherwise);
        }
    }
    let mut program = vec![
        op(LOAD, 0, 0, ARCH_AT),
        op(IF_EQUAL, 1, 0, AUDIT_ARCH_X86_64),
        op(RETURN, 0, 0, KILL),
        op(LOAD, 0, 0, NUMBER_AT),
        op(IF_AT_LEAST, 0, 1, X32),
        op(RETURN, 0, 0, KILL),
    ];
    program.extend(search(&ranges));
    Program(program)
}

fn call_number(number: c_long) -> u32 {
    u32::try_from(number).expect("call numbers are small and not negative")
}

/// A binary search over `ranges`: a comparison for each bound between two of them, then the code of each verdict, once.
fn search(ranges: &[(u32, Verdict)]) -> Vec<sock_filter> {
    let mut code = Vec::new();
    let mut jumps = Vec::new();
    compare(ranges, &mut code, &mut jumps);
    let mut places: Vec<(Verdict, usize)> = Vec::new();
    for (_, _, verdict) in &jumps {
        if places.iter().all(|(placed, _)| placed != verdict) {
            places.push((*verdict, code.len()));
            code.extend(judge(*verdict));
        }
    }
    for (at, branch, verdict) in jumps {
        let (_, place) = places
            .iter()
            .find(|(placed, _)| *placed == verdict)
            .expect("placed above");
        let over = distance(place - at - 1);
        match branch {
            Branch::High => code[at].jt = over,
            Branch::Low => code[at].jf = over,
        }
    }
    code
}

/// The outcomes of a comparison with a bound: at least, or below.
#[derive(Clone, Copy)]
enum Branch {
    High,
    Low,
}

/// Appends the comparisons for `ranges` to `code`. `jumps` gets those that decide: at which place, on which outcome, for which verdict.
fn compare(
    ranges: &[(u32, Verdict)],
    code: &mut Vec<sock_filter>,
    jumps: &mut Vec<(usize, Branch, Verdict)>,
) {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let at = code.len();
    code.push(op(IF_AT_LEAST, 0, 0, high[0].0));
    match low {
        [] => {}
        [(_, verdict)] => jumps.push((at, Branch::Low, *verdict)),
        more => compare(more, code, jumps),
    }
    code[at].jt = distance(code.len() - at - 1);
    match high {
        [(_, verdict)] => jumps.push((at, Branch::High, *verdict)),
        more => compare(more, code, jumps),
    }
}

fn distance(instructions: usize) -> u8 {
    u8::try_from(instructions).expect("a jump reaches 255 instructions: make the list shorter, or repeat the verdicts' code in it")
}

fn judge(verdict: Verdict) -> Vec<sock_filter> {
    match verdict {
        Verdict::Allow => vec![op(RETURN, 0, 0, ALLOW)],
        Verdict::Refuse => vec![op(RETURN, 0, 0, NO_SUCH_CALL)],
        Verdict::Needless => vec![op(RETURN, 0, 0, DONE)],
        Verdict::Ask(Argument::NoBits {
            index,
            bits,
            refusal,
        }) => vec![
            op(LOAD, 0, 0, argument_at(index)),
            op(IF_ANY_BIT, 0, 1, bits),
            op(RETURN, 0, 0, refusal.verdict()),
            op(RETURN, 0, 0, ALLOW),
        ],
        Verdict::Ask(Argument::OneOf { index, values }) => {
            one_of(index, values, ALLOW, NOT_PERMITTED)
        }
        Verdict::Ask(Argument::NoneOf {
            index,
            values,
            refusal,
        }) => one_of(index, values, refusal.verdict(), ALLOW),
        Verdict::Ask(Argument::Socket) => {
            let family = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6].map(i32::cast_unsigned);
            vec![
                op(LOAD, 0, 0, argument_at(0)),
                op(IF_EQUAL, 5, 0, family[0]),
                op(IF_EQUAL, 4, 0, family[1]),
                op(IF_EQUAL, 3, 0, family[2]),
                op(IF_EQUAL, 0, 3, libc::AF_NETLINK.cast_unsigned()),
                op(LOAD, 0, 0, argument_at(2)),
                op(IF_EQUAL, 0, 1, libc::NETLINK_ROUTE.cast_unsigned()),
                op(RETURN, 0, 0, ALLOW),
                op(RETURN, 0, 0, NOT_PERMITTED),
            ]
        }
    }
}

/// Loads argument `index`; returns `found` when it is one of `values`, else `other`.
fn one_of(index: u32, values: &[u32], found: u32, other: u32) -> Vec<sock_filter> {
    let mut code = vec![op(LOAD, 0, 0, argument_at(index))];
    for value in values {
        code.extend([op(IF_EQUAL, 0, 1, *value), op(RETURN, 0, 0, found)]);
    }
    code.push(op(RETURN, 0, 0, other));
    code
}

#[cfg(test)]
mod tests {
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
}
