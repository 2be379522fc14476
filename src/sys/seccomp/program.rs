//! Programs for seccomp(2): classic BPF, made of a table of what becomes of each system call.
//!
//! Call numbers are searched by halves. The kernel runs a new program once for every number of every
//! architecture, to note which are allowed whatever their arguments and need no check ever again
//! (seccomp_cache_prepare() in kernel/seccomp.c); a list compared from its top makes that the dearest part of
//! each start and each attached command.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use libc::sock_filter;

/// What becomes of a system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow,
    /// It fails with this errno.
    Refuse(i32),
    /// The process is killed.
    Kill,
    Depends(Box<ArgumentChoice>),
}

/// A choice by one argument, of which the kernel takes the low half (an `int`) in all calls that are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArgumentChoice {
    /// 0 to 5.
    pub argument: u8,
    /// The bits of it that are compared.
    pub mask: u32,
    /// The first case that has the value is taken. Each has 1 to 255.
    pub cases: Vec<(Vec<u32>, Verdict)>,
    pub otherwise: Verdict,
}

/// The system calls of one architecture.
#[derive(Debug, Clone)]
pub(crate) struct Architecture {
    /// AUDIT_ARCH_* of linux/audit.h.
    pub audit_arch: u32,
    /// Numbers that are allowed unless `calls` says something else.
    pub known: Vec<RangeInclusive<u32>>,
    pub calls: BTreeMap<u32, Verdict>,
    /// What becomes of all other numbers.
    pub unknown: Verdict,
}

/// A program that the kernel takes.
#[derive(Debug, Clone)]
pub(crate) struct BpfProgram(Vec<sock_filter>);

// Offsets in struct seccomp_data (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
const _: () = assert!(cfg!(target_endian = "little"), "the low half of an argument is its first four bytes");

pub(super) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(super) const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub(super) const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(super) const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(super) const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

impl BpfProgram {
    /// What `architectures` say; `foreign` becomes of the calls of all others.
    pub(crate) fn new(architectures: &[Architecture], foreign: &Verdict) -> Self {
        let mut code = vec![op(LOAD, ARCHITECTURE)];
        for architecture in architectures {
            let mut body = vec![op(LOAD, NUMBER)];
            body.extend(search(&architecture.ranges()));
            code.extend(if_any_of(&[architecture.audit_arch], body));
        }
        code.extend(foreign.code());
        BpfProgram(code)
    }

    pub(crate) fn instructions(&self) -> &[sock_filter] {
        &self.0
    }
}

impl Architecture {
    /// All numbers in order: the first of each range, and what becomes of the range.
    fn ranges(&self) -> Vec<(u32, &Verdict)> {
        let mut starts = BTreeSet::from([0]);
        let mut range = |first: u32, last: u32| starts.extend([Some(first), last.checked_add(1)].into_iter().flatten());
        self.known.iter().for_each(|known| range(*known.start(), *known.end()));
        self.calls.keys().for_each(|number| range(*number, *number));
        let mut ranges: Vec<_> = starts.into_iter().map(|start| (start, self.of(start))).collect();
        ranges.dedup_by(|later, earlier| later.1 == earlier.1);
        ranges
    }

    fn of(&self, number: u32) -> &Verdict {
        let by_default = match self.known.iter().any(|known| known.contains(&number)) {
            true => &Verdict::Allow,
            false => &self.unknown,
        };
        self.calls.get(&number).unwrap_or(by_default)
    }
}

impl Verdict {
    /// Instructions of which none is followed by what comes behind them: all ways end in a return.
    fn code(&self) -> Vec<sock_filter> {
        match self {
            Verdict::Allow => vec![op(RETURN, libc::SECCOMP_RET_ALLOW)],
            Verdict::Refuse(errno) => vec![op(RETURN, libc::SECCOMP_RET_ERRNO | *errno as u32)],
            Verdict::Kill => vec![op(RETURN, libc::SECCOMP_RET_KILL_PROCESS)],
            Verdict::Depends(choice) => choice.code(),
        }
    }
}

impl ArgumentChoice {
    fn code(&self) -> Vec<sock_filter> {
        let mut code = vec![op(LOAD, ARGUMENTS + 8 * u32::from(self.argument))];
        if self.mask != u32::MAX {
            code.push(op(AND, self.mask));
        }
        for (values, verdict) in &self.cases {
            code.extend(if_any_of(values, verdict.code()));
        }
        code.extend(self.otherwise.code());
        code
    }
}

