//! Archives as an attacker packs them.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::support::{Guest, Sandbox, run};

pub type Tar = tar::Builder<Vec<u8>>;

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files of a guest that boots, once made for the trial.
pub fn rootfs(sandbox: &Sandbox) -> PathBuf {
    let rootfs = sandbox.path("rootfs");
    if !rootfs.exists() {
        sandbox.create("seed", Guest::Probe, &["--storage", "dir"]);
        let seed = sandbox.path("var/lib/lxm/seed/rootfs");
        run("cp", &["-a", seed.to_str().unwrap(), rootfs.to_str().unwrap()]).ok();
        fs::create_dir_all(rootfs.join("usr")).unwrap();
        sandbox.lxm(&["destroy", "seed"]).ok();
    }
    rootfs
}

pub fn entry(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

pub fn file(tar: &mut Tar, path: &str, contents: &[u8]) {
    let mut header = entry(tar::EntryType::Regular, contents.len() as u64);
    tar.append_data(&mut header, path, contents).unwrap();
}

pub fn link(tar: &mut Tar, path: &str, target: &str) {
    tar.append_link(&mut entry(tar::EntryType::Symlink, 0), path, target).unwrap();
}

pub const CONFIG: &str = "version = 1\nuuid = \"2f1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11\"\n";

pub const ORIGIN: &str = "template = \"probe\"\narch = \"amd64\"\nstorage = \"dir\"\n\
                          created = \"2026-11-28T19:29:00Z\"\nlxm = \"0.1.0\"\nids = \"524288:65536\"\n";

/// What `lxm export` would write of a container, with this configuration and what `more` adds.
pub fn export(sandbox: &Sandbox, config: &str, more: impl FnOnce(&mut Tar)) -> Vec<u8> {
    export_of(ORIGIN, |tar| {
        file(tar, "lxm/config.toml", config.as_bytes());
        tar.follow_symlinks(false);
        tar.append_dir_all("rootfs", rootfs(sandbox)).unwrap();
        more(tar);
    })
}

/// The same of what `fill` puts into it alone.
pub fn export_of(origin: &str, fill: impl FnOnce(&mut Tar)) -> Vec<u8> {
    let mut tar = Tar::new(Vec::new());
    let record = "version = 1\nname = \"evil\"\nexported = \"2026-11-28T19:29:00Z\"\nlxm = \"0.1.0\"\n";
    file(&mut tar, "lxm/export.toml", record.as_bytes());
    file(&mut tar, "lxm/origin.toml", origin.as_bytes());
    fill(&mut tar);
    // Its maker can give it the right digest.
    let digest = hex(tar.get_ref());
    file(&mut tar, "lxm/sha256", format!("{digest}\n").as_bytes());
    tar.into_inner().unwrap()
}

/// An image as `docker save` writes it: its configuration, and one layer with the guest's files.
pub fn docker(sandbox: &Sandbox, config: &serde_json::Value, more: impl FnOnce(&mut Tar)) -> Vec<u8> {
    let mut layer = Tar::new(Vec::new());
    layer.follow_symlinks(false);
    layer.append_dir_all(".", rootfs(sandbox)).unwrap();
    let layer = layer.into_inner().unwrap();
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": ["evil:1"], "Layers": ["layer.tar"] }]);
    let mut tar = Tar::new(Vec::new());
    file(&mut tar, "manifest.json", manifest.to_string().as_bytes());
    file(&mut tar, "config.json", config.to_string().as_bytes());
    file(&mut tar, "layer.tar", &layer);
    more(&mut tar);
    tar.into_inner().unwrap()
}

pub fn write(sandbox: &Sandbox, name: &str, contents: &[u8]) -> String {
    let path = sandbox.path(name);
    fs::write(&path, contents).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Fails where anything is left of a container that was not to be made.
#[track_caller]
pub fn nothing_left(sandbox: &Sandbox, dir: &Path) {
    let is_empty = |path: &Path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    let kept: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(kept.iter().all(|path| is_empty(path)), "{kept:?} in {}", sandbox.root().display());
}
