//! Storage: create, snapshot, clone, export, import, and a crowd of clones.
//!
//! Wants the containers `bench-first` (Debian, full copy) and `bench-busy` (busybox) of the base.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::measured::Measured;
use crate::side::{Fresh, Side, output};
use crate::table::{Unit, compare, median, row};

/// Clones that are made and started.
const CROWD: usize = 60;
/// The Debian guest that everything here is made of.
const GUEST: &str = "bench-first";

/// Everything of this file; `work` is on a disk.
pub fn measure(sides: &[Side; 2], work: &Path) {
    create(sides, work);
    clone(sides);
    archive(sides, work);
    clones(sides);
}

fn create(sides: &[Side; 2], work: &Path) {
    let made = Fresh::new("bench-layered");
    let layered = |side: &Side| side.create(&made.name(), "debian", "overlay");
    compare("create Debian from the cache, overlay", Unit::Milliseconds, "lxm < 50 ms", sides, 3, layered);
    let ours = Btrfs::mount(sides, work).and_then(|btrfs| btrfs.create());
    let theirs = sides[1].create(&made.name(), "debian", "dir");
    row("create Debian from its image on btrfs", Unit::Milliseconds, "lxm < 50 ms", [ours, theirs]);
    made.destroy(sides);
}

/// A btrfs in a file, with an image of the Debian guest on it.
struct Btrfs {
    mount_point: PathBuf,
}

impl Btrfs {
    fn mount(sides: &[Side; 2], work: &Path) -> Measured<Self> {
        let (file, mount_point) = (work.join("btrfs.img"), work.join("btrfs"));
        let made = fs::create_dir_all(&mount_point).and_then(|()| fs::File::create(&file)?.set_len(4 << 30));
        made.map_err(|e| format!("make {}: {e}", file.display()))?;
        output(shell(&format!("mkfs.btrfs -q {0} && mount -o loop {0} {1}", file.display(), mount_point.display())))?;
        let btrfs = Btrfs { mount_point };
        let export = sides[0].command("export", &["-q", GUEST, "-o", "-", "--compression", "none"]);
        let import = btrfs.command("import", &["-q", "-n", "seed", "-"]);
        pipe(export, import)?;
        output(btrfs.command("publish", &["-q", "seed", "golden"]))?;
        Ok(btrfs)
    }

    fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = Side::lxm().command(verb, args);
        command.env("LXM_ROOT", &self.mount_point);
        command
    }

    fn create(&self) -> Measured {
        let once = || {
            let create = self.command("create", &["-q", "made", "-t", "golden", "--network", "none"]);
            let begun = Instant::now();
            output(create)?;
            let taken = begun.elapsed().as_secs_f64() * 1e3;
            output(self.command("destroy", &["-q", "made"]))?;
            Ok(taken)
        };
        Ok(median(&mut (0..5).map(|_| once()).collect::<Measured<Vec<f64>>>()?))
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        if let Err(e) = output(shell(&format!("umount {}", self.mount_point.display()))) {
            println!("    {e}");
        }
    }
}

fn clone(sides: &[Side; 2]) {
    // Of the same guest on an overlay: what is written to it since is not copied.
    let source = "bench-overlay";
    if let Err(e) = sides[0].create(source, "debian", "overlay") {
        println!("    lxm: {e}");
    }
    let made = Fresh::new("bench-copy");
    let copied = |side: &Side, how: &[&str]| {
        let to = made.name();
        match side.lxm {
            true => side.time("copy", &[source, &to]),
            false => side.time("copy", &[&["-n", GUEST, "-N", &to], how].concat()),
        }
    };
    let full = |side: &Side| copied(side, &[]);
    compare("clone a Debian guest (LXC: full copy)", Unit::Milliseconds, "lxm < 50 ms", sides, 3, full);
    let overlay = |side: &Side| copied(side, &["-s", "-B", "overlay"]);
    compare("clone a Debian guest (LXC: overlay)", Unit::Milliseconds, "lxm < 50 ms", sides, 5, overlay);
    let snapshot = |side: &Side| {
        if !side.lxm {
            return copied(side, &["-s", "-B", "overlay"]);
        }
        let taken = side.time("snapshot", &["create", source, "bench"])?;
        side.run("snapshot", &["delete", source, "bench"])?;
        Ok(taken)
    };
    compare("snapshot a Debian guest (LXC: overlay copy)", Unit::Milliseconds, "lxm < 50 ms", sides, 5, snapshot);
    made.destroy(sides);
}

