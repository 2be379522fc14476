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
    // The crate's roots name all; fuzz targets are compiled for tests and fuzzing alone.
    edges.retain(|file, _| !["lib", "main", "fuzz", ""].contains(&room(file)));
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
