//! Archives, configurations and servers that want more than a fresh container has.

mod archives;
mod files;
mod names;
mod pack;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use self::pack::{CONFIG, docker, export, export_of, file, link, nothing_left, rootfs, write};
use crate::download::Server;
use crate::support::{Guest, Sandbox, Trial, run};

pub use self::pack::{ORIGIN, docker as docker_archive, export_of as export_with, file as put, write as write_archive};

pub fn trials() -> Vec<Trial> {
    let own = vec![
        Trial::new("escape::foreign::an_export_gives_no_more_than_a_fresh_container", exported).guest(Guest::Probe),
        Trial::new("escape::foreign::containers_of_lxc_nspawn_and_docker_give_no_more", others).guest(Guest::Probe),
        Trial::new("escape::foreign::a_snapshot_does_not_bring_back_what_was_taken_away", snapshot).guest(Guest::Probe),
        Trial::new("escape::foreign::links_in_place_of_what_is_read_are_not_followed", links).guest(Guest::Probe),
        Trial::new("escape::foreign::a_server_that_proves_nothing_is_not_believed", server).guest(Guest::Probe),
        Trial::new("escape::foreign::an_impossible_mount_is_reported_and_can_be_unset", unfit).guest(Guest::Probe),
        Trial::new("escape::foreign::settings_that_no_start_takes_are_not_taken_over", unusable).guest(Guest::Probe),
        Trial::new("escape::foreign::files_that_the_guest_could_not_have_are_refused", too_much).guest(Guest::Probe),
        Trial::new("escape::foreign::the_callers_umask_opens_and_closes_nothing", umask).guest(Guest::Probe),
    ];
    [own, archives::trials(), files::trials(), names::trials()].into_iter().flatten().collect()
}

const MORE: &str = r#"[boot]
autostart = true
stop-timeout = "3h"
wait-timeout = "3h"
[security]
privileged = true
nesting = true
idmap = "1:2147483000"
capabilities-add = ["sys_time"]
seccomp = "off"
syscalls-allow = ["io-uring"]
address-families = ["all"]
apparmor = "off"
[limits]
pids = 1000000
[snapshots]
schedule = "hourly"
[network.eth0]
type = "host"
[[mount]]
source = "/etc"
target = "/mnt"
[[device]]
path = "/dev/fuse"
"#;

/// What a guest may, of its configuration, without names and addresses.
fn rights(sandbox: &Sandbox, name: &str) -> lxm::testing::config::Config {
    let text = sandbox.lxm(&["config", "show", name]).ok().stdout;
    let config: lxm::testing::config::Config = toml::from_str(&text).unwrap();
    lxm::testing::config::Config { uuid: String::new(), ..config }
}

fn exported(sandbox: &Sandbox) {
    let archive = write(sandbox, "evil.tar", &export(sandbox, &format!("{CONFIG}{MORE}"), |_| ()));
    let said = sandbox.lxm(&["import", &archive, "-n", "evil"]).ok();
    let settings = [
        "security.privileged",
        "security.nesting",
        "security.idmap",
        "security.capabilities-add",
        "security.syscalls",
        "security.syscalls-allow",
        "security.address-families",
        "security.apparmor",
        "boot.autostart",
        "boot.stop-timeout",
        "boot.wait-timeout",
        "limits.pids",
        "snapshots.schedule",
        "network.eth0",
        "mount",
        "device",
    ];
    let said = settings.iter().fold(said, |said, key| said.complains(&format!("not taken over: `{key}`")));
    said.complains("/etc at /mnt").complains("--trust");
    assert_eq!(rights(sandbox, "evil"), lxm::testing::config::Config::default());
    assert_eq!(sandbox.info("evil", "privileged"), false);
    // The ids of others are there for them.
    sandbox.create("after", Guest::Probe, &[]);
    sandbox.lxm(&["start", "evil"]).ok();
    sandbox.lxm(&["stop", "-k", "evil"]).ok();

    // The means: all of it is in the archive, and is taken over by who trusts it.
    sandbox.lxm(&["destroy", "-f", "evil"]).ok();
    let said = sandbox.lxm(&["import", &archive, "-n", "evil", "--trust"]).ok();
    said.complains("taken over on trust: `security.syscalls` (off)");
    let wanted: lxm::testing::config::Config = toml::from_str(&format!("{CONFIG}{MORE}")).unwrap();
    assert_eq!(rights(sandbox, "evil"), lxm::testing::config::Config { uuid: String::new(), ..wanted });
    sandbox.lxm(&["destroy", "-f", "evil"]).ok();
}

