//! Signal masks and dispositions.

use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Context, Result};

/// Blocks `signals` and returns a descriptor to read them from.
pub(crate) fn descriptor(signals: &[Signal]) -> Result<SignalFd> {
    descriptor_of(signals.iter().copied().collect())
}

/// The same with all real-time signals.
pub(crate) fn descriptor_with_realtime(signals: &[Signal]) -> Result<SignalFd> {
    let mut set = *signals.iter().copied().collect::<SigSet>().as_ref();
    for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: `set` was initialised by sigemptyset(3), and the signals are the ones that libc names.
        unsafe { libc::sigaddset(&raw mut set, number) };
    }
    // SAFETY: it is a set of signals.
    descriptor_of(unsafe { SigSet::from_sigset_t_unchecked(set) })
}

fn descriptor_of(set: SigSet) -> Result<SignalFd> {
    set.thread_block().context(|| "block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context(|| "open a signal descriptor")
}

/// Gives every signal its default action and blocks none, as a program expects to be executed.
///
/// By the raw call: the real-time signals too, of which libc keeps two from its callers.
pub(crate) fn reset() -> nix::Result<()> {
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

/// Runs `work`, whose system calls are interrupted every `period` as long as it takes: what the kernel
/// waits for in there, it waits for until a signal is pending and no longer.
pub(crate) fn interrupted_every<T>(period: Duration, work: impl FnOnce() -> T) -> Result<T> {
    extern "C" fn nothing(_: i32) {}
    // Without SA_RESTART: a call that was interrupted returns.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: a handler that does nothing is safe wherever it runs.
    unsafe { sigaction(Signal::SIGALRM, &action) }.context(|| "take the alarm")?;
    // SAFETY: a plain C struct for which all zeroes is a valid value.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = libc::SIGALRM;
    event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
    let mut timer: libc::timer_t = std::ptr::null_mut();
    // SAFETY: the kernel reads one sigevent and writes one timer_t, which outlive the call.
    let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    nix::errno::Errno::result(made).context(|| "make a timer")?;
    let time = libc::timespec { tv_sec: 0, tv_nsec: period.subsec_nanos().into() };
    let times = libc::itimerspec { it_interval: time, it_value: time };
    // SAFETY: the kernel reads one itimerspec, which outlives the call, of a timer that was just made.
    let armed = unsafe { libc::timer_settime(timer, 0, &raw const times, std::ptr::null_mut()) };
    let done = work();
    // SAFETY: the timer is ours, and used no more.
    unsafe { libc::timer_delete(timer) };
    nix::errno::Errno::result(armed).context(|| "set the timer")?;
    Ok(done)
}
