//! Containers and images of other programs, as those programs make them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::support::{Guest, Need, Outcome, Sandbox, Trial, run};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("import::a_container_of_lxc", lxc).guest(Guest::Probe),
        Trial::new("import::what_lxc_includes_is_read", included).guest(Guest::Probe),
        Trial::new("import::what_this_host_lacks_keeps_no_guest_from_starting", lacking).guest(Guest::Probe),
        Trial::new("import::a_tree_of_nspawn", nspawn).guest(Guest::Probe),
        Trial::new("import::archives_of_images_that_skopeo_made", skopeo)
            .guest(Guest::Probe)
            .needs(Need::Tool("skopeo")),
        Trial::new("import::what_lxm_lacks_is_reported_or_refused", lost).guest(Guest::Probe),
        Trial::new("import::what_holds_the_store_is_refused", holds_the_store).guest(Guest::Probe),
        Trial::new("import::a_damaged_image_leaves_nothing", damaged).guest(Guest::Probe),
        Trial::new("import::archives_of_root_file_systems", archives).guest(Guest::Probe),
        Trial::new("import::an_archive_is_checked_before_it_is_needed", checked).guest(Guest::Probe),
    ]
}

/// The probe's root file system, at a path of the trial's own.
fn rootfs(sandbox: &Sandbox, at: &str) -> PathBuf {
    sandbox.create("seed", Guest::Probe, &["--storage", "dir"]);
    let path = sandbox.path(at);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    run("cp", &["-a", sandbox.path("var/lib/lxm/seed/rootfs").to_str().unwrap(), path.to_str().unwrap()]).ok();
    sandbox.lxm(&["destroy", "seed"]).ok();
    fs::write(path.join("etc/mark"), "imported").unwrap();
    fs::create_dir_all(path.join("usr")).unwrap();
    path
}

fn boots(sandbox: &Sandbox, name: &str) {
    sandbox.lxm(&["start", name, "--wait", "booted"]).ok();
    assert_eq!(sandbox.lxm(&["pull", &format!("{name}:/etc/mark"), "-"]).ok().stdout, "imported");
    sandbox.lxm(&["stop", "-k", name]).ok();
}

fn without_network(sandbox: &Sandbox, name: &str) {
    sandbox.lxm(&["config", "set", name, "network.eth0.type", "none"]).ok();
}

fn lxc(sandbox: &Sandbox) {
    let rootfs = rootfs(sandbox, "lxc/old/rootfs");
    // As LXC keeps unprivileged containers: ids shifted in the files.
    run("chown", &["-R", "100000:100000", rootfs.to_str().unwrap()]).ok();
    run("chown", &["101000:100033", rootfs.join("etc/mark").to_str().unwrap()]).ok();
    let config = "lxc.uts.name = old\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\n\
                  lxc.net.0.type = empty\nlxc.cgroup2.memory.max = 300M\nlxc.hook.start = /x\n";
    fs::write(sandbox.path("lxc/old/config"), config).unwrap();
    let dir = sandbox.path("lxc/old");
    sandbox.lxm(&["import", dir.to_str().unwrap()]).ok().complains("lxc.hook.start");
    assert_eq!(sandbox.lxm(&["config", "get", "old", "limits.memory"]).ok().line(), "300MiB");
    let name = "old".parse().unwrap();
    let backend = lxm::testing::storage::of_container(&sandbox.layout(), &name).unwrap();
    let tree = lxm::testing::storage::Tree::open(backend.as_ref(), &sandbox.layout().container(&name)).unwrap();
    let owner = |path: &str| tree.path().join(path).metadata().map(|meta| (meta.uid(), meta.gid())).unwrap();
    assert_eq!((owner("bin"), owner("etc/mark")), ((0, 0), (1000, 33)));
    drop(tree);
    boots(sandbox, "old");
    // What it was made of is as it was.
    assert_eq!(rootfs.metadata().unwrap().uid(), 100_000);
}