/// Ids outside of the guest's range, and more than its quota.
fn too_much(sandbox: &Sandbox) {
    let strange = |tar: &mut pack::Tar, path: &str, id: u64| {
        let mut header = pack::entry(tar::EntryType::Regular, 0);
        header.set_uid(id);
        tar.append_data(&mut header, path, &b""[..]).unwrap();
    };
    let packed = |id| {
        let mut tar = pack::Tar::new(Vec::new());
        tar.follow_symlinks(false);
        tar.append_dir_all(".", rootfs(sandbox)).unwrap();
        strange(&mut tar, "./srv/theirs", id);
        tar.into_inner().unwrap()
    };
    let archive = write(sandbox, "ids.tar", &packed(65536));
    let create = ["create", "-t", "archive", "a", "--", "--file", &archive];
    sandbox.lxm(&create).fails(1).complains("`srv/theirs` belongs to the id 65536").complains("--id-range-size");
    nothing_left(sandbox, &sandbox.path("var/lib/lxm"));
    let kept = |name: &str| {
        fs::read_dir(sandbox.path("var/cache/lxm/images")).unwrap().flatten().any(|e| e.file_name() == *name)
    };
    let images = || sandbox.lxm(&["image", "list", "--format", "json"]).ok().stdout.matches("\"id\"").count();
    let before = images();
    // The means: the same archive makes one that has all ids, and the next lower id is anybody's.
    sandbox.lxm(&["create", "--privileged", "-t", "archive", "a", "--", "--file", &archive]).ok();
    assert_eq!(images(), before + 1);
    // Its image is there now, and is no way round.
    let create = ["create", "-t", "archive", "b", "--", "--file", &archive];
    sandbox.lxm(&create).fails(1).complains("`srv/theirs`");
    sandbox.lxm(&["destroy", "a"]).ok();
    let archive = write(sandbox, "ids.tar", &packed(65535));
    sandbox.lxm(&["create", "-t", "archive", "a", "--", "--file", &archive]).ok();
    sandbox.lxm(&["destroy", "a"]).ok();
    assert!(!kept(".staging") || is_empty(&sandbox.path("var/cache/lxm/images/.staging")));

    let theirs = export(sandbox, CONFIG, |tar| strange(tar, "rootfs/srv/theirs", 100_000));
    let archive = write(sandbox, "evil.tar", &theirs);
    sandbox.lxm(&["import", &archive, "-n", "evil"]).fails(1).complains("`srv/theirs` belongs to the id 100000");
    nothing_left(sandbox, &sandbox.path("var/lib/lxm"));
    // A tree of nspawn's, whose ids are not counted on the way.
    let strange = rootfs(sandbox).join("srv/theirs");
    fs::create_dir_all(strange.parent().unwrap()).unwrap();
    fs::write(&strange, "").unwrap();
    std::os::unix::fs::chown(&strange, Some(70_000), None).unwrap();
    let tree = rootfs(sandbox);
    sandbox.lxm(&["import", tree.to_str().unwrap(), "-n", "evil"]).fails(1).complains("id 70000");
    nothing_left(sandbox, &sandbox.path("var/lib/lxm"));
    fs::remove_file(&strange).unwrap();

    let config = format!("{CONFIG}[storage]\nsize = \"2MiB\"\n");
    let large = export(sandbox, &config, |tar| file(tar, "rootfs/srv/large", &[1; 3 << 20]));
    let archive = write(sandbox, "large.tar", &large);
    let import = ["import", &archive, "-n", "evil", "--storage"];
    let said = sandbox.lxm(&[&import[..], &["dir"]].concat()).fails(1);
    said.complains("its `storage.size` of 2MiB").complains("--storage overlay");
    nothing_left(sandbox, &sandbox.path("var/lib/lxm"));
    // Where only what is written later counts, it is taken.
    sandbox.lxm(&[&import[..], &["overlay"]].concat()).ok();
}

