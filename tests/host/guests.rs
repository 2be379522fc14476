//! Guests of every shape: told by what is in them, and given what they do not do themselves.

mod application;
mod inits;
mod lease;

use crate::support::Trial;

pub fn trials() -> Vec<Trial> {
    lease::trials().into_iter().chain(inits::trials()).collect()
}
