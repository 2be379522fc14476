//! Claims about templates, images and `lxm create`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lxm::testing::store::Origin;

use crate::support::guest::noble_archive;
use crate::support::sandbox::{run_checked, source_tree};
use crate::support::{Guest, Need, Sandbox, Trial, command, eventually};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("template::busybox_boots_under_its_name_and_stops", busybox),
        Trial::new("template::bookworm_boots_whole_and_lets_its_user_in", |s| debian(s, Guest::Bookworm))
            .guest(Guest::Bookworm)
            .limit(120),
        Trial::new("template::trixie_boots_whole_and_lets_its_user_in", |s| debian(s, Guest::Trixie))
            .guest(Guest::Trixie)
            .limit(120),
        Trial::new("template::sid_boots_whole_and_lets_its_user_in", |s| debian(s, Guest::Sid))
            .guest(Guest::Sid)
            .limit(120),
        Trial::new("template::sysvinit_boots_to_a_login_and_stops", sysvinit).guest(Guest::Sysvinit).limit(120),
        Trial::new("template::ubuntu_is_made_of_a_signed_archive", ubuntu).guest(Guest::NobleArchive).limit(240),
        Trial::new("template::an_archive_signed_by_another_key_is_refused", other_key).guest(Guest::NobleArchive),
        Trial::new("template::debootstrap_takes_over_where_mmdebstrap_is_missing", debootstrap)
            .needs(Need::Tool("debootstrap"))
            .guest(Guest::NobleArchive)
            .limit(400),
        Trial::new("template::without_a_bootstrap_tool_it_says_what_to_install", no_tool),
        Trial::new("template::an_unreachable_mirror_fails_within_seconds", unreachable).needs(Need::Tool("mmdebstrap")),
        Trial::new("template::archives_of_every_compression_become_containers", archives).guest(Guest::Probe),
        Trial::new("template::what_is_no_system_is_refused_and_leaves_nothing", no_system),
        Trial::new("template::a_script_builds_as_its_contract_says", script),
        Trial::new("create::two_at_once_share_one_build", two_at_once),
        Trial::new("create::siblings_share_nothing_that_tells_them_apart", siblings).guest(Guest::Trixie).limit(120),
        Trial::new("create::a_password_is_what_crypt_checks", password),
        Trial::new("create::wrong_options_are_refused_with_their_status", wrong_options),
        Trial::new("create::a_full_or_read_only_disk_changes_nothing", bad_disk),
        Trial::new("create::killed_at_any_point_the_next_one_works", killed).limit(240),
    ]
}

fn busybox(s: &Sandbox) {
    s.boot("web", Guest::Busybox, &[]);
    s.lxm(&["attach", "web", "--", "hostname"]).ok().says("web");
    s.lxm(&["attach", "web", "--", "cat", "/etc/hosts"]).ok().says("127.0.1.1\tweb");
    let console = s.path("var/log/lxm/web/console.log");
    eventually("a login prompt on the console", Duration::from_secs(5), || read(&console).contains("web login:"));
    s.lxm(&["stop", "web"]).ok();
}

