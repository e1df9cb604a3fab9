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
mod tests;