fn included(sandbox: &Sandbox) {
    let rootfs = rootfs(sandbox, "lxc/old/rootfs");
    run("chown", &["-R", "100000:100000", rootfs.to_str().unwrap()]).ok();
    let (dir, outside) = (sandbox.path("lxc/old"), sandbox.path("outside.conf"));
    let own = "lxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\nlxc.cgroup2.memory.max = 300M\n\
               lxc.environment = \"COLOUR=deep blue\"\nlxc.net.0.type = empty\n";
    fs::write(dir.join("own.conf"), own).unwrap();
    fs::write(&outside, "lxc.environment = WHERE=outside\nnot shown\n").unwrap();
    let config = "lxc.uts.name = old\nlxc.include = /usr/share/lxc/config/debian.common.conf\nlxc.include = own.conf\n";
    let config = format!("{config}lxc.include = {}\n", outside.display());
    let import = |more: &str, name: &str| {
        fs::write(dir.join("config"), format!("{config}{more}")).unwrap();
        sandbox.lxm(&["import", dir.to_str().unwrap(), "-n", name])
    };
    let said = import("", "old").ok();
    assert!(!["privileged", "include", "not shown"].iter().any(|word| said.stderr.contains(word)), "{}", said.stderr);
    let get = |key: &str| sandbox.lxm(&["config", "get", "old", key]).ok().line().to_owned();
    assert_eq!((get("limits.memory"), get("environment.COLOUR")), ("300MiB".to_owned(), "deep blue".to_owned()));
    assert_eq!((get("environment.WHERE"), get("network.eth0.type")), ("outside".to_owned(), "none".to_owned()));
    boots(sandbox, "old");
    // What is not known is not taken for granted.
    import("lxc.include = /no/such.conf\n", "two").ok().complains("/no/such.conf").complains("not known");
    // Of what others can write the admin may know nothing.
    std::os::unix::fs::chown(&outside, Some(1000), None).unwrap();
    import("", "three").fails(1).complains("not only root can write it");
    std::os::unix::fs::chown(&outside, Some(0), None).unwrap();
    fs::write(dir.join("circle"), "lxc.include = circle\n").unwrap();
    import("lxc.include = circle\n", "three").fails(6).complains("circle");
    assert!(!sandbox.path("var/lib/lxm/three").exists());
}

fn lacking(sandbox: &Sandbox) {
    let rootfs = rootfs(sandbox, "lxc/old/rootfs");
    let (dir, source) = (sandbox.path("lxc/old"), sandbox.path("later"));
    let config = format!(
        "lxc.uts.name = old\nlxc.net.0.type = veth\nlxc.net.0.link = no-such-br\nlxc.mount.entry = {} srv none bind,ro 0 0\n\
         lxc.mount.entry = /dev/net/tun dev/net/tun none bind,create=file\nlxc.mount.entry = /dev/no-such dev/no-such none bind\n\
         lxc.mount.entry = /sys/kernel/debug sys/kernel/debug none bind\nlxc.cap.drop = flying mknod\n",
        source.display()
    );
    fs::write(dir.join("config"), config).unwrap();
    let said = sandbox.lxm(&["import", "--trust", dir.to_str().unwrap()]).ok();
    said.complains("no link `no-such-br`")
        .complains("starts without the mount")
        .complains("/dev/no-such")
        .complains("/sys/kernel/debug")
        .complains("flying");
    let has = |key: &str| sandbox.lxm(&["config", "get", "old", key]).ok().line().to_owned();
    assert_eq!(
        (has("mount.0.optional"), has("security.capabilities-drop")),
        ("true".to_owned(), "[\"mknod\"]".to_owned())
    );
    boots(sandbox, "old");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("mark"), "there").unwrap();
    sandbox.lxm(&["start", "old", "--wait", "booted"]).ok();
    assert_eq!(sandbox.lxm(&["pull", "old:/srv/mark", "-"]).ok().stdout, "there");
    sandbox.lxm(&["stop", "-k", "old"]).ok();
    // Files that no start could boot.
    fs::remove_file(rootfs.join("sbin/init")).unwrap();
    for source in [dir.as_path(), rootfs.as_path()] {
        sandbox.lxm(&["import", "--trust", source.to_str().unwrap(), "-n", "two"]).fails(6).complains("/sbin/init");
        assert!(!sandbox.path("var/lib/lxm/two").exists());
    }
}