/// Finds the range of the number that is loaded.
fn search(ranges: &[(u32, &Verdict)]) -> Vec<sock_filter> {
    if let [(_, verdict)] = ranges {
        return verdict.code();
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (first, low) = (high[0].0, search(low));
    let mut code = match u8::try_from(low.len()) {
        Ok(length) => vec![branch(IF_AT_LEAST, first, length, 0)],
        // A conditional jump reaches 255 instructions, the unconditional one any distance.
        Err(_) => vec![branch(IF_AT_LEAST, first, 0, 1), op(JUMP, low.len() as u32)],
    };
    code.extend(low);
    code.extend(search(high));
    code
}

/// Runs `body` if what is loaded is one of `values`, and continues after it if not.
fn if_any_of(values: &[u32], body: Vec<sock_filter>) -> Vec<sock_filter> {
    let near = u8::try_from(body.len()).ok();
    let mut code = Vec::new();
    for (left, value) in (0..values.len()).rev().zip(values) {
        let to_body = u8::try_from(left + usize::from(near.is_none())).expect("a case has at most 255 values");
        let past_body = near.filter(|_| left == 0).unwrap_or(0);
        code.push(branch(IF_EQUAL, *value, to_body, past_body));
    }
    if near.is_none() {
        code.push(op(JUMP, body.len() as u32));
    }
    code.extend(body);
    code
}

fn op(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::super::simulate::{Call, run};
    use super::*;

    fn refuse(errno: i32) -> Verdict {
        Verdict::Refuse(errno)
    }

    fn program(calls: impl IntoIterator<Item = (u32, Verdict)>) -> BpfProgram {
        let calls = calls.into_iter().collect();
        let known = vec![0..=300, 1000..=1001];
        BpfProgram::new(&[Architecture { audit_arch: 7, known, calls, unknown: refuse(38) }], &Verdict::Kill)
    }

    fn call(number: u32, arguments: [u64; 6]) -> Call {
        Call { architecture: 7, number, arguments }
    }

    #[test]
    fn every_number_gets_what_the_table_says() {
        // Neighbours, both ends, and enough of them that jumps over them are long ones.
        let calls: Vec<u32> = [0, 1, 300, 301, 999, 1001, u32::MAX].into_iter().chain((10..290).step_by(2)).collect();
        let program = program(calls.iter().map(|number| (*number, refuse(1))));
        assert!(program.instructions().len() > 2 * usize::from(u8::MAX));
        for number in (0..1100).chain([u32::MAX - 1, u32::MAX]) {
            let expected = match number {
                number if calls.contains(&number) => refuse(1),
                0..=300 | 1000..=1001 => Verdict::Allow,
                _ => refuse(38),
            };
            assert_eq!(run(&program, &call(number, [0; 6])), expected, "{number}");
        }
    }

    #[test]
    fn calls_of_other_architectures_get_what_was_said_for_them() {
        let foreign = Call { architecture: 8, number: 5, arguments: [0; 6] };
        assert_eq!(run(&program([]), &foreign), Verdict::Kill);
    }

    #[test]
    fn choices_look_at_the_low_half_and_the_first_case() {
        let wide: Vec<u32> = (0..255).collect();
        let inner =
            ArgumentChoice { argument: 5, mask: 0xf, cases: vec![(wide, refuse(2))], otherwise: Verdict::Allow };
        let choice = ArgumentChoice {
            argument: 1,
            mask: u32::MAX,
            // Its body is longer than a conditional jump reaches.
            cases: vec![(vec![4, 6, 9], Verdict::Depends(inner.into())), (vec![9, 5], refuse(3))],
            otherwise: refuse(4),
        };
        let program = program([(50, Verdict::Depends(choice.into()))]);
        for (argument, expected) in [(4, refuse(2)), (6, refuse(2)), (9, refuse(2)), (5, refuse(3)), (7, refuse(4))] {
            for high in [0, 1 << 32, u64::MAX << 32] {
                assert_eq!(run(&program, &call(50, [9, high | argument, 9, 9, 9, high | 0x123])), expected);
            }
        }
    }
}