/// Against `tar` and `zstd`, as an admin would pipe them.
fn archive(sides: &[Side; 2], work: &Path) {
    let tree = Side::root_of(GUEST);
    let (ours, theirs, unpacked) = (work.join("ours.tar.zst"), work.join("theirs.tar.zst"), work.join("unpacked"));
    let (tree, ours, theirs, unpacked) =
        (tree.display(), ours.display().to_string(), theirs.display(), unpacked.display());
    // lxm does not say that it is done before the disk has it, so neither do they.
    let keep = "--numeric-owner --xattrs --xattrs-include='*' --acls";
    let export = |side: &Side| match side.lxm {
        true => side.time("export", &["-q", GUEST, "-o", &ours]),
        false => time(shell(&format!("tar -c {keep} -C {tree} . | zstd -q -f -o {theirs} && sync {theirs}"))),
    };
    compare("export (`tar | zstd`, sync)", Unit::Milliseconds, "ratio <= 1.25", sides, 5, export);
    let made = Fresh::new("bench-imported");
    let import = |side: &Side| {
        let name = made.name();
        if side.lxm {
            return side.time("import", &["-q", "-n", &name, "--storage", "dir", &ours]);
        }
        let to = format!("{unpacked}/{name}");
        time(shell(&format!("mkdir -p {to}; zstd -q -d -c {theirs} | tar -x {keep} -C {to} && sync -f {to}")))
    };
    compare("import (`zstd -d | tar x`, sync)", Unit::Milliseconds, "ratio <= 1.25", sides, 5, import);
    made.destroy(sides);
}

/// Of a busybox, the same on both sides; LXC, whose commands take one container each, in a loop.
fn clones(sides: &[Side; 2]) {
    let source = "bench-source";
    let made = sides[0].create(source, "busybox", "overlay").and_then(|_| sides[1].create(source, "busybox", "dir"));
    if let Err(e) = made.and_then(|_| sides[1].make_alike(source)) {
        println!("    {e}");
    }
    let names: Vec<String> = (0..CROWD).map(|n| format!("bench-clone-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let once = |side: &Side, how: &[&str]| {
        let begun = Instant::now();
        let made = if side.lxm {
            let copy = [&["-q", source], &names[..]].concat();
            side.run("copy", &copy).and_then(|_| side.run("start", &names)).map(drop)
        } else {
            names.iter().try_for_each(|name| {
                side.run("copy", &[&["-n", source, "-N", name], how].concat())?;
                side.start(name).map(drop)
            })
        };
        let taken = begun.elapsed().as_secs_f64() * 1e3;
        for name in &names {
            side.kill(name).ok();
            side.destroy(name).ok();
        }
        made.map(|()| taken)
    };
    for (what, how) in [("full copies", &[][..]), ("overlays", &["-s", "-B", "overlay"])] {
        let what = format!("{CROWD} clones made and started (LXC: {what})");
        compare(&what, Unit::Milliseconds, "ratio <= 0.33", sides, 3, |side| once(side, how));
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", script]);
    command
}

fn time(command: Command) -> Measured {
    let begun = Instant::now();
    output(command)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// Runs two commands, the first one's output being the second one's input.
fn pipe(mut from: Command, mut to: Command) -> Measured<String> {
    let mut first = from.stdout(std::process::Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    if let Some(stdout) = first.stdout.take() {
        to.stdin(stdout);
    }
    let done = output(to);
    first.wait().map_err(|e| e.to_string())?;
    done
}
