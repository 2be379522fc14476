//! The base: create, start, attach, list, kill, boot, and the supervisor's memory.

use std::fs;
use std::time::{Duration, Instant};

use crate::measured::Measured;
use crate::side::{Fresh, Side, rest};
use crate::table::{Unit, compare, median, row};

/// Containers that run while they are listed.
const CROWD: usize = 60;

/// Everything of this file.
pub fn measure(sides: &[Side; 2]) {
    create(sides);
    busybox(sides);
    list(sides);
    boot(sides);
}

fn create(sides: &[Side; 2]) {
    for side in sides {
        // The first one fills the cache from the archive.
        if let Err(e) = side.create("bench-first", "debian", "dir") {
            println!("    {}: {e}", side.name);
        }
    }
    let made = Fresh::new("bench-made");
    let plain = |side: &Side| side.create(&made.name(), "debian", "dir");
    let wanted = "ratio <= 0.33, lxm < 1.2 s";
    compare("create Debian from the cache, full copy", Unit::Milliseconds, wanted, sides, 3, plain);
    made.destroy(sides);
}

fn busybox(sides: &[Side; 2]) {
    let name = "bench-busy";
    for side in sides {
        if let Err(e) = side.create(name, "busybox", "dir") {
            println!("    {}: {e}", side.name);
        }
    }
    let start = |side: &Side| {
        rest();
        let taken = side.start(name)?;
        side.kill(name)?;
        Ok(taken)
    };
    compare("start busybox until it runs", Unit::Milliseconds, "ratio <= 0.67", sides, 15, start);
    let kill = |side: &Side| {
        side.start(name)?;
        // Its init starts its children, as in a guest that is used.
        rest();
        side.kill(name)
    };
    compare("kill a running busybox", Unit::Milliseconds, "ratio <= 0.5", sides, 15, kill);
    for side in sides {
        side.start(name).ok();
    }
    let attach = |side: &Side| {
        let begun = Instant::now();
        side.attach(name, &["/bin/true"])?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    };
    let attach_from_rest = |side: &Side| {
        rest();
        attach(side)
    };
    compare("attach /bin/true", Unit::Milliseconds, "ratio <= 0.5", sides, 20, attach_from_rest);
    compare("    one straight after another", Unit::Milliseconds, "ratio <= 0.5", sides, 40, attach);
    let memory = |side: &Side| {
        let supervisor = side.supervisor(name)?;
        // It has been idle for a while.
        std::thread::sleep(Duration::from_secs(2));
        proportional_kib(&supervisor)
    };
    compare("memory of the supervisor at rest (PSS)", Unit::Kibibytes, "lxm <= 1.0 MB", sides, 1, memory);
    stages(&sides[0], name);
    for side in sides {
        side.kill(name).ok();
    }
}

/// Proportional set size of a process.
fn proportional_kib(pid: &str) -> Measured {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).map_err(|e| format!("pid {pid}: {e}"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("");
    line.trim().trim_end_matches(" kB").parse().map_err(|e| format!("pid {pid}: {e}"))
}

/// Where the time of a start goes: medians of each stage over several starts.
fn stages(side: &Side, name: &str) {
    let mut order: Vec<String> = Vec::new();
    let mut samples: Vec<Vec<f64>> = Vec::new();
    for _ in 0..9 {
        let again = side.kill(name).and_then(|_| side.start(name)).and_then(|_| side.info(name));
        let Ok(info) = again else { return };
        for stage in info["stages"].as_array().into_iter().flatten() {
            let (Some(label), Some(us)) = (stage["stage"].as_str(), stage["us"].as_f64()) else { continue };
            let at = order.iter().position(|known| known == label).unwrap_or_else(|| {
                order.push(label.to_owned());
                samples.push(Vec::new());
                order.len() - 1
            });
            samples[at].push(us / 1e3);
        }
    }
    for (label, samples) in order.iter().zip(&mut samples) {
        println!("    {label:<42}{:>9.2} ms", median(samples));
    }
}

fn list(sides: &[Side; 2]) {
    // One side at a time: 120 containers would slow each other down.
    let [ours, theirs] = sides.each_ref().map(|side| {
        let names: Vec<String> = (0..CROWD).map(|n| format!("bench-crowd-{n}")).collect();
        let measured = crowd(side, &names);
        for name in &names {
            side.kill(name).ok();
            side.destroy(name).ok();
        }
        measured
    });
    row(&format!("list -f with {CROWD} running"), Unit::Milliseconds, "ratio <= 0.1", [ours, theirs]);
}

fn crowd(side: &Side, names: &[String]) -> Measured {
    for name in names {
        side.create(name, "busybox", "auto")?;
        side.start(name)?;
    }
    side.list()?;
    let mut samples = (0..10).map(|_| side.list()).collect::<Measured<Vec<f64>>>()?;
    Ok(median(&mut samples))
}

fn boot(sides: &[Side; 2]) {
    let once = |side: &Side| {
        let name = "bench-first";
        side.start(name)?;
        let taken = user_space_ms(side, name);
        side.kill(name)?;
        taken
    };
    compare("boot Debian to multi-user, in the guest", Unit::Milliseconds, "lxm < 0.6 s", sides, 5, once);
}

/// From the start of the guest's systemd to the end of its boot, by its own clock.
fn user_space_ms(side: &Side, name: &str) -> Measured {
    let deadline = Instant::now() + Duration::from_secs(60);
    let ask = ["systemctl", "show", "-p", "UserspaceTimestampMonotonic", "-p", "FinishTimestampMonotonic"];
    loop {
        // Until its bus is up, the guest's systemd cannot be asked.
        let told = side.attach(name, &ask).unwrap_or_default();
        let field = |key: &str| told.lines().find_map(|line| line.strip_prefix(key)?.parse::<f64>().ok());
        match (field("UserspaceTimestampMonotonic="), field("FinishTimestampMonotonic=")) {
            (Some(begun), Some(ended)) if ended > 0.0 => return Ok((ended - begun) / 1e3),
            _ if Instant::now() >= deadline => return Err("the guest has not booted within 60 s".into()),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
