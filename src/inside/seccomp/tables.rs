//! The system calls that the filter knows, by architecture.

use std::ops::RangeInclusive;

/// Expands to the numbers of the named calls in one architecture's table.
macro_rules! numbers {
    ($table:path; $($name:ident)*) => {{
        use $table as table;
        &[$(table::$name as u32),*]
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

/// The calls that every architecture has under the same name.
macro_rules! groups {
    ($table:path) => {{
        use $table as table;
        SyscallTable {
            audit_arch: 0,
            denied: &[],
            socketcall: None,
            known: &[0..=table::listns as u32],
            bpf: table::bpf as u32,
            sockets: [table::socket as u32, table::socketpair as u32],
            io_uring: numbers!($table; io_uring_setup io_uring_enter io_uring_register),
            userfaultfd: table::userfaultfd as u32,
            keyring: numbers!($table; keyctl add_key request_key),
            mount_api: numbers!($table; fsopen fspick fsconfig fsmount),
            with_flags: [table::clone as u32, table::unshare as u32],
            clone3: table::clone3 as u32,
        }
    }};
}

/// One architecture that the kernel runs here.
pub(super) struct SyscallTable {
    /// AUDIT_ARCH_* as seccomp(2) reports it.
    pub audit_arch: u32,
    pub denied: &'static [&'static [u32]],
    pub bpf: u32,
    /// `socket` and `socketpair`.
    pub sockets: [u32; 2],
    /// The 32-bit x86 call that takes all arguments but its first from memory, where no filter sees them.
    pub socketcall: Option<u32>,
    pub io_uring: &'static [u32],
    pub userfaultfd: u32,
    pub keyring: &'static [u32],
    /// fsopen(2) and what goes with it.
    pub mount_api: &'static [u32],
    /// `clone` and `unshare`, whose first argument has the flags.
    pub with_flags: [u32; 2],
    pub clone3: u32,
    /// Up to the newest call that this program knows. What is not among them is as if the kernel did not have
    /// it, x32's ABI (0x40000000 and above) with it.
    pub known: &'static [RangeInclusive<u32>],
}

#[cfg(target_arch = "x86_64")]
pub(super) fn tables() -> [SyscallTable; 2] {
    use linux_sysno::x86;
    [
        SyscallTable {
            audit_arch: 0xc000_003e,
            denied: &[
                denied_everywhere!(linux_sysno::x86_64::Sysno),
                numbers!(linux_sysno::x86_64::Sysno; kexec_file_load modify_ldt iopl ioperm uselib ustat sysfs _sysctl
                    create_module get_kernel_syms query_module afs_syscall getpmsg putpmsg security tuxcall vserver),
            ],
            socketcall: None,
            ..groups!(linux_sysno::x86_64::Sysno)
        },
        SyscallTable {
            audit_arch: 0x4000_0003,
            denied: &[
                denied_everywhere!(linux_sysno::x86::Sysno),
                numbers!(linux_sysno::x86::Sysno; modify_ldt iopl ioperm vm86 vm86old uselib ustat sysfs _sysctl
                    create_module get_kernel_syms query_module),
            ],
            socketcall: Some(x86::Sysno::socketcall as u32),
            ..groups!(linux_sysno::x86::Sysno)
        },
    ]
}

#[cfg(target_arch = "aarch64")]
pub fn tables() -> [SyscallTable; 2] {
    use linux_sysno::arm;
    [
        SyscallTable {
            audit_arch: 0xc000_00b7,
            denied: &[
                denied_everywhere!(linux_sysno::aarch64::Sysno),
                numbers!(linux_sysno::aarch64::Sysno; kexec_file_load),
            ],
            socketcall: None,
            ..groups!(linux_sysno::aarch64::Sysno)
        },
        SyscallTable {
            audit_arch: 0x4000_0028,
            denied: &[denied_everywhere!(linux_sysno::arm::Sysno)],
            socketcall: None,
            // Its own calls are far above all others (asm/unistd.h); no 32-bit program runs without set_tls.
            known: &[0..=arm::Sysno::listns as u32, arm::Sysno::breakpoint as u32..=arm::Sysno::get_tls as u32],
            ..groups!(linux_sysno::arm::Sysno)
        },
    ]
}