fn nspawn(sandbox: &Sandbox) {
    let tree = rootfs(sandbox, "machines/tree");
    let settings = "[Exec]\nBoot=yes\nEnvironment=COLOUR=blue\nLimitCORE=0\n[Network]\nPrivate=yes\n";
    fs::write(sandbox.path("machines/tree.nspawn"), settings).unwrap();
    let said = sandbox.lxm(&["import", tree.to_str().unwrap(), "-n", "web"]).ok();
    let said = said.complains("LimitCORE=0").complains("tree.nspawn");
    assert!(!said.stderr.contains("COLOUR"));
    assert_eq!(sandbox.lxm(&["config", "get", "web", "environment.COLOUR"]).ok().line(), "blue");
    without_network(sandbox, "web");
    boots(sandbox, "web");
    sandbox.lxm(&["import", sandbox.path("machines").to_str().unwrap(), "-n", "x"]).fails(2);
}

/// Each would be copied into itself without end.
fn holds_the_store(sandbox: &Sandbox) {
    // A tree, and a container of LXC's, with a store in it.
    let tree = rootfs(sandbox, "outer/rootfs");
    fs::write(sandbox.path("outer/config"), "lxc.uts.name = outer\nlxc.net.0.type = empty\n").unwrap();
    let store = tree.join("store");
    fs::create_dir(&store).unwrap();
    let stores = [store, sandbox.layout().containers().to_owned()];
    for backend in ["dir", "overlay"] {
        for (from, store) in
            [(tree.as_path(), &stores[0]), (&sandbox.path("outer"), &stores[0]), (Path::new("/"), &stores[1])]
        {
            let words =
                ["import", "-P", store.to_str().unwrap(), "--storage", backend, "-n", "self", from.to_str().unwrap()];
            sandbox.lxm(&words).fails(1).complains("contains the destination");
            assert_eq!(sandbox.lxm(&["list", "-P", store.to_str().unwrap(), "-q"]).ok().stdout, "", "{from:?}");
        }
    }
    // It is a tree: to another place it goes.
    fs::remove_dir_all(&stores[0]).unwrap();
    sandbox.lxm(&["import", "-n", "self", tree.to_str().unwrap()]).ok();
}

