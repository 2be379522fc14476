//! The system call filter.
//!
//! As systemd-nspawn's: a call that this program does not know is `ENOSYS`, so that newer libraries
//! in the guest fall back to what they did before; one that is known and denied is `EPERM`.
//!
//! seccompiler compiles the rules. Its own program kills every process of another architecture,
//! which in a container are the 32-bit ones, so its three-instruction prologue is replaced by a
//! dispatch on the architecture with the rules of each behind it.

mod sockets;
mod tables;

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use self::sockets::Sockets;
use self::tables::{Table, tables};
use crate::config::{CallGroup, Security, Syscalls};
use crate::error::{Error, Result};

/// Filters in the order they are installed.
#[derive(Debug, Clone, Default)]
pub struct Filters(Vec<BpfProgram>);

/// What one architecture's calls are held to: a call's number, and the conditions under which it is refused
/// (none: always).
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Filters {
    /// Compiles the filters that `security` asks for.
    ///
    /// One program an errno that something is refused with; each is chosen so that what meets it goes on as
    /// on a kernel without the call.
    pub fn compile(security: &Security) -> Result<Self> {
        if security.syscalls == Syscalls::Off {
            return Ok(Filters::default());
        }
        let mut programs = vec![
            by_architecture(libc::EPERM, |table| denied(table, security))?,
            by_architecture(libc::ENOSYS, |table| Ok(absent(table, security)))?,
        ];
        if let Some(allowed) = security.address_families.allowed() {
            let sockets = Sockets::of(&allowed);
            programs.push(by_architecture(libc::EAFNOSUPPORT, |table| sockets.families(table))?);
            programs.push(by_architecture(libc::EPROTONOSUPPORT, |table| sockets.protocols(table))?);
        }
        Ok(Filters(programs.into_iter().flatten().collect()))
    }

    /// Installs them in this process, for good.
    pub fn install(&self) -> Result<()> {
        self.0.iter().try_for_each(|program| crate::sys::seccomp::install(program))
    }
}

/// Calls that are known and refused.
fn denied(table: &Table, security: &Security) -> Result<Rules> {
    let mut denied: Vec<i64> = table.denied.concat();
    for (group, calls) in [
        (CallGroup::Bpf, &[table.bpf][..]),
        // As the kernel's own `kernel.io_uring_disabled`, which libraries know.
        (CallGroup::IoUring, table.io_uring),
        (CallGroup::Userfaultfd, &[table.userfaultfd]),
    ] {
        if !security.allows(group) {
            denied.extend(calls);
        }
    }
    let mut rules: Rules = denied.into_iter().map(|number| (number, Vec::new())).collect();
    if !security.allows(CallGroup::UserNamespaces) {
        let flag = libc::CLONE_NEWUSER as u64;
        for call in table.with_flags {
            rules.insert(call, vec![rule(vec![when(0, SeccompCmpOp::MaskedEq(flag), flag)?])?]);
        }
    }
    Ok(rules)
}

/// Calls that are as if this kernel did not have them, because programs then do without.
fn absent(table: &Table, security: &Security) -> Rules {
    let mut absent = Vec::new();
    if !security.allows(CallGroup::Keyring) {
        absent.extend(table.keyring);
    }
    if !security.allows(CallGroup::MountApi) {
        absent.extend(table.mount_api);
    }
    if !security.allows(CallGroup::UserNamespaces) {
        // Its flags are in memory, where no filter sees them; libraries go back to clone(2).
        absent.push(table.clone3);
    }
    absent.into_iter().map(|number| (number, Vec::new())).collect()
}

/// The condition that the low half of an argument compares so; the kernel takes these as `int`.
fn when(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
        .map_err(|e| Error::failed(format!("compile the system call filter: {e}")))
}

/// A rule that holds where all conditions do.
fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(|e| Error::failed(format!("compile the system call filter: {e}")))
}

/// seccompiler's program for `rules`, without its architecture check: it starts by loading the number.
fn compile(rules: Rules, errno: i32) -> Result<BpfProgram> {
    let arch: TargetArch = std::env::consts::ARCH.try_into().map_err(|e| Error::failed(format!("{e}")))?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch);
    let program: BpfProgram = filter
        .and_then(TryInto::try_into)
        .map_err(|e| Error::failed(format!("compile the system call filter: {e}")))?;
    Ok(program[ARCH_CHECK..].to_vec())
}

/// Length of seccompiler's architecture check: load, compare, kill.
const ARCH_CHECK: usize = 3;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const JUMP_IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Dispatches on the architecture, refuses unknown numbers, and what meets each one's `rules` with `errno`;
/// `None` where no architecture has any: each program costs every start and every attached command.
fn by_architecture(errno: i32, rules: impl Fn(&Table) -> Result<Rules>) -> Result<Option<BpfProgram>> {
    let tables = tables();
    let all = tables.iter().map(rules).collect::<Result<Vec<_>>>()?;
    if all.iter().all(Rules::is_empty) {
        return Ok(None);
    }
    let mut program = Vec::new();
    for (table, rules) in tables.iter().zip(all) {
        let rules = compile(rules, errno)?;
        let (load_number, rest) = rules.split_first().expect("a program loads the number first");
        let mut body = vec![load_number.clone()];
        if let Some(foreign) = table.foreign {
            body.extend([op(JUMP_IF_AT_LEAST, 0, 1, foreign), op(RETURN, 0, 0, NO_SUCH_CALL)]);
        }
        body.extend([op(JUMP_IF_GREATER, 0, 1, table.last as u32), op(RETURN, 0, 0, NO_SUCH_CALL)]);
        body.extend_from_slice(rest);
        // The architecture is at offset 4 of struct seccomp_data. A conditional jump reaches 255
        // instructions, the unconditional one any distance.
        program.extend([
            op(LOAD, 0, 0, 4),
            op(JUMP_IF_EQUAL, 1, 0, table.audit_arch),
            op(JUMP, 0, 0, body.len() as u32),
        ]);
        program.extend(body);
    }
    program.push(op(RETURN, 0, 0, NO_SUCH_CALL));
    Ok(Some(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_fit_the_kernels_limit_and_know_both_architectures() {
        for program in Filters::compile(&Security::default()).unwrap().0 {
            assert!(program.len() < 4096);
            let compares = |arch| program.iter().any(|i| i.code == JUMP_IF_EQUAL && i.k == arch);
            assert!(tables().iter().all(|table| compares(table.audit_arch)));
        }
    }
}
