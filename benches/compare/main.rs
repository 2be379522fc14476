//! `make bench`: lxm against LXC from Debian, on this machine, in this run.
//!
//! One table of medians. Rounds of the two alternate, so that whatever else the machine does
//! hits both. It says what could not be measured and why, and exits 0 whatever the numbers are.
//! `cargo bench --bench compare -- network` measures one area alone.

mod base;
mod measured;
mod network;
mod side;
mod storage;
mod table;

use std::fs;
use std::path::Path;

use side::{CACHE, Side};

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("make bench needs root: it starts containers");
        return;
    }
    let work = Path::new("/var/tmp").join(format!("lxm-bench.{}", std::process::id()));
    let sides = [Side::lxm(), Side::lxc(&work)];
    if let Err(e) = fs::create_dir_all(&work).and_then(|()| fs::create_dir_all(CACHE)) {
        println!("cannot make {}: {e}", work.display());
        return;
    }
    // Of a run that was killed.
    sides.iter().for_each(Side::clean);
    println!("lxm {} against LXC {}", env!("CARGO_PKG_VERSION"), side::lxc_version());
    println!("{:<46}{:>12}{:>12}{:>8}   wanted", "median of", "lxm", "LXC", "ratio");
    // cargo gives options of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |area: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == area);
    if is_wanted("base") {
        base::measure(&sides);
    }
    if is_wanted("storage") {
        storage::measure(&sides, &work);
    }
    if is_wanted("network") {
        network::measure(&sides);
    }
    for side in &sides {
        side.clean();
    }
    fs::remove_dir_all(&work).ok();
}
