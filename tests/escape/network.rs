//! A guest as router, lease giver, resolver or another guest.

use crate::support::Trial;

pub fn trials() -> Vec<Trial> {
    vec![]
}
