//! clone3(2) and fork without surprises: only from a process that has one thread.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::types::Signal;

/// clone3(2); libc's constant is an i32 and overflows.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Proof that this process has one thread, consumed by the clone that relies on it.
///
/// A child of a process with more threads has the locks (malloc's, stdio's) as they happened to be and no
/// thread to unlock them; `setns` and `unshare` of user and mount namespaces refuse threads.
#[derive(Debug)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads; fails if there is more than this one.
    pub fn check() -> Result<Self> {
        // Field 20 of stat(5) costs one read; listing /proc/self/task costs four calls.
        let stat = std::fs::read_to_string("/proc/self/stat").context(|| "count the threads")?;
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        match after_name.split(' ').nth(17) {
            Some("1") => Ok(SingleThreaded(())),
            other => {
                Err(Error::failed(format!("this process has {} threads where only one is safe", other.unwrap_or("?"))))
            }
        }
    }

    /// The same of a child that is cloned with this proof: it has one thread as well.
    pub fn of_child(&self) -> Self {
        SingleThreaded(())
    }
}

/// A child as seen by its parent.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// Clones this process as fork(2) does, with `flags` and, where given, born in the v2 cgroup `cgroup`.
///
/// `child` runs in the child: it executes another program, or returns the status to exit with.
pub fn clone(
    witness: SingleThreaded,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> u8,
) -> Result<Child> {
    let mut pidfd: RawFd = -1;
    match clone_raw(&witness, flags, cgroup, &mut pidfd).context(|| "clone3")? {
        0 => exit(child()),
        pid => {
            // SAFETY: the kernel has stored a new descriptor there, which has no other owner.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: Pid::from_raw(pid), pidfd })
        }
    }
}

/// Returns twice, as fork(2): 0 in the child; its pid in the parent, where `pidfd` is then set.
fn clone_raw(
    _witness: &SingleThreaded,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    pidfd: &mut RawFd,
) -> std::io::Result<libc::pid_t> {
    // SAFETY: `clone_args` is a plain C struct for which all zeroes is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut *pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` outlives the call and the size given is its true size. Without CLONE_VM the
    // child has a copy of all memory, and the witness proves that no other thread held a lock when it
    // was copied.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) } {
        -1 => Err(std::io::Error::last_os_error()),
        pid => Ok(pid as libc::pid_t),
    }
}

/// Stack of a process that does nothing.
type ChildStack = [MaybeUninit<u128>; 1024];

/// A process of [`clone_holder`]; it ends when this is dropped.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    /// In use until the child is reaped.
    _stack: Box<ChildStack>,
}

impl Holder {
    pub fn pid(&self) -> Pid {
        self.child.pid
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Neither fails for a child of ours that only we reap.
        let _ = super::pidfd::send_signal(&self.child.pidfd, Signal::KILL);
        let _ = super::pidfd::reap(&self.child.pidfd);
    }
}

/// Clones a process that waits for its death and does nothing: it holds the namespaces of `flags` until another process
/// does, and ends with this one. It has this process's memory and not a copy, which takes several times longer to make.
pub fn clone_holder(_witness: SingleThreaded, flags: i32) -> Result<Holder> {
    extern "C" fn wait(parent: *mut libc::c_void) -> libc::c_int {
        // SAFETY: these take integers and touch no memory: none of them fails, and pause(2) returns only after a
        // handler of a signal has run, of which we have none.
        unsafe {
            // With copies of this process's descriptors it would keep its locks, too (`AliveLock`).
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // It may have died before the call, and then nothing is sent.
            while libc::getppid() as usize == parent.addr() {
                libc::pause();
            }
            libc::_exit(1)
        }
    }
    let mut stack: Box<ChildStack> = Box::new([const { MaybeUninit::uninit() }; 1024]);
    let mut pidfd = -1 as RawFd;
    let this = std::ptr::without_provenance_mut::<libc::c_void>(std::process::id() as usize);
    let flags = flags | libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the stack is the child's alone, is aligned, and is freed only when the child is reaped ([`Holder`]).
    // The child changes no memory but that. The kernel stores the descriptor in `pidfd`, which outlives the call.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end;
        libc::clone(wait, top.cast(), flags, this, &raw mut pidfd)
    };
    let pid = nix::errno::Errno::result(pid).context(|| "clone")?;
    // SAFETY: the kernel has stored a new descriptor there, which has no other owner.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Holder { child: Child { pid: Pid::from_raw(pid), pidfd }, _stack: stack })
}