fn is_empty(dir: &std::path::Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

/// An earlier lxm took such targets, and archives hold what they like.
fn unfit(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &[]);
    let file = sandbox.layout().config_file(&"web".parse().unwrap());
    let fresh = fs::read_to_string(&file).unwrap();
    let with = |config: &str, target: &str| format!("{config}\n[[mount]]\nsource = \"/srv\"\ntarget = \"{target}\"\n");
    for target in ["/run", "srv", "/proc/sys"] {
        fs::write(&file, with(&fresh, target)).unwrap();
        let said = sandbox.lxm(&["start", "web"]).fails(6);
        said.complains("`mount.0.target`").complains("lxm config unset web mount.0");
        assert_eq!(sandbox.lxm(&["config", "get", "web", "mount.0.target"]).ok().line(), target);
        sandbox.lxm(&["config", "set", "web", "description", "mine"]).ok();
        sandbox.lxm(&["config", "set", "web", "mount.0.target", "/dev"]).fails(6).complains("mount.0.target");
        sandbox.lxm(&["config", "set", "web", "mount.0.target", "/mnt"]).ok();
        fs::write(&file, with(&fresh, target)).unwrap();
        sandbox.lxm(&["config", "unset", "web", "mount.0"]).ok();
        // The means: it was this setting that kept it from starting.
        sandbox.lxm(&["start", "web"]).ok();
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        let archive = write(sandbox, "old.tar", &export(sandbox, &with(CONFIG, target), |_| ()));
        for more in [&[][..], &["--trust"]] {
            let said = sandbox.lxm(&[&["import", archive.as_str(), "-n", "old"], more].concat()).ok();
            said.complains("not taken over: `mount.0.target`").complains(target);
            assert!(rights(sandbox, "old").mount.is_empty());
            sandbox.lxm(&["destroy", "-f", "old"]).ok();
        }
    }
}

/// What `start` refuses is not taken over, whoever is trusted.
fn unusable(sandbox: &Sandbox) {
    let text = "version = 1\nuuid = \"nonsense\"\n[boot]\ninit = \"sbin/init\"\n[security]\n\
                capabilities-add = [\"all\"]\n[limits]\ncpuset = \"foo\"\npids = 0\n[environment]\nA = \"x\\u0000\"\n\"\" = \"y\"\n";
    let archive = write(sandbox, "bad.tar", &export(sandbox, text, |_| ()));
    let keys = ["uuid", "boot.init", "security.capabilities-add.0", "limits.cpuset", "limits.pids", "environment.A"];
    for more in [&[][..], &["--trust"]] {
        let said = sandbox.lxm(&[&["import", archive.as_str(), "-n", "bad"], more].concat()).ok();
        keys.iter().fold(said, |said, key| said.complains(&format!("not taken over: `{key}`")));
        sandbox.lxm(&["start", "bad"]).ok();
        sandbox.lxm(&["stop", "-k", "bad"]).ok();
        // The means: a file that holds one keeps it from starting, and no verb writes it.
        let file = sandbox.layout().config_file(&"bad".parse().unwrap());
        fs::write(&file, text).unwrap();
        sandbox.lxm(&["start", "bad"]).fails(6).complains("boot.init");
        sandbox.lxm(&["destroy", "-f", "bad"]).ok();
    }
    sandbox.create("web", Guest::Probe, &[]);
    for (key, value) in [("boot.init", "sbin/init"), ("limits.pids", "0"), ("security.capabilities-add", "all")] {
        sandbox.lxm(&["config", "set", "web", key, value]).fails(6).complains(key);
    }
}

