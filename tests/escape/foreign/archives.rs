//! Archives that fill the disk, the memory or the time of whoever unpacks them.

use std::fs;
use std::io::Write;
use std::time::Duration;

use super::pack::{CONFIG, ORIGIN, Tar, docker, entry, export, export_of, file, nothing_left, write};
use crate::support::{Guest, Outcome, Sandbox, Trial, command, run};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("escape::foreign::a_bomb_fills_no_disk", bombs).guest(Guest::Probe).limit(180),
        Trial::new("escape::foreign::some_of_the_disk_stays_free", full).guest(Guest::Probe),
        Trial::new("escape::foreign::absurd_archives_are_refused_in_little_memory", absurd)
            .guest(Guest::Probe)
            .limit(180),
        Trial::new("escape::foreign::what_is_no_layer_does_not_hang_an_import", layers).guest(Guest::Probe),
    ]
}

/// Compressed: zeros, `count` bytes of them, in the middle of an archive.
fn zeros(path: &str, count: u64) -> Vec<u8> {
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut header = entry(tar::EntryType::Regular, count);
    header.set_path(path).unwrap();
    header.set_cksum();
    zstd.write_all(header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), count), &mut zstd).unwrap();
    zstd.write_all(&[0; 1024]).unwrap();
    zstd.finish().unwrap()
}

/// With little memory: what an archive claims is not to be allocated.
fn in_little_memory(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    let mut prlimit = std::process::Command::new("prlimit");
    sandbox.environment(&mut prlimit);
    prlimit.arg("--data=400000000").arg(crate::support::sandbox::program()).args(args);
    command::bounded(prlimit, b"", Duration::from_secs(120))
}

fn bombs(sandbox: &Sandbox) {
    let lib = sandbox.path("var/lib/lxm");
    let bomb = zeros("zeros", 1200 << 20);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let archive = write(sandbox, "bomb.tar.zst", &bomb);
    let create = ["create", "evil", "-t", "archive", "--network", "none", "--", "--file", &archive];
    sandbox.lxm(&create).fails(1).complains("64 times as large").complains("--max-size");
    let layered =
        write(sandbox, "docker.tar", &docker(sandbox, &serde_json::json!({}), |tar| file(tar, "layer.tar", &bomb)));
    sandbox.lxm(&["import", &layered, "-n", "evil"]).fails(1).complains("--max-size");
    nothing_left(sandbox, &lib);

    // A limit of one's own: of contents, and of entries without any.
    let small = export(sandbox, CONFIG, |tar| file(tar, "rootfs/zeros", &vec![0; 24 << 20]));
    let many = export(sandbox, CONFIG, |tar| {
        (0..6000).for_each(|n| file(tar, &format!("rootfs/many{n}"), b""));
    });
    for (name, contents) in [("small.tar", small), ("many.tar", many)] {
        let archive = write(sandbox, name, &contents);
        sandbox.lxm(&["import", &archive, "--max-size", "20MiB"]).fails(1).complains("larger than 20MiB");
        nothing_left(sandbox, &lib);
        // The means: that alone was what kept it out.
        sandbox.lxm(&["import", &archive]).ok();
        sandbox.lxm(&["destroy", "-f", "evil"]).ok();
    }
}

fn full(sandbox: &Sandbox) {
    let archive = export(sandbox, CONFIG, |tar| file(tar, "rootfs/large", &vec![1; 100 << 20]));
    let archive = write(sandbox, "large.tar", &archive);
    let small = sandbox.path("small");
    fs::create_dir(&small).unwrap();
    let at = small.to_str().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=96m", "small", at]).ok();
    sandbox.lxm(&["-P", at, "import", &archive, "--storage", "dir"]).fails(1).complains("kept free for the host");
    nothing_left(sandbox, &small);
    // The means: where there is room it is taken.
    sandbox.lxm(&["import", &archive, "--storage", "dir"]).ok();
    run("umount", &[at]).ok();
}

