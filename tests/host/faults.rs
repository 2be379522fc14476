//! Claims about verbs that work on files when the disk is full, or when they are killed half-way:
//! the container is as it was, nothing is left, and the same command then works.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use lxm::testing::store::Layout;

use super::storage::{Mounted, forget, handmade, left_over, tree_listing};
use super::support::{Outcome, Sandbox, Trial, command, run};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("faults::a_full_disk_leaves_the_container_as_it_was", full),
        Trial::new("faults::what_is_killed_leaves_the_container_as_it_was", killed).limit(240),
    ]
}

/// A container `web` with a snapshot `old`, and all that can be done with its files.
struct Stage<'a> {
    sandbox: &'a Sandbox,
    layout: Layout,
    /// What is imported, and where a file to push is; not on the disk that gets full.
    export: PathBuf,
    big: PathBuf,
}

/// A verb, its words, and the words of the command that undoes it.
struct Act {
    words: Vec<String>,
    undo: &'static [&'static str],
}

impl<'a> Stage<'a> {
    fn furnish(sandbox: &'a Sandbox, layout: &Layout, backend: &str, bytes: usize) -> Self {
        let stage = Stage {
            sandbox,
            layout: layout.clone(),
            export: sandbox.path(format!("export-{backend}.tar")),
            big: sandbox.path("big"),
        };
        handmade(layout, "web", backend);
        let init = sandbox.path("init");
        fs::copy("/bin/busybox", &init).unwrap();
        stage.lxm(&["push", init.to_str().unwrap(), "web:/sbin/"]).ok();
        let mut noise = vec![0; bytes];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
        fs::write(&stage.big, &noise).unwrap();
        stage.lxm(&["push", stage.big.to_str().unwrap(), "web:/etc/big"]).ok();
        stage.lxm(&["snapshot", "create", "web", "old"]).ok();
        stage.lxm_with(&["push", "-", "web:/etc/motd"], b"new").ok();
        stage.lxm(&["export", "web", "-o", stage.export.to_str().unwrap()]).ok();
        stage
    }

    fn lxm(&self, args: &[&str]) -> Outcome {
        self.lxm_with(args, b"")
    }

    fn lxm_with(&self, args: &[&str], input: &[u8]) -> Outcome {
        command::bounded(self.command(args), input, Duration::from_secs(60))
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.sandbox.command();
        command.env("LXM_ROOT", self.layout.root()).args(args);
        command
    }

    fn acts(&self, other: &str) -> Vec<Act> {
        let act = |words: &[&str], undo| Act { words: words.iter().map(|word| word.to_string()).collect(), undo };
        let out = self.layout.root().join("out.tar");
        let (out, import, big) = (out.to_str().unwrap(), self.export.to_str().unwrap(), self.big.to_str().unwrap());
        vec![
            act(&["copy", "web", "web2"], &["destroy", "web2"]),
            act(&["copy", "web", "web2", "--storage", other], &["destroy", "web2"]),
            act(&["copy", "web", "web2", "--snapshot", "old"], &["destroy", "web2"]),
            act(&["import", import, "-n", "web2"], &["destroy", "web2"]),
            act(&["snapshot", "create", "web", "made"], &["snapshot", "delete", "web", "made"]),
            act(&["export", "web", "-o", out], &[]),
            act(&["publish", "web", "golden"], &[]),
            act(&["push", big, "web:/srv-big"], &[]),
            act(&["snapshot", "restore", "web", "old"], &[]),
        ]
    }

    /// What a verb must not leave: files that were not there before. Locks and logs stay.
    fn files(&self) -> Vec<String> {
        let root = self.layout.root().to_str().unwrap();
        let but = ["-not", "-path", "*/.lock/*", "-not", "-path", "*/run/*", "-not", "-path", "*/var/log/*"];
        let found = run("find", &[&[root, "-not", "-type", "d"][..], &but].concat()).ok();
        let mut files: Vec<String> = found.stdout.lines().map(str::to_owned).collect();
        files.sort();
        files
    }