fn others(sandbox: &Sandbox) {
    let copy = |at: &str| {
        let to = sandbox.path(at);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        run("cp", &["-a", rootfs(sandbox).to_str().unwrap(), to.to_str().unwrap()]).ok();
    };
    copy("lxc/old/rootfs");
    let lxc = "lxc.uts.name = old\nlxc.idmap = u 0 100000 65536\nlxc.net.0.type = none\nlxc.cgroup2.pids.max = 1000000\n\
               lxc.mount.entry = /etc mnt none bind 0 0\n";
    fs::write(sandbox.path("lxc/old/config"), lxc).unwrap();
    copy("machines/tree");
    let nspawn = "[Exec]\nCapability=CAP_SYS_TIME\n[Files]\nBind=/etc:/mnt\n[Network]\nPrivate=no\n";
    fs::write(sandbox.path("machines/tree.nspawn"), nspawn).unwrap();
    let process = serde_json::json!({ "Cmd": ["/bin/probe"], "ExposedPorts": { "22/tcp": {} } });
    let image = serde_json::json!({ "architecture": lxm::testing::types::Arch::host().to_string(), "config": process });
    write(sandbox, "image.tar", &docker(sandbox, &image, |_| ()));

    let path = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
    for (source, told) in
        [("lxc/old", "`mount` (/etc at /mnt)"), ("machines/tree", "CAP_SYS_TIME"), ("image.tar", "22/tcp")]
    {
        sandbox.lxm(&["import", &path(source), "-n", "evil"]).ok().complains(told);
        let mut has = rights(sandbox, "evil");
        let network = std::mem::take(&mut has.network);
        // Kept from the host's network, and on no bridge that they were not on either.
        let wired: Vec<_> = network.values().map(|network| network.bridge.as_deref()).collect();
        assert!(wired.is_empty() || source == "image.tar" && wired == [Some("lxmbr0")], "{source}: {network:?}");
        assert!(network.values().all(|network| network.publish.is_empty()));
        assert_eq!(has, lxm::testing::config::Config::default(), "{source}");
        sandbox.lxm(&["destroy", "-f", "evil"]).ok();
        if source == "image.tar" {
            continue;
        }
        sandbox.lxm(&["import", &path(source), "-n", "evil", "--trust"]).ok().complains("on trust");
        let has = rights(sandbox, "evil");
        assert_eq!(has.mount.len(), 1, "{source}");
        assert_eq!(has.network["eth0"].kind, lxm::testing::config::NetworkType::Host, "{source}");
        sandbox.lxm(&["destroy", "-f", "evil"]).ok();
    }
}

/// CVE-2026-48751.
fn snapshot(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "dir"]);
    let set = |key: &str, value: &str| drop(sandbox.lxm(&["config", "set", "web", key, value]).ok());
    let get = |name: &str, key: &str| sandbox.lxm(&["config", "get", name, key]).ok().line().to_owned();
    set("security.nesting", "true");
    set("limits.memory", "2GiB");
    set("description", "then");
    sandbox.lxm(&["snapshot", "create", "web", "then"]).ok();
    set("security.nesting", "false");
    set("limits.memory", "1GiB");
    let restored = sandbox.lxm(&["snapshot", "restore", "web", "then"]).ok();
    restored.complains("`security.nesting` (true)").complains("`limits.memory` (2GiB)").complains("--trust");
    assert_eq!((get("web", "security.nesting"), get("web", "limits.memory")), ("false".into(), "1GiB".into()));
    assert_eq!(get("web", "description"), "then");
    sandbox.lxm(&["copy", "--snapshot", "then", "web", "two"]).ok().complains("`security.nesting` (true)");
    assert_eq!(get("two", "security.nesting"), "false");
    // The means: the snapshot has it.
    sandbox.lxm(&["snapshot", "restore", "--trust", "web", "then"]).ok();
    assert_eq!((get("web", "security.nesting"), get("web", "limits.memory")), ("true".into(), "2GiB".into()));
}

