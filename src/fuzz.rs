//! Every parser of untrusted input, by name: the targets that `fuzz/` fuzzes and whose corpora [`tests`]
//! replays. Built for these two alone. See docs/FUZZING.md.

use crate::terminal::{Colours, Filter};

/// A parser of untrusted bytes. That it panics is a fault of it.
pub struct FuzzTarget {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, run: fn(&[u8])) -> FuzzTarget {
    FuzzTarget { name, run }
}

/// One for each directory of `fuzz/corpus` and each program of `fuzz/Cargo.toml`.
pub const TARGETS: &[FuzzTarget] = &[
    target("archive", crate::image::fuzz::archive),
    target("control", crate::proto::control::fuzz),
    target("dhcp4", crate::netserver::fuzz::dhcp4),
    target("dns", crate::netserver::fuzz::dns),
    target("export", crate::ops::import::fuzz::export),
    target("frame", crate::netserver::fuzz::frame),
    target("leases", crate::netserver::fuzz::leases),
    target("lxc", crate::ops::import::fuzz::lxc),
    target("nspawn", crate::ops::import::fuzz::nspawn),
    target("oci", crate::ops::import::fuzz::oci),
    target("packages", crate::distro::packages::fuzz),
    target("solicitation", crate::netserver::fuzz::solicitation),
    target("terminal", terminal),
];

/// Runs the target of this name.
///
/// # Panics
/// When there is none, and when it is at fault.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target `{name}`")).run)(input);
}

/// What a guest writes to its console: what is answered, and what is left of it for a terminal.
fn terminal(input: &[u8]) {
    let _ = crate::supervisor::answer::answers(input, (24, 80));
    let new = || Filter::new(Colours::Kept);
    let whole = new().pass(input);
    let (mut filter, (first, second)) = (new(), input.split_at(input.len() / 2));
    assert_eq!([filter.pass(first), filter.pass(second)].concat(), whole, "pieces are filtered as the whole is");
    assert_eq!(new().pass(&whole), whole, "what was filtered is left as it is");
    let _ = crate::terminal::line(&String::from_utf8_lossy(input));
}

#[cfg(test)]
fn dir() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files of a target's corpus, sorted: names and contents.
#[cfg(test)]
pub fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir().join("corpus").join(target)).unwrap().map(Result::unwrap);
    let mut inputs: Vec<_> =
        entries.map(|it| (it.file_name().into_string().unwrap(), std::fs::read(it.path()).unwrap())).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{target}");
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::panic::{catch_unwind, resume_unwind};
    use std::time::{Duration, Instant};

    /// Gives `run` the input cut at many lengths and with many bytes changed: all of them where it is short.
    fn mutilate(input: &[u8], run: fn(&[u8])) {
        let step = input.len() / 500 + 1;
        (0..input.len()).step_by(step).for_each(|length| run(&input[..length]));
        let mut changed = input.to_vec();
        for at in (0..input.len()).step_by(step) {
            for byte in [0, 1, 0x3f, 0x7f, 0x80, 0xc0, 0xff] {
                changed[at] = byte;
                run(&changed);
            }
            changed[at] = input[at];
        }
    }

    #[test]
    fn nothing_of_the_corpora_panics_whole_or_mutilated() {
        std::thread::scope(|scope| {
            for FuzzTarget { name, run } in TARGETS {
                let replay = move || {
                    for (file, input) in inputs(name) {
                        // Shown if what follows panics.
                        println!("fuzz/corpus/{name}/{file}");
                        run(&input);
                        mutilate(&input, *run);
                    }
                };
                // As small a stack as the threads of a server have: depth is the sender's to choose.
                let thread = std::thread::Builder::new().name((*name).to_owned()).stack_size(1 << 20);
                thread.spawn_scoped(scope, replay).unwrap();
            }
        });
    }

    /// Gives `run` the inputs with pieces changed, repeated, removed and taken from one another at random,
    /// for as long as that: a fuzzer that sees no coverage and needs no build of its own.
    fn shuffle(name: &str, inputs: &[(String, Vec<u8>)], run: fn(&[u8]), time: Duration) {
        let mut state = 0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id());
        let mut random = move |below: usize| {
            // Marsaglia's xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below.max(1) as u64) as usize
        };
        let (begun, mut count) = (Instant::now(), 0u64);
        while begun.elapsed() < time {
            let mut input = inputs[random(inputs.len())].1.clone();
            for _ in 0..=random(8) {
                let (from, to) = (random(input.len() + 1), random(input.len() + 1));
                let piece = from.min(to)..from.max(to).min(from.min(to) + 64);
                match random(5) {
                    0 if !piece.is_empty() => input[piece.start] = [0, 1, b'0', b'-', 0x7f, 0x80, 0xff][random(7)],
                    1 if !piece.is_empty() => input[piece.start] ^= 1 << random(8),
                    2 => drop(input.drain(piece)),
                    3 => input.extend_from_within(piece),
                    _ => {
                        let other = &inputs[random(inputs.len())].1;
                        let end = random(other.len() + 1);
                        let start = random(end + 1).max(end.saturating_sub(64));
                        input.splice(piece, other[start..end].iter().copied());
                    }
                }
            }
            if let Err(panic) = catch_unwind(|| run(&input)) {
                let file = std::env::temp_dir().join(format!("lxm-found-{name}"));
                std::fs::write(&file, &input).unwrap();
                println!("found: {}", file.display());
                resume_unwind(panic);
            }
            count += 1;
        }
        println!("{name}: {count} inputs");
    }

    /// Only when LXM_FUZZ_SECONDS says for how long each.
    #[test]
    fn nothing_panics_of_what_chance_makes_of_the_corpora() {
        let seconds = std::env::var("LXM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        for FuzzTarget { name, run } in TARGETS {
            shuffle(name, &inputs(name), *run, Duration::from_secs(seconds));
        }
    }

    #[test]
    fn targets_programs_corpora_and_the_document_agree() {
        let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        let corpora = std::fs::read_dir(dir().join("corpus")).unwrap();
        let corpora = corpora.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let manifest: toml::Table = std::fs::read_to_string(dir().join("Cargo.toml")).unwrap().parse().unwrap();
        let programs = manifest["bin"].as_array().unwrap();
        let programs = programs.iter().map(|program| program["name"].as_str().unwrap().to_owned()).collect();
        let document = std::fs::read_to_string(dir().with_file_name("docs/FUZZING.md")).unwrap();
        // Names are in the first column of the first table; what was found has another one.
        let (table, _) = document.split_once("\n## To fuzz").unwrap();
        let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
        let documented = cells.flat_map(|cell| cell.split(['`', ',', ' ']).filter(|name| !name.is_empty()));
        let documented: BTreeSet<String> = documented.map(str::to_owned).collect();
        assert_eq!((&targets, &targets, &targets), (&corpora, &programs, &documented));
    }
}