/// An image in OCI's layout: the probe's files, and a layer over them.
fn oci_layout(sandbox: &Sandbox) -> PathBuf {
    let rootfs = rootfs(sandbox, "image/rootfs");
    fs::write(rootfs.join("etc/gone"), "").unwrap();
    let second = sandbox.path("image/second");
    fs::create_dir_all(second.join("etc")).unwrap();
    fs::write(second.join("etc/.wh.gone"), "").unwrap();
    fs::write(second.join("etc/mark"), "imported").unwrap();
    fs::write(rootfs.join("etc/mark"), "below").unwrap();
    let dir = sandbox.path("oci");
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let blob = |contents: &[u8], kind: &str| {
        let digest: String = Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(dir.join("blobs/sha256").join(&digest), contents).unwrap();
        serde_json::json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": contents.len() })
    };
    let mut layers = Vec::new();
    let mut diffs = Vec::new();
    for tree in [&rootfs, &second] {
        let tar = sandbox.path("layer.tar");
        run("tar", &["-C", tree.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]).ok();
        let plain = fs::read(&tar).unwrap();
        diffs.push(format!("sha256:{}", Sha256::digest(&plain).iter().map(|b| format!("{b:02x}")).collect::<String>()));
        run("gzip", &["-kf", tar.to_str().unwrap()]).ok();
        layers.push(blob(
            &fs::read(sandbox.path("layer.tar.gz")).unwrap(),
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ));
    }
    let config = serde_json::json!({
        "architecture": lxm::testing::types::Arch::host().to_string(), "os": "linux",
        "config": { "Env": ["PATH=/bin", "COLOUR=red"], "Cmd": ["/bin/probe"], "ExposedPorts": { "80/tcp": {}, "53/udp": {} }, "User": "daemon" },
        "rootfs": { "type": "layers", "diff_ids": diffs },
    });
    let config = blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": layers });
    let mut manifest = blob(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    manifest["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "probe:1" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    fs::write(dir.join("oci-layout"), "{\"imageLayoutVersion\": \"1.0.0\"}").unwrap();
    dir
}

fn check_image(sandbox: &Sandbox, name: &str, imported: Outcome) {
    let said = imported.ok().complains("80/tcp").complains("User daemon").complains("not run");
    // One command has all ports: a second one would take away the first one's.
    let published: Vec<_> = said.stderr.lines().filter(|line| line.contains("network.eth0.publish")).collect();
    assert!(published.len() == 1 && published[0].contains("53:53/udp,80:80/tcp"), "{published:?}");
    sandbox.lxm(&["config", "set", name, "network.eth0.publish", "53:53/udp,80:80/tcp"]).ok();
    sandbox.lxm(&["config", "unset", name, "network.eth0.publish"]).ok();
    assert_eq!(sandbox.lxm(&["config", "get", name, "environment.COLOUR"]).ok().line(), "red");
    sandbox.lxm(&["pull", &format!("{name}:/etc/gone"), "-"]).fails(3);
    without_network(sandbox, name);
    boots(sandbox, name);
}

fn skopeo(sandbox: &Sandbox) {
    let layout = oci_layout(sandbox);
    let path = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
    let source = format!("oci:{}", layout.display());
    for (kind, name) in [("oci-archive", "one"), ("docker-archive", "two")] {
        let archive = path(&format!("{name}.tar"));
        let target =
            if kind == "docker-archive" { format!("{kind}:{archive}:probe:1") } else { format!("{kind}:{archive}") };
        let mut skopeo = std::process::Command::new("skopeo");
        skopeo.args(["copy", "--insecure-policy", "-q", &source, &target]).env("HOME", sandbox.root());
        super::support::command::bounded(skopeo, b"", std::time::Duration::from_secs(60)).ok();
        check_image(sandbox, name, sandbox.lxm(&["import", &archive, "-n", name]));
        let contents = fs::read(&archive).unwrap();
        let streamed = sandbox.lxm_with(
            &["import", "-", "-n", &format!("{name}-2")],
            &contents,
            std::time::Duration::from_secs(60),
        );
        check_image(sandbox, &format!("{name}-2"), streamed);
        sandbox.lxm(&["import", &archive]).fails(2);
    }
    check_image(sandbox, "three", sandbox.lxm(&["import", layout.to_str().unwrap(), "-n", "three"]));
}

/// Nothing is dropped without a word.
fn lost(sandbox: &Sandbox) {
    let rootfs = rootfs(sandbox, "lxc/old/rootfs");
    let (dir, config) = (sandbox.path("lxc/old"), sandbox.path("lxc/old/config"));
    let import = |name: &str, settings: &str| {
        fs::write(&config, format!("lxc.uts.name = old\nlxc.net.0.type = empty\n{settings}\n")).unwrap();
        sandbox.lxm(&["import", dir.to_str().unwrap(), "-n", name])
    };
    // What is at `rootfs` meanwhile are not its files.
    for path in ["/dev/vg0/old", "lvm:/dev/vg0/old", "zfs:tank/old", "overlay:/a:/b"] {
        import("x", &format!("lxc.rootfs.path = {path}")).fails(5).complains("a backend of LXC's");
        assert!(!sandbox.path("var/lib/lxm/x").exists());
    }
    // Deeper than a path is long.
    let mut below = std::os::fd::OwnedFd::from(fs::File::open(&rootfs).unwrap());
    for _ in 0..50 {
        let name = "n".repeat(200);
        rustix::fs::mkdirat(&below, &name, rustix::fs::Mode::RWXU).unwrap();
        below = rustix::fs::openat(&below, &name, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    }
    import("deep", "lxc.idmap = u 0 100000 65536").ok();
    sandbox.lxm(&["destroy", "deep"]).ok();
    fs::remove_dir_all(rootfs.join("n".repeat(200))).unwrap();
    import("moved", "lxc.rootfs.path = /no/such/rootfs").ok().complains("/no/such/rootfs").complains("not there");
    import("own-ids", "lxc.idmap = u 0 0 65536").ok().complains("the host's own").complains("u 0 0 65536");
    // The profile that is said last is in force.
    let loose = "lxc.include = /usr/share/lxc/config/nesting.conf\nlxc.apparmor.profile = unconfined\nlxc.arch = sparc";
    import("loose", loose).ok().complains("unconfined").complains("nesting.conf").complains("sparc");

    let settings = "[Exec]\nPrivateUsers=no\n[Files]\nVolatile=state\n[Network]\nPrivate=yes\n";
    fs::write(sandbox.path("lxc/old/rootfs.nspawn"), settings).unwrap();
    let said = sandbox.lxm(&["import", rootfs.to_str().unwrap(), "-n", "web"]).ok();
    said.complains("PrivateUsers=no").complains("Volatile=state");

    let exported = sandbox.path("web.tar");
    sandbox.lxm(&["enable", "web"]).ok();
    sandbox.lxm(&["export", "web", "-o", exported.to_str().unwrap()]).ok();
    let again = ["import", exported.to_str().unwrap(), "-n", "web-2", "--trust"];
    sandbox.lxm(&again).ok().complains("`boot.autostart`");
    let fresh = sandbox.lxm(&["config", "get", "web-2", "boot.autostart"]).ok();
    assert_eq!(fresh.line(), "false");
}

fn nothing_left(sandbox: &Sandbox) {
    let kept: Vec<_> = fs::read_dir(sandbox.path("var/lib/lxm")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(kept.iter().all(|path| is_empty(path)), "{kept:?}");
}

fn damaged(sandbox: &Sandbox) {
    let layout = oci_layout(sandbox);
    let nothing_left = || nothing_left(sandbox);
    for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten() {
        let whole = fs::read(blob.path()).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        fs::write(blob.path(), changed).unwrap();
        sandbox.lxm(&["import", layout.to_str().unwrap(), "-n", "x"]).fails(1).complains("digest");
        nothing_left();
        fs::remove_file(blob.path()).unwrap();
        sandbox.lxm(&["import", layout.to_str().unwrap(), "-n", "x"]).fails(1);
        nothing_left();
        fs::write(blob.path(), whole).unwrap();
    }
    sandbox.lxm(&["import", layout.to_str().unwrap(), "-n", "x"]).ok();
}

/// As `tar` makes them: with absolute names, below a directory, packed by what is old.
fn archives(sandbox: &Sandbox) {
    let rootfs = rootfs(sandbox, "web/rootfs");
    let path = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
    let tar = |words: &[&str]| drop(run("tar", words).ok());
    tar(&["-cPf", &path("absolute.tar"), rootfs.to_str().unwrap()]);
    tar(&["-C", &path("web"), "-cjf", &path("top.tar.bz2"), "rootfs"]);
    fs::write(sandbox.path("web/metadata.yaml"), "architecture: x86_64\n").unwrap();
    tar(&["-C", &path("web"), "-cJf", &path("incus.tar.xz"), "metadata.yaml", "rootfs"]);
    for (file, says) in [("absolute.tar", "absolute"), ("top.tar.bz2", "`rootfs`"), ("incus.tar.xz", "`metadata.yaml`")]
    {
        sandbox.lxm(&["export", "--check", &path(file)]).ok().says("an archive of files");
        sandbox.lxm(&["import", &path(file), "-n", "one"]).ok().complains(says).complains("taken as the root");
        without_network(sandbox, "one");
        boots(sandbox, "one");
        let made =
            sandbox.lxm(&["create", "-t", "archive", "two", "--network", "none", "--", "--file", &path(file)]).ok();
        made.complains(says);
        boots(sandbox, "two");
        sandbox.lxm(&["destroy", "one", "two"]).ok();
    }
    fs::create_dir_all(sandbox.path("none/a/b")).unwrap();
    tar(&["-C", &path("none"), "-cf", &path("none.tar"), "."]);
    sandbox.lxm(&["import", &path("none.tar"), "-n", "x"]).fails(6).complains("/sbin/init");
    nothing_left(sandbox);
}

fn checked(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "dir"]);
    let path = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
    let rootfs = sandbox.path("var/lib/lxm/web/rootfs");
    run("mknod", &[rootfs.join("odd").to_str().unwrap(), "c", "1", "3"]).ok();
    sandbox.lxm(&["export", "web", "-o", &path("web.tar"), "--check"]).ok().says("an export of `web`").says("`odd`");
    let whole = fs::read(sandbox.path("web.tar")).unwrap();
    let seconds = std::time::Duration::from_secs(60);
    sandbox.lxm_with(&["export", "--check", "-"], &whole, seconds).ok().says("an export of `web`");
    let json = sandbox.lxm(&["--format", "json", "export", "--check", &path("web.tar")]).ok().json();
    assert_eq!((&json["format"], &json["name"], &json["restorable"]), (&"export".into(), &"web".into(), &true.into()));
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for (contents, says) in
        [(&whole[..whole.len() / 2], "truncated"), (&changed, "digest"), (&b"no archive"[..], "tar")]
    {
        fs::write(sandbox.path("bad.tar"), contents).unwrap();
        let told = sandbox.lxm(&["export", "--check", &path("bad.tar")]).fails(1).complains("cannot be imported");
        assert!(told.stdout.contains(says) || told.stdout.contains("ends in the middle"), "{says}: {told}");
        let json = sandbox.lxm(&["--format", "json", "export", "--check", &path("bad.tar")]).fails(1).json();
        assert_eq!(json["restorable"], false);
    }
    // As root of the host made it: the guest has no such id.
    std::os::unix::fs::chown(rootfs.join("odd"), Some(70_000), None).unwrap();
    sandbox.lxm(&["export", "web", "-o", &path("ids.tar")]).ok();
    sandbox.lxm(&["export", "--check", &path("ids.tar")]).fails(1).says("`odd` belongs to the id 70000");
    sandbox.lxm(&["export", "--check", &path("missing")]).fails(3);
    sandbox.lxm(&["export", "web", "--check", &path("web.tar")]).fails(2);
    sandbox.lxm(&["export", "--check"]).fails(2);
    sandbox.lxm(&["export"]).fails(2);
    // Nothing was made.
    assert_eq!(sandbox.lxm(&["list", "-q"]).ok().line(), "web");
    let layout = oci_layout(sandbox);
    sandbox.lxm(&["export", "--check", layout.to_str().unwrap()]).ok().says("an image of docker or OCI");
    run("tar", &["-C", layout.to_str().unwrap(), "-cf", &path("oci.tar"), "."]).ok();
    sandbox.lxm(&["export", "--check", &path("oci.tar")]).ok().says("an image of docker or OCI");
    let blob = fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten().max_by_key(|e| e.metadata().unwrap().len());
    let blob = blob.unwrap().path();
    let mut contents = fs::read(&blob).unwrap();
    let middle = contents.len() / 2;
    contents[middle] ^= 1;
    fs::write(&blob, contents).unwrap();
    sandbox.lxm(&["export", "--check", layout.to_str().unwrap()]).fails(1).says("digest");
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}
