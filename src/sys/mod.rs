//! Safe wrappers of the system calls that no crate has, or that need care to be used safely.
//!
//! The only place with `unsafe`; each block names the invariant it relies on.
//!
//! It may name `types`, `error` and `terminal`. Start reading at `clone`.
#![allow(unsafe_code)]

pub(crate) mod apparmor;
pub(crate) mod birth;
pub(crate) mod bpf;
pub(crate) mod btrfs;
pub(crate) mod clone;
pub(crate) mod command_line;
pub(crate) mod creds;
pub(crate) mod digest;
pub(crate) mod fork;
pub(crate) mod fs;
pub(crate) mod hang_up;
pub(crate) mod helper;
pub(crate) mod host_path;
pub(crate) mod inode_flags;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod net;
pub(crate) mod oom;
pub(crate) mod packet;
pub(crate) mod pidfd;
pub(crate) mod poll;
pub(crate) mod ports;
pub(crate) mod privileges;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod quota;
pub(crate) mod ready;
pub(crate) mod reexec;
pub(crate) mod remove;
pub(crate) mod seccomp;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod tty;
pub(crate) mod umask;
pub(crate) mod userns;

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::error::{Context, Error, Result};

/// Takes over a descriptor that the program was started with, above the standard three.
pub(crate) fn inherited_fd(fd: RawFd) -> Result<OwnedFd> {
    if fd < 3 {
        return Err(Error::usage(format!("descriptor {fd} is not one to take over")));
    }
    nix::fcntl::fcntl(
        // SAFETY: only for the call, which fails on a descriptor that is not open.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) },
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    )
    .context(|| format!("take over descriptor {fd}"))?;
    // SAFETY: it is open, and a freshly executed program owns none above the standard three.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
