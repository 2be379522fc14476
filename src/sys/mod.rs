//! Safe wrappers of the system calls that no crate has, or that need care to be used safely.
//!
//! The only place with `unsafe`; each block names the invariant it relies on.
#![allow(unsafe_code)]

pub mod bpf;
pub mod btrfs;
pub mod clone;
pub mod creds;
pub mod fs;
pub mod mount;
pub mod pidfd;
pub mod process;
pub mod socket;
pub mod tty;
