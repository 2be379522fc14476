//! Runs from a copy of the program that cannot be changed.
//!
//! A process of a privileged guest can open /proc/PID/exe of a process of ours that has entered the
//! guest and, once that has executed something else, write to the program file of the host
//! (CVE-2019-5736). A sealed memfd cannot be written to.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStringExt;

use crate::error::{Context, Error, Result};

const ALL_SEALS: i32 = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;

/// Executes this program again from a sealed copy in memory, unless it runs from one already.
/// Descriptors that are not close-on-exec, arguments and environment stay.
pub(crate) fn ensure_sealed() -> Result<()> {
    let program = File::open("/proc/self/exe").context(|| "open our own program")?;
    // SAFETY: takes integers only; a file that cannot be sealed has no seals.
    if unsafe { libc::fcntl(program.as_raw_fd(), libc::F_GET_SEALS) } == ALL_SEALS {
        return Ok(());
    }
    let copy = sealed_copy(program).context(|| "copy our own program")?;
    let c_string = |text: std::ffi::OsString| CString::new(text.into_vec()).map_err(|e| Error::failed(e.to_string()));
    let arguments = std::env::args_os().map(c_string).collect::<Result<Vec<_>>>()?;
    let environment: Vec<CString> = std::env::vars_os()
        .map(|(mut key, value)| {
            key.push("=");
            key.push(value);
            c_string(key)
        })
        .collect::<Result<_>>()?;
    let Err(e) = nix::unistd::fexecve(&copy, &arguments, &environment);
    Err(e).context(|| "execute our own program again")
}

fn sealed_copy(mut program: File) -> std::io::Result<File> {
    // SAFETY: the name is a C string and the flags are valid.
    let fd = unsafe { libc::memfd_create(c"lxm".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    nix::errno::Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor for us; it has no other owner.
    let mut copy = unsafe { File::from_raw_fd(fd) };
    std::io::copy(&mut program, &mut copy)?;
    // SAFETY: takes integers only.
    nix::errno::Errno::result(unsafe { libc::fcntl(copy.as_raw_fd(), libc::F_ADD_SEALS, ALL_SEALS) })?;
    Ok(copy)
}
