//! Attacks from inside a guest, from a foreign file and from an unprivileged user of the host: each
//! trial asserts that the attack fails, and that its means were there (so that the trial can fail).
//!
//! Part of the privileged suite: `cargo test --test host -- escape::`. A file holds the attacks on
//! one thing; docs/SECURITY.md says what is promised for each kind of guest.

mod descriptors;
mod floods;
mod foreign;
mod identity;
mod kernel;
mod means;
mod mounts;
mod network;
mod races;
mod reach;
mod supervisor;
mod surface;
mod terminal;

use crate::support::Trial;

pub fn trials() -> Vec<Trial> {
    let areas = [
        descriptors::trials(),
        floods::trials(),
        foreign::trials(),
        identity::trials(),
        kernel::trials(),
        mounts::trials(),
        network::trials(),
        races::trials(),
        reach::trials(),
        supervisor::trials(),
        surface::trials(),
        terminal::trials(),
    ];
    areas.into_iter().flatten().collect()
}
