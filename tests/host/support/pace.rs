//! Time as the tests count it: a limit that holds on a quiet machine holds on a busy one.
//!
//! Two things stretch it. `tests/run-layers` measures the machine when it starts and gives
//! `LXM_TESTS_SLOWNESS`: 2 says that the machine needs twice the time that the limits were set for.
//! And the kernel counts the time that processes waited for a processor or a disk
//! (`Documentation/accounting/psi.rst`), whoever made them wait: of that only a quarter is counted.
//! So nothing that hangs lasts longer than four times its limit, and what is merely slow ends.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The kernel sums pressure up only every two seconds (PSI_FREQ in kernel/sched/psi.c).
const LATE: Duration = Duration::from_secs(2);

/// Measures time of a quiet machine.
#[derive(Clone, Copy)]
pub struct Clock {
    begun: Instant,
    stalled: Duration,
}

impl Clock {
    pub fn start() -> Self {
        Clock { begun: Instant::now(), stalled: stalled() }
    }

    /// What a quiet machine would have taken for what was done since the start.
    pub fn elapsed(&self) -> Duration {
        quiet(self.begun.elapsed(), stalled().saturating_sub(self.stalled)).div_f64(slowness())
    }
}

/// A moment until which something must have happened.
pub struct Deadline {
    clock: Clock,
    limit: Duration,
}

impl Deadline {
    pub fn after(limit: Duration) -> Self {
        let late = if limit.is_zero() { limit } else { LATE };
        Deadline { clock: Clock::start(), limit: limit + late }
    }

    pub fn has_passed(&self) -> bool {
        self.clock.elapsed() >= self.limit
    }

    /// How long to wait before it is worth asking again whether it has passed.
    pub fn remaining(&self) -> Duration {
        self.limit.saturating_sub(self.clock.elapsed()).mul_f64(slowness()).max(Duration::from_millis(1))
    }
}

/// A limit for something that takes a number and not a [`Deadline`].
pub fn generous(limit: Duration) -> Duration {
    limit.mul_f64(4.0 * slowness())
}

/// Of time in which something was waited for, a quarter.
fn quiet(elapsed: Duration, stalled: Duration) -> Duration {
    elapsed - stalled.min(elapsed) * 3 / 4
}

/// How many times slower than the tests' own machine this one is: 1 at least.
pub fn slowness() -> f64 {
    static SLOWNESS: OnceLock<f64> = OnceLock::new();
    *SLOWNESS.get_or_init(|| {
        let told = std::env::var("LXM_TESTS_SLOWNESS").ok().and_then(|value| value.parse::<f64>().ok());
        told.filter(|factor| (1.0..=100.0).contains(factor)).unwrap_or(1.0)
    })
}

/// For how long something has waited for a processor or a disk since the machine booted; nothing
/// where the kernel does not count it.
fn stalled() -> Duration {
    let of = |resource: &str| {
        let text = std::fs::read_to_string(format!("/proc/pressure/{resource}")).unwrap_or_default();
        let total = text.lines().next().and_then(|some| some.rsplit_once("total=")?.1.parse().ok());
        Duration::from_micros(total.unwrap_or(0))
    };
    of("cpu") + of("io")
}
