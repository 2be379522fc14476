//! The rooms of `src` from top to bottom, and that imports lead down only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::imports::Imports;

/// Every folder and file at the top of `src`, from the top to the bottom. One names only what stands on
/// a line below its own.
const ROOMS: &[&[&str]] = &[
    &["cli"],
    &["ops"],
    &["container"],
    &["attach"],
    &["host"],
    &["supervisor"],
    &["identity"],
    &["net", "storage", "template"],
    &["client", "image", "netserver", "systemd"],
    &["cgroup", "distro", "inside", "store"],
    &["config", "proto", "sys"],
    &["types"],
    &["error", "progress"],
    &["terminal"],
];

fn rank(room: &str) -> usize {
    ROOMS.iter().position(|rooms| rooms.contains(&room)).unwrap_or_else(|| panic!("src/{room} is in no rank"))
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap()
}

fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let mut edges = Imports::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).edges();
    // The crate's roots name all, and so do the faces that only fuzz targets, tests and benches see.
    edges.retain(|file, _| !["lib", "main", "fuzz", "testing", ""].contains(&room(file)));
    edges
}

#[test]
fn imports_between_rooms_lead_down() {
    let mut wrong = Vec::new();
    for (file, targets) in edges() {
        for target in targets.iter().filter(|target| !["lib", "fuzz", ""].contains(&room(target))) {
            let (from, to) = (room(&file), room(target));
            if from != to && rank(from) >= rank(to) {
                wrong.push(format!("src/{file}.rs names {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} imports lead up or sideways:\n{}", wrong.len(), wrong.join("\n"));
}

/// What acts on the world is behind `ops`; the rest are values, and what belongs to a command line.
#[test]
fn the_command_line_reaches_the_world_through_ops() {
    const NAMED: &[&str] = &[
        "cli",
        "ops",
        "container",
        "attach",
        "store",
        "config",
        "proto",
        "sys",
        "types",
        "error",
        "progress",
        "terminal",
    ];
    let mut wrong = Vec::new();
    for (file, rooms) in Imports::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).rooms() {
        // `lxm supervise` is the supervisor's own command line.
        let is_its_own = |target: &str| file == "cli/supervise" && target == "supervisor";
        let others = rooms.iter().filter(|target| !NAMED.contains(&target.as_str()) && !is_its_own(target));
        if room(&file) == "cli" {
            wrong.extend(others.map(|target| format!("src/{file}.rs names {target}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_of_a_room_name_each_other_in_no_circle() {
    let edges = edges();
    let mut circles = BTreeSet::new();
    for file in edges.keys() {
        let reachable = reachable(&edges, file);
        let back = reachable.iter().filter(|other| *other != file && self::reachable(&edges, other).contains(file));
        let circle: BTreeSet<_> = back.cloned().chain([file.clone()]).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    let text = |circle: &BTreeSet<String>| {
        let inner = |file: &String| {
            let targets: Vec<_> = edges[file].intersection(circle).cloned().collect();
            format!("  {file} -> {}", targets.join(" "))
        };
        circle.iter().map(inner).collect::<Vec<_>>().join("\n")
    };
    let texts: Vec<_> = circles.iter().map(text).collect();
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), texts.join("\n\n"));
}

/// What `file` names within its room, itself or through others.
fn reachable(edges: &BTreeMap<String, BTreeSet<String>>, file: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![file.to_owned()];
    while let Some(next) = pending.pop() {
        for target in edges.get(&next).into_iter().flatten().filter(|target| room(target) == room(file)) {
            if found.insert(target.clone()) {
                pending.push(target.clone());
            }
        }
    }
    found
}

#[test]
fn the_map_of_the_documents_is_this_one() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md")).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let room = cells.get(2)?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        Some((cells.get(1)?.parse::<usize>().ok()?, room))
    };
    let shown: Vec<_> = text.lines().filter_map(row).collect();
    let ranks = ROOMS.iter().zip(1..);
    let ranks: Vec<_> =
        ranks.flat_map(|(rooms, rank)| rooms.iter().map(move |room| (rank, (*room).to_owned()))).collect();
    assert_eq!(shown, ranks, "docs/ARCHITECTURE.md");
    let there: BTreeSet<String> = edges().keys().map(|file| room(file).to_owned()).collect();
    let known: BTreeSet<String> = ranks.into_iter().map(|(_, room)| room).collect();
    assert_eq!(there, known, "folders and files of src");
}

#[test]
fn files_say_what_they_are_about() {
    /// Shorter files are read at one glance.
    const SHORT: usize = 60;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut silent = Vec::new();
    for path in super::sizes::files(&root.join("src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let is_face = path.ends_with("mod.rs") || path.with_extension("").is_dir();
        let says = text.starts_with("//!");
        let leads =
            text.contains("Start reading at") || path.parent().unwrap() != root.join("src").join(room_of(&path));
        if !says && (is_face || text.lines().count() > SHORT) || path.ends_with("mod.rs") && !leads {
            silent.push(path.strip_prefix(root).unwrap().display().to_string());
        }
    }
    silent.retain(|file| !file.ends_with("tests.rs"));
    assert!(
        silent.is_empty(),
        "without what they are about (`//! …`), or where to start reading:\n{}",
        silent.join("\n")
    );
}

/// The folder at the top of `src` that a file is in.
fn room_of(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    below.iter().next().unwrap().to_string_lossy().into_owned()
}
