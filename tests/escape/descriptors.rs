//! Open files, processes and terminals of the host within a guest's reach.

use crate::support::Trial;

pub fn trials() -> Vec<Trial> {
    vec![]
}
