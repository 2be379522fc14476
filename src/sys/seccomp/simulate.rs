//! Runs programs of seccomp(2) as the kernel does, for tests: every number and argument can be tried.

use super::program::{AND, BpfProgram, IF_AT_LEAST, IF_EQUAL, JUMP, LOAD, RETURN, Verdict};

/// What the kernel shows of a system call (struct seccomp_data).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub architecture: u32,
    pub number: u32,
    pub arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < 64, "the kernel refuses to load from {offset}");
        match offset {
            0 => self.number,
            4 => self.architecture,
            8 | 12 => panic!("no program looks at the instruction pointer"),
            _ => (self.arguments[(offset as usize - 16) / 8] >> (8 * (offset % 8))) as u32,
        }
    }
}

/// What becomes of `call`.
pub(crate) fn run(program: &BpfProgram, call: &Call) -> Verdict {
    let (mut at, mut loaded) = (0, 0);
    loop {
        let instruction = &program.instructions()[at];
        let to = |condition: bool| usize::from(if condition { instruction.jt } else { instruction.jf });
        at += 1;
        match instruction.code {
            LOAD => loaded = call.word(instruction.k),
            AND => loaded &= instruction.k,
            JUMP => at += instruction.k as usize,
            IF_EQUAL => at += to(loaded == instruction.k),
            IF_AT_LEAST => at += to(loaded >= instruction.k),
            RETURN => return verdict(instruction.k),
            other => panic!("there is no instruction {other:#x} in programs of ours"),
        }
    }
}

fn verdict(value: u32) -> Verdict {
    match value {
        libc::SECCOMP_RET_ALLOW => Verdict::Allow,
        libc::SECCOMP_RET_KILL_PROCESS => Verdict::Kill,
        value if value & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO => {
            Verdict::Refuse((value & libc::SECCOMP_RET_DATA) as i32)
        }
        other => panic!("no program returns {other:#x}"),
    }
}
