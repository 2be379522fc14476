//! Two containers that claim what only one may have.

use crate::support::Trial;

pub fn trials() -> Vec<Trial> {
    vec![]
}
