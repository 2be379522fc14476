//! Who has how much of what there is a limited number of: waiting queries, connections.
//!
//! By station and not by address: a guest has as many addresses as it likes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use crate::types::Mac;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Requester {
    Host,
    Station(Mac),
    /// Nobody whose station is known. All of them together are one client, so that nobody gains by being
    /// one: a guest that asks who has its gateway's address, as every guest does, is none for long.
    PendingProbe,
}

/// How many of each are under way.
#[derive(Debug)]
pub(super) struct Counts<T> {
    by: RefCell<HashMap<T, usize>>,
    /// In all.
    limit: usize,
    /// Of each.
    limit_each: usize,
}

impl<T: Hash + Eq + Clone> Counts<T> {
    pub(super) fn new(limit: usize, limit_each: usize) -> Rc<Self> {
        Rc::new(Counts { by: RefCell::new(HashMap::new()), limit, limit_each })
    }

    /// Counts one more, unless `what` has its limit, or as much as is left for all others: one alone leaves
    /// much, and of what many have taken the next that is given back is for one who has nothing yet.
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
