//! One bad neighbour keeps no other container from anything: bad things × verbs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::Mode;

use crate::support::{Guest, Sandbox, Trial, command};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe).limit(240);
    vec![
        probe("neighbours::what_lies_beside_containers_disturbs_none", strays),
        probe("neighbours::a_broken_container_disturbs_no_other", broken_files),
        probe("neighbours::what_cannot_be_removed_is_named_and_stops_nothing", removal),
        probe("neighbours::a_mistake_in_the_hosts_defaults_stops_nothing", host_defaults),
    ]
}

/// What can stand where a file is expected.
const BAD: [&str; 6] = ["a fifo", "a directory", "a link to nowhere", "no TOML", "no text", "a huge file"];

fn put(kind: &str, at: &Path) {
    match kind {
        "a fifo" => nix::unistd::mkfifo(at, Mode::S_IRUSR | Mode::S_IWUSR).unwrap(),
        "a directory" => fs::create_dir(at).unwrap(),
        "a link to nowhere" => symlink("/nowhere", at).unwrap(),
        "no TOML" => fs::write(at, "[[[").unwrap(),
        "no text" => fs::write(at, [0xff; 4096]).unwrap(),
        // Sparse.
        "a huge file" => fs::File::create(at).unwrap().set_len(1 << 40).unwrap(),
        other => panic!("{other}"),
    }
}

fn take_away(at: &Path) {
    if at.symlink_metadata().unwrap().is_dir() { fs::remove_dir_all(at) } else { fs::remove_file(at) }.unwrap();
}

/// Every kind of verb on the container `good`, and what is done to all.
fn all_verbs_work(sandbox: &Sandbox, beside: &str) {
    let lxm = |words: &str| {
        let args: Vec<&str> = words.split(' ').collect();
        // One that hangs fails here.
        let outcome = sandbox.lxm_with(&args, b"", Duration::from_secs(20));
        assert_eq!(outcome.status, 0, "`lxm {words}` beside {beside}: {}", outcome.stderr);
        outcome
    };
    assert!(lxm("list").stdout.contains("good"), "{beside}");
    assert!(lxm("list -f --format json").stdout.contains("\"good\""), "{beside}");
    lxm("info good");
    lxm("start good --wait booted");
    lxm("restart good");
    lxm("stop -k good");
    // It says which of the containers did not start, and starts the rest.
    let _ = sandbox.lxm_with(&["autostart"], b"", Duration::from_secs(20));
    assert_eq!(sandbox.info("good", "state"), "running", "{beside}");
    let _ = sandbox.lxm_with(&["autostart", "--stop"], b"", Duration::from_secs(20));
    assert_eq!(sandbox.info("good", "state"), "stopped", "{beside}");
    lxm("boot-report");
    lxm("copy good more");
    lxm("snapshot create more s");
    lxm("snapshot restore more s");
    lxm("snapshot delete more s");
    lxm("rename more most");
    lxm("image list");
    lxm("destroy most");
    assert!(!sandbox.path("var/lib/lxm/most").exists(), "{beside}");
}

