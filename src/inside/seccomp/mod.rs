//! The system call filter.
//!
//! As systemd-nspawn's: a call that this program does not know is `ENOSYS`, so that newer libraries
//! in the guest fall back to what they did before; one that is known and denied is `EPERM`.
//!
//! seccompiler compiles the rules. Its own program kills every process of another architecture,
//! which in a container are the 32-bit ones, so its three-instruction prologue is replaced by a
//! dispatch on the architecture with the rules of each behind it.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use crate::error::{Error, Result};

/// Filters in the order they are installed.
#[derive(Debug, Clone, Default)]
pub struct Filters(Vec<BpfProgram>);

/// Expands to the numbers of the named calls in one architecture's table.
macro_rules! numbers {
    ($table:path; $($name:ident)*) => {{
        use $table as table;
        &[$(table::$name as i64),*]
    }};
}

/// Calls denied on every architecture, with why.
macro_rules! denied_everywhere {
    ($table:path) => {
        numbers!($table;
            // Would replace the kernel, or load code into it.
            kexec_load init_module delete_module finit_module
            // Reaches any file of a file system by its inode number, past the mount namespace.
            open_by_handle_at
            // The host's swap, quotas and accounting.
            swapon swapoff quotactl quotactl_fd
            // Sees other processes' events, and has been the way into the kernel too often.
            perf_event_open lookup_dcookie
            // Watches whole file systems, beyond the guest's mounts.
            fanotify_init fanotify_mark
            // Protection keys are not virtualised.
            pkey_mprotect pkey_alloc pkey_free
            // The host's log; needs a capability that guests do not have.
            syslog
            // Long gone from the kernel, kept reserved.
            nfsservctl)
    };
}

/// One architecture that the kernel runs here.
struct Table {
    /// AUDIT_ARCH_* as seccomp(2) reports it.
    audit_arch: u32,
    denied: &'static [&'static [i64]],
    /// `bpf`, denied unless containers may run inside.
    bpf: i64,
    /// `socket`; the 32-bit x86 `socketcall` takes its arguments from memory, where no filter sees them.
    socket: i64,
    /// The newest call this program knows.
    last: i64,
    /// Numbers from here on belong to another ABI that is not for guests (x32).
    foreign: Option<u32>,
}

#[cfg(target_arch = "x86_64")]
fn tables() -> [Table; 2] {
    use linux_sysno::{x86, x86_64};
    [
        Table {
            audit_arch: 0xc000_003e,
            denied: &[
                denied_everywhere!(linux_sysno::x86_64::Sysno),
                numbers!(linux_sysno::x86_64::Sysno; kexec_file_load modify_ldt iopl ioperm uselib ustat sysfs _sysctl
                    create_module get_kernel_syms query_module afs_syscall getpmsg putpmsg security tuxcall vserver),
            ],
            bpf: x86_64::Sysno::bpf as i64,
            socket: x86_64::Sysno::socket as i64,
            last: x86_64::Sysno::listns as i64,
            foreign: Some(0x4000_0000),
        },
        Table {
            audit_arch: 0x4000_0003,
            denied: &[
                denied_everywhere!(linux_sysno::x86::Sysno),
                numbers!(linux_sysno::x86::Sysno; modify_ldt iopl ioperm vm86 vm86old uselib ustat sysfs _sysctl
                    create_module get_kernel_syms query_module),
            ],
            bpf: x86::Sysno::bpf as i64,
            socket: x86::Sysno::socket as i64,
            last: x86::Sysno::listns as i64,
            foreign: None,
        },
    ]
}

#[cfg(target_arch = "aarch64")]
fn tables() -> [Table; 2] {
    use linux_sysno::{aarch64, arm};
    [
        Table {
            audit_arch: 0xc000_00b7,
            denied: &[
                denied_everywhere!(linux_sysno::aarch64::Sysno),
                numbers!(linux_sysno::aarch64::Sysno; kexec_file_load),
            ],
            bpf: aarch64::Sysno::bpf as i64,
            socket: aarch64::Sysno::socket as i64,
            last: aarch64::Sysno::listns as i64,
            foreign: None,
        },
        Table {
            audit_arch: 0x4000_0028,
            denied: &[denied_everywhere!(linux_sysno::arm::Sysno)],
            bpf: arm::Sysno::bpf as i64,
            socket: arm::Sysno::socket as i64,
            last: arm::Sysno::listns as i64,
            foreign: None,
        },
    ]
}

impl Filters {
    /// Compiles the default filters; `nesting` leaves in what container managers need.
    pub fn compile(nesting: bool) -> Result<Self> {
        let permissions = by_architecture(|table| {
            let mut denied: Vec<i64> = table.denied.concat();
            if !nesting {
                denied.push(table.bpf);
            }
            let rules = denied.into_iter().map(|number| (number, Vec::new())).collect();
            compile(rules, libc::EPERM)
        })?;
        // Programs that audit take this as "no audit here" rather than failing (as in nspawn).
        let audit =
            by_architecture(|table| compile([(table.socket, vec![netlink_audit()?])].into(), libc::EAFNOSUPPORT))?;
        Ok(Filters(vec![permissions, audit]))
    }

    /// Installs them in this process, for good.
    pub fn install(&self) -> Result<()> {
        self.0.iter().try_for_each(|program| crate::sys::seccomp::install(program))
    }
}

/// socket(AF_NETLINK, _, NETLINK_AUDIT)
fn netlink_audit() -> Result<SeccompRule> {
    let equals = |argument, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    let conditions =
        equals(0, libc::AF_NETLINK as u64).and_then(|family| Ok(vec![family, equals(2, libc::NETLINK_AUDIT as u64)?]));
    conditions.and_then(SeccompRule::new).map_err(|e| Error::failed(format!("compile the system call filter: {e}")))
}

/// seccompiler's program for `rules`, without its architecture check: it starts by loading the number.
fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<BpfProgram> {
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

/// Dispatches on the architecture, refuses unknown numbers, and goes on with each one's `rules`.
fn by_architecture(rules: impl Fn(&Table) -> Result<BpfProgram>) -> Result<BpfProgram> {
    let mut program = Vec::new();
    for table in tables() {
        let rules = rules(&table)?;
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
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_fit_the_kernels_limit_and_know_both_architectures() {
        for program in Filters::compile(false).unwrap().0 {
            assert!(program.len() < 4096);
            let compares = |arch| program.iter().any(|i| i.code == JUMP_IF_EQUAL && i.k == arch);
            assert!(tables().iter().all(|table| compares(table.audit_arch)));
        }
    }
}
