//! Safe wrappers of the system calls that no crate has, or that need care to be used safely.
//!
//! The only place with `unsafe`; each block names the invariant it relies on.
//!
//! It may name `types`, `error` and `terminal`. Start reading at `clone`.
#![allow(unsafe_code)]

pub mod apparmor;
pub mod birth;
pub mod bpf;
pub mod btrfs;
pub mod clone;
pub mod command_line;
pub mod creds;
pub mod digest;
pub mod fork;
pub mod fs;
pub mod helper;
pub mod host_path;
pub mod log;
pub mod memory;
pub mod mount;
pub mod net;
pub mod oom;
pub mod packet;
pub mod pidfd;
pub mod poll;
pub mod ports;
pub mod privileges;
pub mod process;
pub mod quota;
pub mod ready;
pub mod reexec;
pub mod remove;
pub mod seccomp;
pub mod signals;
pub mod socket;
pub mod tty;
pub mod umask;

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::error::{Context, Error, Result};

/// Takes over a descriptor that the program was started with, above the standard three.
pub fn inherited_fd(fd: RawFd) -> Result<OwnedFd> {
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