fn strays(sandbox: &Sandbox) {
    sandbox.create("good", Guest::Probe, &[]);
    sandbox.lxm(&["enable", "good"]).ok();
    let containers = sandbox.path("var/lib/lxm");
    for kind in BAD {
        put(kind, &containers.join("stray"));
        all_verbs_work(sandbox, kind);
        sandbox.lxm(&["gc"]).ok();
        sandbox.lxm(&["create", "-t", "busybox", "-n", "stray"]).fails(4).complains("is not a container");
        sandbox.lxm(&["destroy", "stray"]).fails(3);
        assert!(containers.join("stray").symlink_metadata().is_ok());
        take_away(&containers.join("stray"));
    }
    let odd = containers.join("not a name");
    fs::create_dir(&odd).unwrap();
    put("a fifo", &odd.join("origin.toml"));
    for dir in [".staging", ".trash"] {
        fs::create_dir_all(containers.join(dir)).unwrap();
        put("a fifo", &containers.join(dir).join("left"));
        fs::create_dir(containers.join(dir).join("half")).unwrap();
        put("no TOML", &containers.join(dir).join("half/origin.toml"));
    }
    let snapshots = containers.join("good/snapshots");
    fs::create_dir_all(&snapshots).unwrap();
    for kind in ["a fifo", "a directory", "no TOML"] {
        put(kind, &snapshots.join("stray"));
        all_verbs_work(sandbox, &format!("{kind} among snapshots"));
        take_away(&snapshots.join("stray"));
    }
    // As many as nobody has, and each is no container.
    let crowd = containers.join("crowd");
    fs::create_dir(&crowd).unwrap();
    for number in 0..20_000 {
        fs::write(crowd.join(number.to_string()), "").unwrap();
    }
    all_verbs_work(sandbox, "a crowded directory");
    fs::remove_dir_all(&crowd).unwrap();
    fs::remove_dir_all(&odd).unwrap();
    sandbox.lxm(&["gc"]).ok();
    for dir in [".staging", ".trash"] {
        let left = containers.join(dir).join("left");
        if left.symlink_metadata().is_ok() {
            take_away(&left);
        }
    }
    let _ = fs::remove_dir(&snapshots);
    fs::remove_file(sandbox.path("run/lxm/.autostart.toml")).unwrap();
}

fn broken_files(sandbox: &Sandbox) {
    sandbox.create("good", Guest::Probe, &[]);
    sandbox.create("bad", Guest::Probe, &["--storage", "overlay"]);
    for name in ["good", "bad"] {
        sandbox.lxm(&["enable", name]).ok();
    }
    let place = sandbox.path("var/lib/lxm/bad");
    for (file, kinds) in [
        ("config.toml", &BAD[..]),
        ("origin.toml", &BAD),
        ("home.toml", &["a fifo", "no TOML"]),
        ("overlay.toml", &["a fifo", "no TOML"]),
    ] {
        for kind in kinds {
            let (at, aside) = (place.join(file), sandbox.path("aside"));
            fs::rename(&at, &aside).unwrap();
            put(kind, &at);
            all_verbs_work(sandbox, &format!("`{file}`, which is {kind}"));
            take_away(&at);
            fs::rename(&aside, &at).unwrap();
        }
    }
    sandbox.lxm(&["start", "bad"]).ok();
    sandbox.lxm(&["stop", "-k", "bad"]).ok();
    // One whose files cannot be read can be removed.
    for file in ["config.toml", "origin.toml"] {
        take_away(&place.join(file));
        put("a fifo", &place.join(file));
    }
    sandbox.lxm(&["destroy", "bad"]).ok();
    assert!(!place.exists());
    fs::remove_file(sandbox.path("run/lxm/.autostart.toml")).unwrap();
}

fn host_defaults(sandbox: &Sandbox) {
    sandbox.create("good", Guest::Probe, &[]);
    sandbox.lxm(&["enable", "good"]).ok();
    let file = sandbox.path("etc/lxm/lxm.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    for kind in BAD {
        put(kind, &file);
        all_verbs_work(sandbox, &format!("an lxm.toml that is {kind}"));
        take_away(&file);
    }
    fs::write(&file, "templte = \"x\"\n").unwrap();
    sandbox.lxm(&["list"]).ok().complains("warning: ").complains("unknown field `templte`");
    // What takes its defaults from there does not guess them.
    sandbox.lxm(&["create", "-n", "c"]).fails(6).complains("unknown field `templte`");
    // Where the containers are is known all the same, or not guessed.
    let elsewhere = sandbox.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(&file, format!("path = \"{}\"\ntemplte = \"x\"\n", elsewhere.display())).unwrap();
    assert_eq!(sandbox.lxm(&["list"]).ok().stdout, "");
    fs::write(&file, "path = /elsewhere\n").unwrap();
    sandbox.lxm(&["list"]).fails(6).complains("lxm.toml:1");
    fs::remove_file(&file).unwrap();
    fs::remove_dir(&elsewhere).unwrap();
    fs::remove_file(sandbox.path("run/lxm/.autostart.toml")).unwrap();
}

