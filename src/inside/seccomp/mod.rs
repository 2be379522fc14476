//! The system call filter.
//!
//! As systemd-nspawn's: a call that this program does not know is `ENOSYS`, so that newer libraries
//! in the guest fall back to what they did before; one that is known and denied is `EPERM`.
//!
//! One program for all of it, because the kernel compiles and tries out each that is installed, in every start
//! and every attached command (`sys/seccomp/`).

mod sockets;
mod tables;

use std::collections::BTreeMap;

use self::tables::{SyscallTable, tables};
use crate::config::{CallGroup, Security, Syscalls};
use crate::error::Result;
use crate::sys::seccomp::{Architecture, ArgumentChoice, BpfProgram, Verdict, install};
use crate::types::SocketKind;

/// As on a kernel without the call.
const ABSENT: Verdict = Verdict::Refuse(libc::ENOSYS);
const DENIED: Verdict = Verdict::Refuse(libc::EPERM);

/// The filter of a guest's processes; there may be none.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeccompFilter(Option<BpfProgram>);

impl SeccompFilter {
    /// Compiles the filter that `security` asks for.
    pub(crate) fn compile(security: &Security) -> Self {
        if security.syscalls == Syscalls::Off {
            return SeccompFilter::default();
        }
        let architecture = |table: &SyscallTable| Architecture {
            audit_arch: table.audit_arch,
            known: table.known.to_vec(),
            calls: calls(table, security),
            unknown: ABSENT,
        };
        SeccompFilter(Some(BpfProgram::new(&tables().each_ref().map(architecture), &ABSENT)))
    }

    /// Installs it in this process, for good.
    pub(crate) fn install(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), install)
    }
}

/// What becomes of those calls of an architecture that are not simply allowed. Each answer is chosen so that
/// a program that gets it continues as on a kernel without the call.
fn calls(table: &SyscallTable, security: &Security) -> BTreeMap<u32, Verdict> {
    use CallGroup::{Bpf, IoUring, Keyring, MountApi, UserNamespaces, Userfaultfd};
    let groups: [(CallGroup, &[u32], Verdict); 7] = [
        (Bpf, &[table.bpf], DENIED),
        // As the kernel's own `kernel.io_uring_disabled`, which libraries know.
        (IoUring, table.io_uring, DENIED),
        (Userfaultfd, &[table.userfaultfd], DENIED),
        (Keyring, table.keyring, ABSENT),
        (MountApi, table.mount_api, ABSENT),
        (UserNamespaces, &table.with_flags, without_flag(libc::CLONE_NEWUSER as u32)),
        // Its flags are in memory, where no filter sees them; libraries go back to clone(2).
        (UserNamespaces, &[table.clone3], ABSENT),
    ];
    let mut calls: BTreeMap<u32, Verdict> = table.denied.concat().into_iter().map(|number| (number, DENIED)).collect();
    for (group, numbers, verdict) in groups {
        if !security.allows(group) {
            calls.extend(numbers.iter().map(|number| (*number, verdict.clone())));
        }
    }
    if let Some(allowed) = security.address_families.allowed() {
        let verdict = sockets::sockets(&allowed);
        calls.extend(table.sockets.map(|number| (number, verdict.clone())));
        if !allowed.contains(&SocketKind::SocketCall) {
            calls.extend(table.socketcall.map(|number| (number, sockets::socketcall())));
        }
    }
    calls
}

/// Denied when `flag` is in the first argument.
fn without_flag(flag: u32) -> Verdict {
    let denied = vec![(vec![flag], DENIED)];
    Verdict::Depends(ArgumentChoice { argument: 0, mask: flag, cases: denied, otherwise: Verdict::Allow }.into())
}

#[cfg(test)]
mod tests;
