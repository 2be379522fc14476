//! Random trees that go every way there is and come back: the same, or with a line for what was left out.
//!
//! `tree.py` makes them, as root and as a guest's root, and describes what came of them. The seed is printed;
//! `LXM_TEST_SEED` repeats one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lxm::testing::storage::{self, Tree};
use lxm::testing::store::Layout;
use lxm::testing::types::ContainerName;

use super::{Ids, btrfs, guest, handmade, path_of};
use crate::support::command::bounded;
use crate::support::{Need, Outcome, Sandbox, Trial, run};

const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn trials() -> Vec<Trial> {
    let on_btrfs = |trial: Trial| trial.needs(Need::FileSystem("btrfs")).needs(Need::Tool("mkfs.btrfs"));
    let trial = |name, run: fn(&Sandbox)| Trial::new(name, run).needs(Need::Tool("python3")).limit(600);
    vec![
        trial("storage::what_root_made_comes_back_or_is_named", |s| {
            round_trips(s, &s.layout(), &["dir", "overlay"], true)
        }),
        trial("storage::what_a_guest_made_comes_back_or_is_named", |s| {
            round_trips(s, &s.layout(), &["overlay", "dir"], false);
        }),
        on_btrfs(trial("storage::what_is_on_btrfs_comes_back_or_is_named", |s| {
            round_trips(s, &btrfs(s).layout(), &["btrfs", "overlay", "dir"], true);
        })),
    ]
}

/// Files by path, each with all that it is.
type Described = BTreeMap<String, String>;

struct Trip<'a> {
    sandbox: &'a Sandbox,
    layout: &'a Layout,
}

impl Trip<'_> {
    fn lxm(&self, words: &[&str]) -> Outcome {
        let mut command = self.sandbox.command();
        command.env("LXM_ROOT", self.layout.root()).args(words);
        bounded(command, b"", LIMIT)
    }

    /// Runs `tree.py` in the tree of a container, as the host's root.
    fn python(&self, name: &str, words: &[&str]) -> Outcome {
        let name: ContainerName = name.parse().unwrap();
        let backend = storage::of_container(self.layout, &name).unwrap();
        let tree = Tree::open(backend.as_ref(), &self.layout.container(&name)).unwrap();
        python(tree.path(), words)
    }

    fn described(&self, name: &str) -> Described {
        let said = self.python(name, &["describe"]).ok().stdout;
        let entry = |line: &str| line.split_once(' ').map(|(path, all)| (path.to_owned(), all.to_owned()));
        said.lines().filter_map(entry).collect()
    }

    /// Makes the tree as a guest's root does: in its user namespace, on a mount with its ids.
    fn make_as_guest(&self, name: &str, words: &[&str]) {
        let name: ContainerName = name.parse().unwrap();
        let backend = storage::of_container(self.layout, &name).unwrap();
        let ids = Ids::new();
        let userns = ids.open();
        let mount = backend.mount(&self.layout.container(&name), Some(guest(&userns))).unwrap();
        let mut command = Command::new("nsenter");
        command.args([&format!("--user=/proc/{}/ns/user", ids.0.id()), "--setuid=0", "--setgid=0", "python3", "-"]);
        command.args(words).current_dir(path_of(&mount));
        command.process_group(0);
        bounded(command, include_bytes!("tree.py"), LIMIT).ok();
    }

    /// Fails where the tree of `name` is not `expected`, and what differs was not named by `said`.
    fn same(&self, way: &str, name: &str, expected: &Described, said: &[&Outcome]) {
        let found = self.described(name);
        let said: Vec<&str> = said.iter().map(|outcome| outcome.stderr.as_str()).collect();
        let said = said.join("\n");
        let paths: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
        let differ = paths.into_iter().filter(|path| found.get(*path) != expected.get(*path));
        let unnamed: Vec<String> = differ
            .filter(|path| !said.contains(&named(path)))
            .map(|path| {
                format!("{path} ({})\n  is     {:?}\n  not as {:?}", named(path), found.get(path), expected.get(path))
            })
            .collect();
        let unnamed = unnamed.into_iter().map(|line| line.chars().take(2000).collect::<String>());
        let unnamed: Vec<String> = unnamed.take(12).collect();
        assert!(unnamed.is_empty(), "{way}: not the same, and not named:\n{}\nsaid:\n{said}", unnamed.join("\n"));
    }
}

/// What a failure leaves can be removed without lxm.
struct Removable<'a>(&'a Path);

impl Drop for Removable<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(run("chattr", &["-R", "-f", "-ia", self.0.to_str().unwrap()]));
        }
    }
}

fn python(dir: &Path, words: &[&str]) -> Outcome {
    let mut command = Command::new("python3");
    command.arg("-").args(words).current_dir(dir);
    bounded(command, include_bytes!("tree.py"), LIMIT)
}

/// A path as a message has it, at least its beginning.
fn named(path: &str) -> String {
    let bytes: Vec<u8> =
        (0..path.len() / 2).map(|n| u8::from_str_radix(&path[2 * n..2 * n + 2], 16).unwrap()).collect();
    let whole = [b"opt/rand", bytes.as_slice()].concat();
    let text = String::from_utf8_lossy(&whole[..whole.len().min(300)]);
    text.replace('\n', "\\n").replace('\t', "\\t")
}

fn round_trips(sandbox: &Sandbox, layout: &Layout, backends: &[&str], as_root: bool) {
    let seed = std::env::var("LXM_TEST_SEED").unwrap_or_else(|_| "20261129".into());
    println!("LXM_TEST_SEED={seed}");
    let trip = Trip { sandbox, layout };
    let _removable = Removable(layout.root());
    for (nth, backend) in backends.iter().enumerate() {
        handmade(layout, "web", backend);
        // Once is enough of what takes long.
        let depth = if nth == 0 { "4000" } else { "40" };
        let layered = if *backend == "overlay" { "layered" } else { "" };
        let words = ["make", &format!("{seed}{nth}"), depth, layered];
        match as_root {
            true => drop(trip.python("web", &words).ok()),
            false => trip.make_as_guest("web", &words),
        }
        let expected = trip.described("web");
        assert!(expected.len() > depth.parse().unwrap(), "{}", expected.len());
        for other in backends {
            exported(&trip, &format!("{backend}, export and import to {other}"), other, &expected);
            let copied = trip.lxm(&["copy", "web", "copy", "--storage", other]).ok();
            trip.same(&format!("copy from {backend} to {other}"), "copy", &expected, &[&copied]);
            trip.lxm(&["destroy", "copy"]).ok();
        }
        trip.lxm(&["snapshot", "create", "web", "then"]).ok();
        trip.lxm(&["snapshot", "restore", "web", "then"]).ok();
        trip.same(&format!("snapshot and restore, {backend}"), "web", &expected, &[]);
        trip.lxm(&["destroy", "web"]).ok();
    }
}

fn exported(trip: &Trip, way: &str, to: &str, expected: &Described) {
    let file = trip.sandbox.path("web.tar.zst").to_str().unwrap().to_owned();
    let out = trip.lxm(&["export", "web", "-o", &file]).ok();
    let back = trip.lxm(&["import", &file, "-n", "twin", "--storage", to]).ok();
    trip.same(way, "twin", expected, &[&out, &back]);
    trip.lxm(&["destroy", "twin"]).ok();
    std::fs::remove_file(file).unwrap();
}