fn absurd(sandbox: &Sandbox) {
    type Fill = fn(&mut Tar);
    let cases: [(&str, Fill, &str); 9] = [
        ("a configuration of 64 MiB", |tar| file(tar, "lxm/config.toml", &vec![b'#'; 64 << 20]), "larger than"),
        ("two configurations", |tar| (0..2).for_each(|_| file(tar, "lxm/config.toml", CONFIG.as_bytes())), "twice"),
        (
            "files of an id that the guest has not",
            |tar| (0..100).for_each(|n| file(tar, &format!("lxm/{n}"), b"x")),
            "not what `lxm export`",
        ),
        ("a header of 1 GiB", |tar| tar.append(&entry_of(b'x', 1 << 30), &[][..]).unwrap(), ""),
        ("a name of 1 GiB", |tar| tar.append(&entry_of(b'L', 1 << 30), &[][..]).unwrap(), ""),
        ("a path 64,000 deep", |tar| file(tar, &format!("rootfs/{}f", "d/".repeat(64_000)), b""), ""),
        ("a file of 8 EiB", |tar| sparse(tar, (1 << 63) - 1), "16 TiB"),
        ("a link to nothing", hard_link, "link it to"),
        ("an id that no guest has", foreign_id, "70000"),
    ];
    for (what, fill, complaint) in cases {
        let archive = export_of(ORIGIN, |tar| {
            if !what.contains("configuration") {
                file(tar, "lxm/config.toml", CONFIG.as_bytes());
            }
            file(tar, "rootfs/etc/hostname", b"evil\n");
            fill(tar);
        });
        let archive = write(sandbox, "absurd.tar", &archive);
        let said = in_little_memory(sandbox, &["import", &archive]);
        assert_eq!(said.status, 1, "{what}: {said}");
        said.complains(complaint);
        nothing_left(sandbox, &sandbox.path("var/lib/lxm"));
    }
    // The means: but for that, it is taken.
    let plain = write(sandbox, "plain.tar", &export(sandbox, CONFIG, |_| ()));
    in_little_memory(sandbox, &["import", &plain]).ok();
    sandbox.lxm(&["destroy", "-f", "evil"]).ok();
    // Ids that a privileged guest has.
    let privileged = format!("{CONFIG}[security]\nprivileged = true\n");
    let archive = write(sandbox, "ids.tar", &export(sandbox, &privileged, foreign_id));
    sandbox.lxm(&["import", &archive]).fails(1).complains("70000");
    sandbox.lxm(&["import", &archive, "--trust"]).ok();
}

fn entry_of(kind: u8, size: u64) -> tar::Header {
    let mut header = entry(tar::EntryType::new(kind), size);
    header.set_path("././@Header").unwrap();
    header.set_cksum();
    header
}

fn sparse(tar: &mut Tar, size: u64) {
    let mut header = entry(tar::EntryType::GNUSparse, 0);
    header.set_path("rootfs/sparse").unwrap();
    let gnu = header.as_gnu_mut().unwrap();
    // Base-256: octal digits do not hold it (GNU tar's manual, "Basic Tar Format").
    gnu.realsize[..].fill(0);
    gnu.realsize[0] = 0x80;
    gnu.realsize[4..].copy_from_slice(&size.to_be_bytes());
    header.set_cksum();
    tar.append(&header, &[][..]).unwrap();
}

fn hard_link(tar: &mut Tar) {
    tar.append_link(&mut entry(tar::EntryType::Link, 0), "rootfs/etc/one", "rootfs/etc/nothing").unwrap();
}

fn foreign_id(tar: &mut Tar) {
    let mut header = entry(tar::EntryType::Regular, 0);
    header.set_uid(70_000);
    tar.append_data(&mut header, "rootfs/etc/theirs", &[][..]).unwrap();
}

fn layers(sandbox: &Sandbox) {
    let lib = sandbox.path("var/lib/lxm");
    let config = serde_json::json!({ "config": { "Cmd": ["/bin/probe"] } });
    let good = docker(sandbox, &config, |_| ());
    let image = |name: &str, layers: &[&str], more: fn(&mut Tar)| {
        let manifest = serde_json::json!([{ "Config": "config.json", "Layers": layers }]);
        // What comes later takes the place of what is there.
        write(
            sandbox,
            name,
            &docker(sandbox, &config, |tar| {
                file(tar, "manifest.json", manifest.to_string().as_bytes());
                more(tar);
            }),
        )
    };
    let fifo = image("fifo.tar", &["fifo"], |tar| {
        let mut header = entry(tar::EntryType::Fifo, 0);
        tar.append_data(&mut header, "fifo", &[][..]).unwrap();
    });
    sandbox.lxm(&["import", &fifo, "-n", "evil"]).fails(1).complains("not a regular file");
    let many = image("many.tar", &["layer.tar"; 1000], |_| ());
    sandbox.lxm(&["import", &many, "-n", "evil"]).fails(1).complains("more than 127 layers");
    nothing_left(sandbox, &lib);
    // The means: with a layer that is one it is an image.
    sandbox.lxm(&["import", &write(sandbox, "good.tar", &good), "-n", "good"]).ok();
}