/// The pid of a sibling ([`clone_sibling`]), in memory that the parent and the one who clones share.
///
/// The kernel writes it, and the sibling has no such memory: whoever takes the sibling over cannot
/// have the parent signal another process.
#[derive(Debug)]
pub(crate) struct SiblingPid(NonNull<AtomicI32>);

impl SiblingPid {
    pub(crate) fn new() -> Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicI32>(), access, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context(|| "share memory with a child");
        }
        NonNull::new(page.cast()).map(SiblingPid).ok_or_else(|| Error::failed("memory was mapped at address 0"))
    }

    /// `None` until there is one. It is the caller's own child: until reaped no other process has the pid.
    pub(crate) fn get(&self) -> Option<Pid> {
        // SAFETY: the page is mapped as long as `self` lives, is aligned, and zeroed at first.
        let pid = unsafe { self.0.as_ref() }.load(Ordering::Acquire);
        (pid > 0).then(|| Pid::from_raw(pid))
    }
}

impl Drop for SiblingPid {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone in this process, and nothing borrows from it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<AtomicI32>()) };
    }
}

/// Clones a sibling: a child of this process's own parent, which finds its pid in `pid`. This
/// process must itself be a child that [`clone`] has made, and tells nothing else of it.
///
/// `sibling` runs in it: it executes another program, or returns the status to exit with.
pub(crate) fn clone_sibling(_witness: SingleThreaded, pid: &SiblingPid, sibling: impl FnOnce() -> u8) -> Result<()> {
    // SAFETY: the page is mapped; it is only left out of the memory of children.
    let result = unsafe { libc::madvise(pid.0.as_ptr().cast(), size_of::<AtomicI32>(), libc::MADV_DONTFORK) };
    nix::errno::Errno::result(result).context(|| "keep memory from a child")?;
    // clone(2) and not clone3: the guest's filter, which holds already, may refuse that one, whose
    // arguments it cannot see. With CLONE_PARENT the exit signal is this process's own.
    let flags = (libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID) as libc::c_ulong;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: as in `clone_raw`: without CLONE_VM and with no stack given the child goes on on a copy of
    // this one's; the kernel writes the pid to this process's page, which stays mapped. The arguments'
    // order is that of x86-64 and aarch64, which differ in the last two alone.
    match unsafe { libc::syscall(libc::SYS_clone, flags, none, pid.0.as_ptr(), none, none) } {
        -1 => Err(std::io::Error::last_os_error()).context(|| "clone"),
        0 => exit(sibling()),
        _ => Ok(()),
    }
}

/// Goes on in a child that is born in the v2 cgroup `cgroup`, and ends this process; `false` if the kernel
/// lets no process be born there, and nothing has happened.
///
/// Everything of this process but its pid and its children is the child's: memory, descriptors, locks.
pub(crate) fn go_on_in(cgroup: BorrowedFd<'_>) -> Result<bool> {
    let mut pidfd: RawFd = -1;
    match clone_raw(&SingleThreaded::check()?, 0, Some(cgroup), &mut pidfd) {
        Ok(0) => Ok(true),
        Ok(_) => exit(0),
        Err(_) => Ok(false),
    }
}

/// Ends the process at once: no destructor, no atexit handler of the parent's runs twice.
pub(crate) fn exit(status: u8) -> ! {
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { libc::_exit(i32::from(status)) }
}