/// CVE-2026-63125, CVE-2026-63343, CVE-2026-48749 and their kin.
fn links(sandbox: &Sandbox) {
    const SECRET: &str = "lxc.secret = hunter2\n[Exec]\nLimitCORE=hunter2\n";
    let secret = write(sandbox, "secret", SECRET.as_bytes());
    let dir = |name: &str| {
        let dir = sandbox.path(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    };
    let tree = rootfs(sandbox);
    let lib = sandbox.path("var/lib/lxm");
    let refused = |source: &str, means: bool| {
        assert!(means, "{source}");
        let said = sandbox.lxm(&["import", source, "-n", "evil"]);
        assert!(said.status != 0 && !said.to_string().contains("hunter2"), "{said}");
        nothing_left(sandbox, &lib);
        said
    };
    let reads = |path: &std::path::Path| fs::read_to_string(path).is_ok_and(|text| text.contains("hunter2"));

    let lxc = dir("lxc/config");
    run("cp", &["-a", tree.to_str().unwrap(), lxc.join("rootfs").to_str().unwrap()]).ok();
    symlink(&secret, lxc.join("config")).unwrap();
    refused(lxc.to_str().unwrap(), reads(&lxc.join("config"))).complains("symbolic link");
    let lxc = dir("lxc/rootfs");
    fs::write(lxc.join("config"), "lxc.uts.name = evil\nlxc.net.0.type = empty\n").unwrap();
    symlink(&tree, lxc.join("rootfs")).unwrap();
    refused(lxc.to_str().unwrap(), lxc.join("rootfs/usr").is_dir()).complains("symbolic link");
    fs::remove_file(lxc.join("rootfs")).unwrap();
    for (path, trusted) in [("/", false), (tree.to_str().unwrap(), true)] {
        fs::write(lxc.join("config"), format!("lxc.net.0.type = empty\nlxc.rootfs.path = dir:{path}\n")).unwrap();
        refused(lxc.to_str().unwrap(), true).complains("lxc.rootfs.path");
        let said = sandbox.lxm(&["import", lxc.to_str().unwrap(), "-n", "evil", "--trust"]);
        assert_eq!(said.status == 0, trusted, "{said}");
    }
    sandbox.lxm(&["destroy", "-f", "evil"]).ok();
    let machine = dir("machines").join("evil");
    run("cp", &["-a", tree.to_str().unwrap(), machine.to_str().unwrap()]).ok();
    symlink(&secret, sandbox.path("machines/evil.nspawn")).unwrap();
    refused(machine.to_str().unwrap(), reads(&sandbox.path("machines/evil.nspawn"))).complains("symbolic link");

    let image = dir("oci");
    fs::write(image.join("oci-layout"), "{}").unwrap();
    symlink(&secret, image.join("index.json")).unwrap();
    refused(image.to_str().unwrap(), reads(&image.join("index.json")));
    let links = |path: &str| {
        export_of(pack::ORIGIN, |tar| {
            link(tar, path, &secret);
            file(tar, "rootfs/etc/hostname", b"evil\n");
        })
    };
    for path in ["lxm/config.toml", "rootfs"] {
        refused(&write(sandbox, "link.tar", &links(path)), true);
    }
}

fn server(sandbox: &Sandbox) {
    let server = Server::new(sandbox);
    server.pack(sandbox, "a.tar.xz", "of who is on the way");
    server.list(&[("1", "root.tar.xz", "images/a.tar.xz")]);
    server.template(sandbox, "");
    let create = ["create", "evil", "-t", "try", "--network", "none"];
    sandbox.lxm(&create).fails(1).complains("its index is not signed").complains("--insecure");
    sandbox.lxm(&["image", "available", "-t", "try"]).fails(1).complains("--insecure");
    let mirror = ["--mirror", &server.url];
    sandbox.lxm(&[&create[..], &mirror].concat()).fails(1).complains("--insecure");
    // The means: the server is there, and sends a system.
    sandbox.lxm(&[&create[..], &["--insecure"]].concat()).ok();
}

fn umask(sandbox: &Sandbox) {
    let program = crate::support::sandbox::program();
    let with = |mask: &str, args: &str| {
        let mut command = std::process::Command::new("sh");
        sandbox.environment(&mut command);
        command.args([
            "-c",
            &format!("umask {mask}; mkdir -p $HOME; mkdir $HOME/{mask}; exec {} {args}", program.display()),
        ]);
        crate::support::command::bounded(command, b"", std::time::Duration::from_secs(60)).ok();
    };
    let create: Vec<String> = Guest::Probe.create_arguments();
    with("0", &format!("create open --network none --storage dir {}", create.join(" ")));
    with("0", "snapshot create open one");
    with("077", &format!("create closed --network none --storage dir {}", create.join(" ")));
    with("0", "start open");
    let mode = |path: &str| sandbox.path(path).metadata().unwrap().mode() & 0o777;
    // The means: it is what the shell makes its directories by.
    assert_eq!((mode("home/0"), mode("home/077")), (0o777, 0o700));
    for below in ["var/lib/lxm", "run/lxm", "var/log/lxm", "etc/lxm"] {
        let found = run(
            "find",
            &[
                sandbox.path(below).to_str().unwrap(),
                "-name",
                "rootfs",
                "-prune",
                "-o",
                "-perm",
                "/022",
                "!",
                "-type",
                "l",
                "!",
                "-type",
                "s",
                "-print",
            ],
        );
        assert_eq!(found.stdout, "", "others may write to it");
    }
    assert_eq!(mode("var/lib/lxm/closed/rootfs"), mode("var/lib/lxm/open/rootfs"));
    assert_eq!(mode("var/lib/lxm/closed/rootfs") & 0o055, 0o055);
    sandbox.lxm(&["stop", "-k", "open"]).ok();
}