fn debian(s: &Sandbox, guest: Guest) {
    let key = s.path("id.pub");
    fs::write(&key, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPublicPublicPublicPublicPublicPublicPublic me\n").unwrap();
    s.boot("deb", guest, &["--ssh-key", key.to_str().unwrap()]);
    let inside = |script: &str| s.lxm(&["attach", "deb", "--", "sh", "-c", script]).ok().line().to_owned();
    assert_eq!(inside("systemctl is-system-running --wait; systemctl --failed --no-legend"), "running");
    assert_eq!(inside("sudo -u debian sudo -n id -u"), "0");
    assert_eq!(
        inside("stat -c %U:%a ~debian/.ssh/authorized_keys; cat ~debian/.ssh/authorized_keys | wc -l"),
        "debian:600\n1"
    );
    assert_eq!(
        inside("cat /etc/machine-id"),
        s.layout().config(&"deb".parse().unwrap()).unwrap().uuid.replace('-', "")
    );
    assert_eq!(inside("systemctl is-active ssh systemd-networkd console-getty"), "active\nactive\nactive");
    no_ordering_cycle(s, "deb");
    let resolver = "systemctl is-active systemd-resolved; readlink -f /etc/resolv.conf";
    eventually("the resolver", Duration::from_secs(5), || {
        inside(resolver) == "active\n/run/systemd/resolve/stub-resolv.conf"
    });
    let console = s.path("var/log/lxm/deb/console.log");
    eventually("a login prompt on the console", Duration::from_secs(5), || read(&console).contains("deb login:"));
    s.lxm(&["stop", "deb"]).ok();
    assert!(!read(&console).contains("ordering cycle"), "{}", read(&console));
}

/// systemd breaks a cycle by leaving out a unit, of its own choice.
fn no_ordering_cycle(s: &Sandbox, name: &str) {
    let journal = s.lxm(&["attach", name, "--", "journalctl", "-b", "--no-pager", "-o", "cat"]).ok().stdout;
    assert!(!journal.contains("ordering cycle"), "{journal}");
}

fn sysvinit(s: &Sandbox) {
    s.boot("old", Guest::Sysvinit, &[]);
    let console = s.path("var/log/lxm/old/console.log");
    eventually("a login prompt on the console", Duration::from_secs(30), || read(&console).contains("old login:"));
    s.lxm(&["attach", "old", "--", "pgrep", "-x", "sshd"]).ok();
    s.lxm(&["stop", "old"]).ok();
    assert!(read(&console).contains("runlevel 0"), "{}", read(&console));
}

/// A directory of templates: ubuntu's as shipped, and `key` in place of Ubuntu's own.
fn templates_with_key(s: &Sandbox, key: &Path) -> PathBuf {
    let dir = s.path("templates");
    fs::create_dir_all(dir.join("keyrings")).unwrap();
    fs::copy(source_tree().join("templates/ubuntu.toml"), dir.join("ubuntu.toml")).unwrap();
    fs::copy(key, dir.join("keyrings/ubuntu-archive-keyring.gpg")).unwrap();
    dir
}

fn create_ubuntu(s: &Sandbox, templates: &Path, name: &str) -> command::Outcome {
    let mut create = s.command();
    create.env("LXM_TEMPLATES", templates);
    let mirror = format!("file://{}", noble_archive().display());
    create.args(["create", "-t", "ubuntu", "-r", "noble", name, "--network", "none", "--mirror", &mirror]);
    command::bounded(create, b"", Duration::from_secs(300))
}

fn ubuntu(s: &Sandbox) {
    let templates = templates_with_key(s, &noble_archive().join("key.gpg"));
    create_ubuntu(s, &templates, "web").ok().complains("`lxm ssh web` logs in as `ubuntu`");
    s.lxm_with(&["start", "web", "--wait", "booted"], b"", Duration::from_secs(60)).ok();
    s.lxm(&["attach", "web", "--", "sudo", "-u", "ubuntu", "sudo", "-n", "id", "-u"]).ok().says("0");
    no_ordering_cycle(s, "web");
    let sources = s.lxm(&["attach", "web", "--", "cat", "/etc/apt/sources.list"]).ok();
    assert!(sources.stdout.contains("noble main universe"), "{sources}");
}

fn other_key(s: &Sandbox) {
    let shipped = source_tree().join("templates/keyrings/ubuntu-archive-keyring.gpg");
    let templates = templates_with_key(s, &shipped);
    create_ubuntu(s, &templates, "web").fails(1).complains("NO_PUBKEY").complains("--mirror");
    assert_nothing_made(s);
}

/// Takes a program away, in the trial's own mount namespace: what is no file is not installed.
fn uninstall(program: &str) {
    for dir in ["/usr/sbin", "/usr/bin", "/usr/local/bin"] {
        let file = Path::new(dir).join(program);
        if file.exists() {
            run_checked("mount", &["--bind", "/dev/null", file.to_str().unwrap()]);
        }
    }
}

fn reinstall(program: &str) {
    for dir in ["/usr/sbin", "/usr/bin", "/usr/local/bin"] {
        let file = Path::new(dir).join(program);
        if file.exists() {
            run_checked("umount", &[file.to_str().unwrap()]);
        }
    }
}

fn no_tool(s: &Sandbox) {
    for program in ["mmdebstrap", "debootstrap"] {
        uninstall(program);
    }
    s.lxm(&["create", "-t", "debian", "web"]).fails(5).complains("apt-get install mmdebstrap");
    assert_nothing_made(s);
    for program in ["mmdebstrap", "debootstrap"] {
        reinstall(program);
    }
}

fn bad_disk(s: &Sandbox) {
    let containers = s.path("var/lib/lxm");
    let containers = containers.to_str().unwrap();
    fs::create_dir_all(containers).unwrap();
    run_checked("mount", &["-t", "tmpfs", "-o", "size=1m", "none", containers]);
    // The image fits where images are; the copy of its 2 MB does not fit here.
    s.lxm(&["create", "-t", "busybox", "web", "--storage", "dir"]).fails(1).complains("No space left on device");
    assert_nothing_made(s);
    run_checked("mount", &["-o", "remount,ro", containers]);
    s.lxm(&["create", "-t", "busybox", "web", "--storage", "dir"]).fails(1).complains("Read-only file system");
    assert_nothing_made(s);
    run_checked("umount", &[containers]);
}

fn debootstrap(s: &Sandbox) {
    uninstall("mmdebstrap");
    let templates = templates_with_key(s, &noble_archive().join("key.gpg"));
    let mirror = format!("file://{}", noble_archive().display());
    let mut create = s.command();
    create.env("LXM_TEMPLATES", templates);
    create.args(["create", "-t", "ubuntu", "-r", "noble", "web", "--network", "none", "--mirror", &mirror]);
    command::bounded(create, b"", Duration::from_secs(360)).ok();
    let log = read(&s.path("var/log/lxm/.images/ubuntu-noble-amd64.log"));
    assert!(log.contains("debootstrap"), "{log}");
    reinstall("mmdebstrap");
    s.lxm_with(&["start", "web", "--wait", "booted"], b"", Duration::from_secs(60)).ok();
}

fn unreachable(s: &Sandbox) {
    // Port 9 of the loopback: nothing answers. And an address that no packet comes back from.
    for mirror in ["http://127.0.0.1:9/debian", "http://192.0.2.1/debian"] {
        let told = s.lxm(&["create", "-t", "debian", "web", "--mirror", mirror]).fails(1);
        assert!(told.took < Duration::from_secs(15), "{told}");
        told.complains(mirror).complains("--mirror");
        assert_nothing_made(s);
    }
}

fn archives(s: &Sandbox) {
    let from = Guest::Probe.create_arguments().pop().unwrap();
    let packers = [("tar", "cat"), ("tar.gz", "gzip -1"), ("tar.xz", "xz -0"), ("tar.zst", "zstd -q")];
    for (i, (suffix, packer)) in packers.into_iter().enumerate() {
        let file = s.path(format!("rootfs.{suffix}"));
        run_checked("sh", &["-c", &format!("{packer} < '{from}' > '{}'", file.display())]);
        let name = format!("probe{i}");
        let args = ["create", "-t", "archive", &name, "--network", "none", "--", "--file", file.to_str().unwrap()];
        s.lxm(&args).ok();
        let origin = Origin::read(&s.layout(), &name.parse().unwrap()).unwrap();
        assert_eq!(origin.template, "archive");
    }
}

fn no_system(s: &Sandbox) {
    let empty = s.path("empty");
    fs::create_dir(&empty).unwrap();
    let archive = s.path("empty.tar");
    run_checked("tar", &["-C", empty.to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]);
    let garbage = s.path("garbage.tar");
    fs::write(&garbage, [7; 4096]).unwrap();
    let missing = s.path("missing.tar");
    for (file, status, complaint) in
        [(&archive, 6, "/sbin/init"), (&garbage, 1, "garbage.tar"), (&missing, 1, "missing.tar")]
    {
        let args = ["create", "-t", "archive", "web", "--", "--file", file.to_str().unwrap()];
        s.lxm(&args).fails(status).complains(complaint);
        assert_nothing_made(s);
    }
}

/// A template whose script counts its runs, in a directory of its own.
fn script_template(s: &Sandbox, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let dir = s.path("templates");
    fs::create_dir_all(&dir).unwrap();
    let toml = "builder = \"script\"\nscript = \"build\"\ndefault-release = \"one\"\n[release.one]\nsuite = \"uno\"\n\
                [option.colour]\ndefault = \"red\"\n";
    fs::write(dir.join("own.toml"), toml).unwrap();
    fs::write(dir.join("build"), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(dir.join("build"), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

const MAKE_TREE: &str = "mkdir -p \"$1/sbin\" \"$1/etc\"; cp /bin/busybox \"$1/sbin/init\"";

fn script(s: &Sandbox) {
    let told = "env | grep ^LXM_ | grep -v -e ROOT -e TEMPLATES | sort > \"$1/told\"";
    let dir = script_template(s, &format!("{MAKE_TREE}; {told}"));
    let mut create = s.command();
    create.env("LXM_TEMPLATES", &dir);
    create.args(["create", "-t", "own", "web", "--storage", "dir", "--", "--colour", "blue"]);
    command::bounded(create, b"", Duration::from_secs(30)).ok();
    let told = read(&s.path("var/lib/lxm/web/rootfs/told"));
    for line in ["LXM_ARCH=", "LXM_MIRROR=\n", "LXM_OPTION_COLOUR=blue\n", "LXM_RELEASE=one\n", "LXM_SUITE=uno\n"] {
        assert!(told.contains(line), "{line} {told}");
    }

    let dir = script_template(s, "echo about to fail; exit 4");
    let mut create = s.command();
    create.env("LXM_TEMPLATES", &dir).args(["create", "-t", "own", "db"]);
    command::bounded(create, b"", Duration::from_secs(30)).fails(1).complains("| about to fail").complains("own-one");
    assert!(!s.path("var/lib/lxm/db").exists());
}

fn two_at_once(s: &Sandbox) {
    let runs = s.path("runs");
    let dir = script_template(s, &format!("echo run >> '{}'; sleep 0.3; {MAKE_TREE}", runs.display()));
    let spawn = |name: &str| {
        let mut create = s.command();
        create.env("LXM_TEMPLATES", &dir).args(["create", "-q", "-t", "own", name]);
        create.stdin(Stdio::null()).spawn().unwrap()
    };
    let mut both = [spawn("a"), spawn("b")];
    for child in &mut both {
        assert!(command::wait(child, Duration::from_secs(20)).is_some_and(|status| status.success()));
    }
    assert_eq!(read(&runs), "run\n");
    let origin = |name: &str| Origin::read(&s.layout(), &name.parse().unwrap()).unwrap();
    assert_eq!(origin("a").image, origin("b").image);
    assert!(!origin("a").ids.overlaps(&origin("b").ids));
}

fn siblings(s: &Sandbox) {
    let mut seen: Vec<[String; 5]> = Vec::new();
    for name in ["a", "b"] {
        s.lxm(&["create", name, "-t", "debian", "-r", "trixie", "--storage", "dir"]).ok();
        let rootfs = s.path(format!("var/lib/lxm/{name}/rootfs"));
        let config = s.layout().config(&name.parse().unwrap()).unwrap();
        assert_eq!(read(&rootfs.join("etc/machine-id")), "", "an empty file takes the container's uuid at boot");
        seen.push([
            read(&rootfs.join("etc/hostname")),
            read(&rootfs.join("etc/ssh/ssh_host_ed25519_key.pub")),
            read(&rootfs.join("etc/ssh/ssh_host_ecdsa_key")),
            config.uuid.clone(),
            config.network["eth0"].mac.clone().unwrap_or_default(),
        ]);
    }
    for (a, b) in seen[0].iter().zip(&seen[1]) {
        assert!(!a.is_empty() && a != b, "{seen:?}");
    }
}

fn password(s: &Sandbox) {
    let hash = |name: &str| {
        let shadow = read(&s.path(format!("var/lib/lxm/{name}/rootfs/etc/shadow")));
        shadow.lines().find_map(|line| line.strip_prefix("root:")?.split(':').next().map(str::to_owned)).unwrap()
    };
    let crypt =
        |password: &str, hash: &str| run_checked("perl", &["-e", "print crypt($ARGV[0], $ARGV[1])", password, hash]);
    let options = ["create", "-t", "busybox", "--storage", "dir"];
    s.lxm(&[&options[..], &["given", "--password=tr0ub4dor"]].concat()).ok();
    assert_eq!(crypt("tr0ub4dor", &hash("given")), hash("given"));
    s.lxm_with(&[&options[..], &["asked", "--password"]].concat(), b"correct horse\n", Duration::from_secs(30)).ok();
    assert_eq!(crypt("correct horse", &hash("asked")), hash("asked"));
}

fn wrong_options(s: &Sandbox) {
    s.create("taken", Guest::Busybox, &[]);
    let cases: [(&[&str], i32, &str); 9] = [
        (&["taken", "-t", "busybox"], 4, "exists already"),
        (&["web", "-t", "none"], 3, "busybox"),
        (&["web", "-t", "../busybox"], 3, "does not exist"),
        (&["web", "-t", "debian", "-r", "potato"], 2, "trixie"),
        (&["web", "-t", "busybox", "--packages", "vim"], 2, "no packages"),
        (&["web", "-t", "debian", "--packages=-oDir::Etc=/tmp"], 2, "not a package name"),
        (&["web", "-t", "busybox", "-a", "s390x"], 5, "s390x"),
        (&["web", "-t", "busybox", "--network", "a bridge"], 2, "bridge"),
        (&["web", "-t", "busybox", "--ssh-key", "/none"], 1, "/none"),
    ];
    for (option, status, complaint) in cases {
        s.lxm(&[&["create"][..], option].concat()).fails(status).complains(complaint);
        assert!(!s.path("var/lib/lxm/web").exists(), "{option:?}");
    }
}

fn killed(s: &Sandbox) {
    // The image is there, so that the time is that of the staging.
    s.create("first", Guest::Busybox, &[]);
    for storage in ["dir", "auto"] {
        for delay in (0..30).map(|step| Duration::from_millis(step * 3)) {
            let mut create = s.command();
            create.args(["create", "-q", "-t", "busybox", "web", "--storage", storage, "--network", "none"]);
            let mut child = create.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(delay);
            child.kill().ok();
            child.wait().unwrap();
            if !s.path("var/lib/lxm/web").exists() {
                s.create("web", Guest::Busybox, &["--storage", storage]);
            }
            s.lxm(&["destroy", "web"]).ok();
        }
    }
    s.lxm(&["gc"]).ok();
    assert_eq!(names(&s.path("var/lib/lxm/.staging")), [""; 0]);
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn assert_nothing_made(s: &Sandbox) {
    for staging in ["var/lib/lxm/.staging", "var/cache/lxm/images/.staging"] {
        assert_eq!(names(&s.path(staging)), [""; 0], "{staging}");
    }
    assert!(!s.path("var/lib/lxm/web").exists());
}

fn read(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
