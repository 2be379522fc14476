//! What a guest may do with what is mounted for it.

use crate::support::Trial;

pub fn trials() -> Vec<Trial> {
    vec![]
}
