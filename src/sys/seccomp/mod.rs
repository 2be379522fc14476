//! seccomp(2) without `no_new_privs`, which would take sudo and every set-user-ID program from the guest.

mod program;
#[cfg(test)]
pub(crate) mod simulate;

pub(crate) use program::{Architecture, ArgumentChoice, BpfProgram, Verdict};

use crate::error::{Context, Error, Result};

/// Installs a filter. Needs CAP_SYS_ADMIN in this process's user namespace, or `no_new_privs`.
pub(crate) fn install(program: &BpfProgram) -> Result<()> {
    let code = program.instructions();
    let len = u16::try_from(code.len()).map_err(|_| Error::failed("the system call filter is too long"))?;
    let program = libc::sock_fprog { len, filter: code.as_ptr().cast_mut() };
    // SAFETY: `program` and its instructions outlive the call, the length is true, and the kernel copies and
    // verifies them; it writes to none.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    nix::errno::Errno::result(result).map(drop).context(|| "install the system call filter")
}
