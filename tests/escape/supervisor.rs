//! A guest that wants its supervisor, or the host's commands, to block, to leak or to die.

use crate::support::Trial;

pub fn trials() -> Vec<Trial> {
    vec![]
}
