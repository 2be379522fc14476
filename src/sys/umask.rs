//! The file mode creation mask (umask(2)): known, whatever the caller's is.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::Mode;
use rustix::process::umask;

/// What only the owner may write to.
const OURS: Mode = Mode::WGRP.union(Mode::WOTH);

static CALLERS: AtomicU32 = AtomicU32::new(OURS.bits());

/// Takes our own, 022; to be called once, at the program's start.
///
/// With the caller's, `umask 0` would let every user write to what is made here, and `umask 077` would let
/// only root enter a guest's directories.
pub(crate) fn take_own() {
    CALLERS.store(umask(OURS).bits(), Ordering::Relaxed);
}

/// The caller's, for files that are made for him.
pub(crate) fn callers() -> u32 {
    CALLERS.load(Ordering::Relaxed)
}
