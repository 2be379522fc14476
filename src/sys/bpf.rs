//! bpf(2): loading a device program and attaching it to a cgroup.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::error::{Context, Result};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of ancestors stay in force beside this one.
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;

/// The head of `union bpf_attr` for BPF_PROG_LOAD, up to the log.
#[repr(C)]
struct Load {
    prog_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
}

/// The head of `union bpf_attr` for BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches a device program to the v2 cgroup `cgroup`; it lives as long as the cgroup.
pub(crate) fn attach_device_program(cgroup: impl AsFd, code: &[u64]) -> Result<()> {
    let license = c"MIT";
    let load = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
    };
    // SAFETY: `load`, `code` and `license` outlive the call, the counts and size are true, and the
    // kernel verifies the program itself.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) };
    let fd = nix::errno::Errno::result(fd).context(|| "load the device program")?;
    // SAFETY: the kernel has just made this descriptor for us; it has no other owner.
    let program = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attach = Attach {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        program_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attach` outlives the call and its size is true; both descriptors are open.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    nix::errno::Errno::result(result).map(drop).context(|| "attach the device program")
}
