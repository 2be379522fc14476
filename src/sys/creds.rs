//! User ids, process attributes and limits of this process.

use crate::error::{Context, Result};

fn check(result: libc::c_long) -> std::io::Result<()> {
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs `f` with the effective uid `uid` and all capabilities kept.
///
/// A user namespace is charged to the effective uid that made it (ucounts), and with it every
/// inotify instance and user namespace of its members: made as root, all guests share root's.
pub(crate) fn with_effective_uid<T>(uid: u32, f: impl FnOnce() -> T) -> Result<T> {
    let caps = caps::read(None, caps::CapSet::Effective)
        .map_err(|e| crate::error::Error::failed(e.to_string()))
        .context(|| "read the capabilities")?;
    let set_euid = |uid: u32| {
        // The raw call changes this thread alone, which is all threads; glibc's wrapper would do the same.
        // SAFETY: takes integers only.
        check(unsafe { libc::syscall(libc::SYS_setresuid, -1i32, uid, -1i32) })
    };
    set_euid(uid).context(|| format!("take the effective uid {uid}"))?;
    // Leaving uid 0 clears the effective set (capabilities(7)), not the permitted one.
    let raised = caps::set(None, caps::CapSet::Effective, &caps);
    let result = raised.map(|()| f());
    set_euid(0).context(|| "take back the effective uid 0")?;
    result.map_err(|e| crate::error::Error::failed(e.to_string()).step("keep the capabilities"))
}

/// Runs `f` in this thread with the file-system ids `uid` and `gid` and all capabilities kept.
///
/// For overlayfs, which keeps the credentials of whoever mounts it and makes files with them.
pub fn with_fs_ids<T>(uid: u32, gid: u32, f: impl FnOnce() -> T) -> Result<T> {
    let caps = caps::read(None, caps::CapSet::Effective)
        .map_err(|e| crate::error::Error::failed(e.to_string()))
        .context(|| "read the capabilities")?;
    // setfsuid(2) never fails visibly; a second call with an invalid id tells what is in force.
    let set = |number: libc::c_long, id: u32| -> std::io::Result<()> {
        // SAFETY: takes integers only, and changes this thread alone.
        unsafe { libc::syscall(number, id) };
        // SAFETY: as above.
        let now = unsafe { libc::syscall(number, -1i32) };
        if now == libc::c_long::from(id) { Ok(()) } else { Err(std::io::Error::from_raw_os_error(libc::EPERM)) }
    };
    let take = || -> Result<()> {
        set(libc::SYS_setfsgid, gid).context(|| format!("take the file-system gid {gid}"))?;
        set(libc::SYS_setfsuid, uid).context(|| format!("take the file-system uid {uid}"))?;
        // Leaving fsuid 0 clears the file capabilities of the effective set (capabilities(7)).
        caps::set(None, caps::CapSet::Effective, &caps)
            .map_err(|e| crate::error::Error::failed(e.to_string()).step("keep the capabilities"))
    };
    let result = take().map(|()| f());
    set(libc::SYS_setfsuid, 0).context(|| "take back the file-system uid 0")?;
    set(libc::SYS_setfsgid, 0).context(|| "take back the file-system gid 0")?;
    result
}

/// Makes the kernel send this process `signal` when its parent dies.
///
/// Cleared by a change of ids, so call it after those (pr_set_pdeathsig(2const)).
pub(crate) fn die_with_parent(signal: i32) -> Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }.into()).context(|| "tie to the parent's life")
}

/// Closes this process to those who would look into it or trace it without CAP_SYS_PTRACE over the user
/// namespace that its program was executed in (ptrace(2), "access mode checking").
pub(crate) fn set_undumpable() -> Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) }.into()).context(|| "close the memory to others")
}

/// Marks all descriptors from `first` close-on-exec.
pub(crate) fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: takes integers only, and only sets a flag on descriptors.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .context(|| "mark descriptors close-on-exec")
}

/// Closes all descriptors from `first` on. Only for a process that owns none of them in Rust values.
pub(crate) fn close_from(first: u32) -> Result<()> {
    // SAFETY: the callers are fresh programs and children about to execute one, which use no
    // descriptor at or above `first` any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).context(|| "close descriptors")
}

/// Closes every descriptor but those in `keep`. Only for a cloned child, which drops no value of
/// its parent's that owns one of them.
pub(crate) fn close_all_but(keep: &[std::os::fd::RawFd]) -> Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 0;
    for kept in keep.into_iter().map(Some).chain([None]) {
        let last = kept.map_or(Some(u32::MAX), |kept| kept.checked_sub(1));
        if let Some(last) = last.filter(|last| *last >= first) {
            // SAFETY: takes integers only; the caller uses none of the descriptors closed.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).context(|| "close descriptors")?;
        }
        first = kept.map_or(u32::MAX, |kept| kept + 1).max(first);
    }
    Ok(())
}

/// Starts a session keyring of this process's own. A kernel without keyrings needs none.
pub(crate) fn new_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring (keyctl_join_session_keyring(3)).
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
}
