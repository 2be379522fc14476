//! `make bench`: lxm against LXC from Debian, on this machine, in this run.
//!
//! One table of medians. Rounds of the two alternate, so that whatever else the machine does
//! hits both. It says what could not be measured and why, and exits 0 whatever the numbers are.

mod base;
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
    println!("lxm {} against LXC {}", env!("CARGO_PKG_VERSION"), side::lxc_version());
    println!("{:<46}{:>12}{:>12}{:>8}   wanted", "median of", "lxm", "LXC", "ratio");
    base::measure(&sides);
    storage::measure(&sides, &work);
    for side in &sides {
        side.clean();
    }
    fs::remove_dir_all(&work).ok();
}
