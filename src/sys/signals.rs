//! Signal masks and dispositions.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Context, Result};

/// Blocks `signals` and returns a descriptor to read them from.
pub fn descriptor(signals: &[Signal]) -> Result<SignalFd> {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block().context(|| "block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context(|| "open a signal descriptor")
}

/// Gives every signal its default action and blocks none, as a program expects to be executed.
///
/// By the raw call: the real-time signals too, of which libc keeps two from its callers.
pub fn reset() -> nix::Result<()> {
    /// The kernel's struct sigaction with nothing in it: SIG_DFL, no flags, no restorer, no mask.
    const DEFAULT: [u64; 4] = [0; 4];
    for number in (1..=64).filter(|number| ![libc::SIGKILL, libc::SIGSTOP].contains(number)) {
        // SAFETY: the default action is no handler of ours; the array is as large as the kernel's
        // struct, and the size of the mask is the true one.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                DEFAULT.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
        nix::errno::Errno::result(result)?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}
