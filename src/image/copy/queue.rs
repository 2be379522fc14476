//! The directories that wait to be copied, shared by the threads that copy.

use std::sync::{Condvar, Mutex, MutexGuard};

use super::job::CopyJob;
use crate::error::{Error, Result};

/// The directories that wait to be copied. Last in, first out, so that few are open at a time.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: Vec<CopyJob>,
    running: usize,
    failure: Option<Error>,
}

impl Queue {
    pub(super) fn push(&self, job: CopyJob) {
        self.push_all([job]);
    }

    pub(super) fn push_all(&self, jobs: impl IntoIterator<Item = CopyJob>) {
        lock(&self.state).jobs.extend(jobs);
        self.changed.notify_all();
    }

    /// The next job; `None` once there is nothing more to do or something has failed.
    pub(super) fn next(&self) -> Option<CopyJob> {
        let mut state = lock(&self.state);
        loop {
            if state.failure.is_some() {
                return None;
            }
            if let Some(job) = state.jobs.pop() {
                state.running += 1;
                return Some(job);
            }
            if state.running == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    pub(super) fn done(&self, outcome: Result<()>) {
        let mut state = lock(&self.state);
        state.running -= 1;
        if let Err(e) = outcome {
            state.failure.get_or_insert(e);
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn outcome(self) -> Result<()> {
        let state = self.state.into_inner().unwrap_or_else(|e| e.into_inner());
        state.failure.map_or(Ok(()), Err)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