    fn names(&self) -> (Vec<String>, Vec<String>) {
        let names = self.layout.names().unwrap().iter().map(ToString::to_string).collect();
        let snapshots = fs::read_dir(self.layout.snapshots(&"web".parse().unwrap())).unwrap();
        (names, snapshots.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
    }

    /// Removes what the acts make when they work.
    fn clear(&self, act: &Act) {
        if !act.undo.is_empty() {
            self.lxm(act.undo).ok();
        }
        fs::remove_file(self.layout.root().join("out.tar")).ok();
        if act.words[0] == "publish" {
            let images = self.lxm(&["image", "list", "--format", "json"]).ok().json();
            for image in images.as_array().unwrap().iter().filter(|image| image["template"] == "golden") {
                self.lxm(&["image", "rm", image["id"].as_str().unwrap()]).ok();
            }
            fs::remove_file(self.layout.root().join("etc/lxm/templates/golden.toml")).ok();
        }
    }

    fn forget(&self) {
        forget(&self.layout, "web");
        self.lxm(&["gc"]).ok();
        assert_eq!(left_over(self.layout.containers()), Vec::<PathBuf>::new());
    }
}

/// Leaves `room` bytes on the disk of `dir`.
fn fill_up(dir: &Path, room: usize) {
    let mut filler = fs::File::create(dir.join("filler")).unwrap();
    for size in [1 << 20, 4096] {
        let zeros = vec![1; size];
        while filler.write_all(&zeros).is_ok() {}
        // What was written of the last one stays; the next size fills what is left.
    }
    filler.sync_all().ok();
    let length = filler.metadata().unwrap().len();
    filler.set_len(length - room as u64).unwrap();
}

fn full(sandbox: &Sandbox) {
    let disk = Mounted::of_size(sandbox, "ext4", &["mkfs.ext4", "-q", "-m", "0"], 96 << 20);
    for (backend, other) in [("dir", "overlay"), ("overlay", "dir")] {
        let stage = Stage::furnish(sandbox, &disk.layout(), backend, 8 << 20);
        let before = tree_listing(&stage.layout, "web");
        for room in [0, 3 << 20] {
            for act in stage.acts(other) {
                let words: Vec<&str> = act.words.iter().map(String::as_str).collect();
                fill_up(&disk.0, room);
                let (files, names) = (stage.files(), stage.names());
                let outcome = stage.lxm(&words);
                let (files_after, names_after) = (stage.files(), stage.names());
                fs::remove_file(disk.0.join("filler")).unwrap();
                match outcome.status {
                    // What takes no room works: a snapshot of an overlay, say.
                    0 => stage.clear(&act),
                    _ => {
                        let outcome = outcome.fails(1).complains("No space left on device");
                        assert_eq!(names, names_after, "{outcome}");
                        assert_eq!(files, files_after, "{outcome}");
                    }
                }
                if words[..2] == ["snapshot", "restore"] || words[0] == "push" {
                    // They change it when they work.
                    stage.lxm(&["destroy", "web2"]).fails(3);
                    continue;
                }
                assert_eq!(tree_listing(&stage.layout, "web"), before, "{backend} {words:?} with {room} left");
            }
        }
        stage.forget();
    }
}

fn killed(sandbox: &Sandbox) {
    let layout = sandbox.layout();
    for (backend, other) in [("dir", "overlay"), ("overlay", "dir")] {
        let stage = Stage::furnish(sandbox, &layout, backend, 12 << 20);
        let before = tree_listing(&stage.layout, "web");
        for act in stage.acts(other) {
            let words: Vec<&str> = act.words.iter().map(String::as_str).collect();
            let changes = words[0] == "push" || words[..2] == ["snapshot", "restore"];
            let begun = Instant::now();
            stage.lxm(&words).ok();
            let whole = begun.elapsed();
            let after = tree_listing(&stage.layout, "web");
            let made = act.undo.contains(&"web2").then(|| tree_listing(&stage.layout, "web2"));
            stage.clear(&act);
            for step in 0..5 {
                let mut child = stage.command(&words).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                std::thread::sleep(whole * step / 5);
                child.kill().ok();
                child.wait().unwrap();
                let now = tree_listing(&stage.layout, "web");
                let as_before = if changes { &after } else { &before };
                assert_eq!(&now, as_before, "{backend} {words:?} killed at {step}/5");
                let (names, _) = stage.names();
                if names.contains(&"web2".to_owned()) {
                    assert_eq!(Some(tree_listing(&stage.layout, "web2")), made, "{backend} {words:?}");
                    stage.clear(&act);
                }
                if stage.layout.snapshots(&"web".parse().unwrap()).join("made").exists() {
                    stage.clear(&act);
                }
                // Whatever is left does not keep it from working.
                stage.lxm(&words).ok();
                stage.clear(&act);
            }
            stage.lxm(&["gc"]).ok();
            let (names, snapshots) = stage.names();
            assert_eq!((names, snapshots), (vec!["web".to_owned()], vec!["old".to_owned()]), "{backend} {words:?}");
            for staging in [stage.layout.staging(), stage.layout.image_staging(), stage.layout.trash()] {
                let left = fs::read_dir(&staging).into_iter().flatten().flatten().map(|entry| entry.path());
                assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "{backend} {words:?}");
            }
            let nameless = |file: &String| file.contains("/.lxm-") || file.contains("/.tmp");
            let left: Vec<String> = stage.files().into_iter().filter(nameless).collect();
            assert_eq!(left, Vec::<String>::new(), "{backend} {words:?}");
        }
        stage.forget();
    }
}
