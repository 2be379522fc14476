//! seccomp(2) without `no_new_privs`, which would take sudo and every set-user-ID program from the guest.

use seccompiler::sock_filter;

use crate::error::{Context, Result};

/// Installs a filter. Needs CAP_SYS_ADMIN in this process's user namespace.
pub fn install(program: &[sock_filter]) -> Result<()> {
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const sock_filter,
    }
    let length =
        u16::try_from(program.len()).map_err(|_| crate::error::Error::failed("the system call filter is too long"))?;
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: `program` and its instructions outlive the call, the length is true, and the kernel
    // copies and verifies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    nix::errno::Errno::result(result).map(drop).context(|| "install the system call filter")
}
