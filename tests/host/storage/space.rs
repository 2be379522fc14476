//! What a container takes up, and a limit to it.

use std::fs;
use std::time::Duration;

use super::{btrfs, write_file};
use crate::support::{Guest, Need, Sandbox, Trial, run};

pub(super) fn trials() -> Vec<Trial> {
    let on_btrfs = |trial: Trial| trial.needs(Need::FileSystem("btrfs")).needs(Need::Tool("mkfs.btrfs"));
    vec![
        on_btrfs(Trial::new("storage::what_is_shared_and_what_is_not_is_measured", sizes)),
        on_btrfs(Trial::new("storage::a_container_on_btrfs_grows_to_its_size_and_no_further", quota)),
        Trial::new("storage::a_size_that_nothing_can_hold_is_refused", no_quota).guest(Guest::Probe),
    ]
}

fn sizes(sandbox: &Sandbox) {
    const MIB: u64 = 1 << 20;
    let sizes = |args: &[&str], name: &str| {
        let listed = sandbox.lxm(&[args, &["list", "-F", "name,size,shared", "--format", "json"]].concat()).ok().json();
        let of_it = listed.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
        (of_it["size_bytes"].as_u64().unwrap(), of_it["shared_bytes"].as_u64().unwrap())
    };
    sandbox.create("web", Guest::Busybox, &["--storage", "overlay"]);
    let image = || {
        let images = sandbox.lxm(&["image", "list", "--format", "json"]).ok().json();
        let image = images.as_array().unwrap().iter().find(|image| image["template"] == "busybox").unwrap().clone();
        (image["size_bytes"].as_u64().unwrap(), image["shared_bytes"].as_u64().unwrap())
    };
    assert_eq!(image().0, image().1, "all of it is the container's too");
    let (own, shared) = sizes(&[], "web");
    assert!(own < MIB && shared == image().0, "{own} {shared}");
    write_file(sandbox, "web:/etc/big", &vec![7; 4 * MIB as usize]);
    let (own, _) = sizes(&[], "web");
    assert!((4 * MIB..5 * MIB).contains(&own), "{own}");
    sandbox.lxm(&["snapshot", "create", "web"]).ok();
    let (own, shared) = sizes(&[], "web");
    assert!(own < MIB && shared > image().0 + 4 * MIB, "{own} {shared}");
    sandbox.lxm(&["list", "-F", "name,size,shared"]).ok().says(" MiB");
    assert_eq!(sandbox.lxm(&["list", "--format", "json"]).ok().json()[0]["size_bytes"], serde_json::Value::Null);
    assert!(sandbox.info("web", "shared_bytes").as_u64().unwrap() > 4 * MIB);
    sandbox.lxm(&["destroy", "web"]).ok();
    assert_eq!(image().1, 0);

    // By blocks in common, where the file system has such.
    let mounted = btrfs(sandbox);
    let path = ["-P", mounted.0.to_str().unwrap()];
    let lxm = |args: &[&str]| sandbox.lxm(&[&path[..], args].concat()).ok();
    lxm(&["create", "web", "-t", "busybox", "--network", "none"]).complains("storage btrfs");
    sandbox
        .lxm_with(
            &[&path[..], &["push", "-", "web:/etc/big"]].concat(),
            &vec![7; 4 * MIB as usize],
            Duration::from_secs(20),
        )
        .ok();
    run("sync", &["-f", path[1]]).ok();
    let (own, shared) = sizes(&path, "web");
    assert!(own > 4 * MIB && shared == 0, "{own} {shared}");
    lxm(&["copy", "web", "web2"]);
    run("sync", &["-f", path[1]]).ok();
    // Its many links take up a block each.
    let (own, shared) = sizes(&path, "web2");
    assert!(own < 2 * MIB && shared > 4 * MIB, "{own} {shared}");
    lxm(&["destroy", "web"]);
    lxm(&["destroy", "web2"]);
}

fn quota(sandbox: &Sandbox) {
    let mounted = btrfs(sandbox);
    let path = ["-P", mounted.0.to_str().unwrap()];
    let lxm = |args: &[&str]| sandbox.lxm(&[&path[..], args].concat());
    let noise = |mib: usize| {
        let mut noise = vec![0; mib << 20];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
        noise
    };
    let push = |at: &str, mib: usize| {
        sandbox.lxm_with(&[&path[..], &["push", "-", at]].concat(), &noise(mib), Duration::from_secs(60))
    };
    lxm(&["create", "web", "-t", "busybox", "--network", "none"]).ok();
    lxm(&["config", "set", "web", "storage.size", "24MiB"]).ok();
    push("web:/etc/kept", 4).ok();
    push("web:/etc/big", 40).fails(1).complains("Disk quota exceeded");
    // In a guest too, and what it holds then is not lost.
    lxm(&["start", "web"]).ok();
    let fill = "dd if=/dev/urandom of=/big bs=1M count=40 2>&1";
    lxm(&["attach", "web", "--", "sh", "-c", fill]).fails(1).says("Disk quota exceeded");
    lxm(&["attach", "web", "--", "rm", "/big"]).ok();
    // More room for a running guest, at once.
    lxm(&["config", "set", "web", "storage.size", "100MiB"]).ok();
    lxm(&["attach", "web", "--", "sh", "-c", fill]).ok();
    lxm(&["stop", "-k", "web"]).ok();
    // What is restored is a new subvolume, and held to the same.
    lxm(&["snapshot", "create", "web", "one"]).ok();
    lxm(&["config", "set", "web", "storage.size", "56MiB"]).ok();
    lxm(&["snapshot", "create", "web", "two"]).ok();
    lxm(&["snapshot", "restore", "web", "two"]).ok();
    lxm(&["start", "web"]).ok();
    lxm(&["attach", "web", "--", "sh", "-c", &fill.replace("/big", "/more")]).fails(1).says("Disk quota exceeded");
    lxm(&["config", "unset", "web", "storage.size"]).ok();
    lxm(&["attach", "web", "--", "sh", "-c", &fill.replace("/big", "/more")]).ok();
    lxm(&["stop", "-k", "web"]).ok();
    lxm(&["destroy", "web"]).ok();
}

fn no_quota(sandbox: &Sandbox) {
    for backend in ["dir", "overlay"] {
        sandbox.create("web", Guest::Probe, &["--storage", backend]);
        let before = fs::read(sandbox.layout().config_file(&"web".parse().unwrap())).unwrap();
        let set = sandbox.lxm(&["config", "set", "web", "storage.size", "1GiB"]);
        set.fails(5).complains("has no project quotas").complains("hint: ").complains("prjquota");
        assert_eq!(fs::read(sandbox.layout().config_file(&"web".parse().unwrap())).unwrap(), before);
        let file = sandbox.layout().config_file(&"web".parse().unwrap());
        fs::write(file, "version = 1\n[storage]\nsize = \"1GiB\"\n").unwrap();
        sandbox.lxm(&["start", "web"]).fails(5).complains("hold `storage.size`").complains("has no project quotas");
        sandbox.lxm(&["destroy", "web"]).ok();
    }
}
