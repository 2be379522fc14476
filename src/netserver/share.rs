//! Shares of what is limited: waiting queries, connections.
//!
//! Counted by MAC address and not by IP address: a guest has as many of those as it likes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use crate::types::Mac;

/// Who sends a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Requester {
    Host,
    Guest(Mac),
    /// A sender whose MAC address is not known yet. All of these count as one client, so that none gains by
    /// it: a guest that resolves its gateway's address, as every guest does, is known soon.
    Unknown,
}

/// How many of each are under way.
#[derive(Debug)]
pub(super) struct Counts<T> {
    by: RefCell<HashMap<T, usize>>,
    /// For all together.
    limit: usize,
    /// For each.
    limit_each: usize,
}

impl<T: Hash + Eq + Clone> Counts<T> {
    pub(super) fn new(limit: usize, limit_each: usize) -> Rc<Self> {
        Rc::new(Counts { by: RefCell::new(HashMap::new()), limit, limit_each })
    }

    /// Counts one more for `what`, unless it is at its limit or has as many as are left for all others. So
    /// one client alone leaves half, and what is freed goes to a client that has none yet.
    pub(super) fn enter(self: &Rc<Self>, what: T) -> Option<Ticket<T>> {
        let mut by = self.by.borrow_mut();
        let left = self.limit.saturating_sub(by.values().sum());
        let has = by.get(&what).copied().unwrap_or(0);
        if has >= self.limit_each.min(left) {
            return None;
        }
        by.insert(what.clone(), has + 1);
        Some(Ticket { counts: self.clone(), what })
    }
}

/// Counted until dropped.
#[derive(Debug)]
pub(super) struct Ticket<T: Hash + Eq + Clone> {
    counts: Rc<Counts<T>>,
    what: T,
}

impl<T: Hash + Eq + Clone> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut by = self.counts.by.borrow_mut();
        if let Some(count) = by.get_mut(&self.what) {
            *count -= 1;
            if *count == 0 {
                by.remove(&self.what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leaves_much_and_many_leave_what_they_give_back() {
        let counts = Counts::new(512, 64);
        let take_all = |greedy: usize| std::iter::from_fn(|| counts.enter(greedy)).collect::<Vec<_>>();
        let mut tickets = take_all(0);
        assert_eq!(tickets.len(), 64);
        tickets.extend((1..100).flat_map(take_all));
        assert_eq!(tickets.len(), 512);
        assert!(counts.enter(100).is_none());
        tickets.remove(0);
        assert!(counts.enter(0).is_none(), "he has more than that");
        assert!(counts.enter(100).is_some());
        tickets.clear();
        assert_eq!(take_all(0).len(), 64, "what is over is free again");
    }
}