/// Mounts, flags and depth in the way of removing.
fn removal(sandbox: &Sandbox) {
    let mounted = |at: &Path| {
        fs::create_dir_all(at).unwrap();
        nix::mount::mount(Some("t"), at, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
    };
    let containers = sandbox.path("var/lib/lxm");
    for backend in ["dir", "overlay"] {
        for name in ["a", "bad", "c"] {
            sandbox.create(name, Guest::Probe, &["--storage", backend]);
        }
        sandbox.lxm(&["snapshot", "create", "bad", "s"]).ok();
        let tree = match backend {
            "dir" => containers.join("bad/rootfs"),
            _ => {
                let record = fs::read_to_string(containers.join("bad/overlay.toml")).unwrap();
                let upper = record.lines().find_map(|line| line.strip_prefix("upper = ")).unwrap();
                containers.join(".layers").join(upper.trim_matches('"')).join("fs")
            }
        };
        mounted(&tree.join("mnt/below"));
        fs::write(tree.join("fixed"), "").unwrap();
        command::run("chattr", &["+i", tree.join("fixed").to_str().unwrap()]).ok();
        let deep = "import os,sys\nos.chdir(sys.argv[1])\nfor n in range(4000): os.mkdir('d'); os.chdir('d')";
        command::run("python3", &["-c", deep, tree.to_str().unwrap()]).ok();
        // It is out of the way, and what is left is named by who removes it or by `gc`.
        let told = sandbox.lxm(&["destroy", "a", "bad", "c"]);
        assert_eq!(told.status, if backend == "dir" { 1 } else { 0 }, "{}", told.stderr);
        assert_eq!(sandbox.lxm(&["list"]).ok().stdout, "");
        sandbox.lxm(&["gc"]).fails(1).complains("mnt/below").complains("something is mounted there");
        // Another of its name is no worse off.
        sandbox.create("bad", Guest::Probe, &["--storage", backend]);
        sandbox.lxm(&["snapshot", "create", "bad", "s"]).ok();
        sandbox.lxm(&["snapshot", "restore", "bad", "s"]).ok();
        sandbox.lxm(&["destroy", "bad"]).ok();
        assert_eq!(sandbox.lxm(&["list"]).ok().stdout, "");
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        let at = table.lines().filter_map(|line| line.split(' ').nth(1)).find(|at| at.ends_with("mnt/below")).unwrap();
        assert!(Path::new(at).starts_with(&containers), "{at}");
        nix::mount::umount(at).unwrap();
        sandbox.lxm(&["gc"]).ok();
    }
    // A restore that leaves something has been done, and the next one works.
    sandbox.create("a", Guest::Probe, &["--storage", "dir"]);
    sandbox.lxm(&["snapshot", "create", "a", "s"]).ok();
    mounted(&containers.join("a/rootfs/mnt/below"));
    fs::write(containers.join("a/rootfs/later"), "").unwrap();
    sandbox.lxm(&["snapshot", "restore", "a", "s"]).fails(1).complains("it is restored, but").complains("mnt/below");
    assert!(!containers.join("a/rootfs/later").exists());
    sandbox.lxm(&["snapshot", "restore", "a", "s"]).ok();
    sandbox.lxm(&["snapshot", "create", "a", "t"]).ok();
    sandbox.lxm(&["snapshot", "delete", "a", "s"]).ok();
    nix::mount::umount(&containers.join("a/snapshots/.restored/rootfs/mnt/below")).unwrap();
    sandbox.lxm(&["snapshot", "delete", "a", "t"]).ok();
    assert!(!containers.join("a/snapshots/.restored").exists());
}
