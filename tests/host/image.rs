//! Claims about images as an admin meets them, and about archives that are not what they seem.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::support::sandbox::run_checked;
use crate::support::{Guest, Need, Sandbox, Trial, command, eventually};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("image::an_image_that_a_container_is_layered_on_stays", in_use),
        Trial::new("image::a_killed_build_dies_with_all_it_started", killed_build),
        Trial::new("image::hostile_archives_are_refused_and_leave_nothing", hostile),
        Trial::new("image::a_full_or_read_only_disk_fails_clearly_and_leaves_nothing", no_room),
        Trial::new("image::containers_are_made_of_images_that_are_read_only", read_only),
        Trial::new("image::marks_of_overlayfs_in_an_archive_are_not_believed", overlay_marks)
            .guest(Guest::Probe)
            .needs(Need::Tool("setfattr")),
    ]
}

fn in_use(s: &Sandbox) {
    s.create("plain", Guest::Busybox, &["--storage", "dir"]);
    s.create("layered", Guest::Busybox, &["--storage", "overlay"]);
    let images = || s.lxm(&["image", "list", "--format", "json"]).ok().json();
    let first = images()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(images()[0]["template"], "busybox");
    assert_eq!(images()[0]["used_by"], serde_json::json!(["layered"]));
    assert!(images()[0]["size_bytes"].as_u64().unwrap() > 500_000, "{}", images());
    s.lxm(&["image", "rm", &first]).fails(4).complains("in use by `layered`");

    s.lxm(&["image", "refresh", &first[..5]]).ok();
    let ids: Vec<_> = images().as_array().unwrap().iter().map(|image| image["id"].clone()).collect();
    assert_eq!(ids, [format!("{first}.2"), first.clone()]);
    assert_eq!(images()[1]["superseded"], true);
    s.lxm(&["start", "layered"]).ok();
    s.lxm(&["attach", "layered", "--", "true"]).ok();
    s.lxm(&["stop", "-k", "layered"]).ok();
    s.lxm(&["gc"]).ok();
    assert_eq!(images().as_array().unwrap().len(), 2, "`layered` still needs it");

    s.lxm(&["destroy", "layered"]).ok();
    s.lxm(&["gc"]).ok();
    assert_eq!(images().as_array().unwrap().len(), 1);
    s.lxm(&["image", "rm", &format!("{first}.2")]).ok();
    assert_eq!(images(), serde_json::json!([]));
    s.lxm(&["start", "plain"]).ok();
    s.lxm(&["image", "rm", "none-such"]).fails(3);
    s.lxm(&["image", "rm"]).fails(2);
    s.lxm(&["destroy", "-f", "plain"]).ok();

    // By name; a published one takes its template along.
    s.create("plain", Guest::Busybox, &["--storage", "dir"]);
    s.lxm(&["publish", "plain", "mine"]).ok();
    let template = s.path("etc/lxm/templates/mine.toml");
    assert!(template.exists());
    assert_eq!(images().as_array().unwrap().iter().filter(|image| image["name"] == "mine").count(), 1);
    s.lxm(&["image", "rm", "mine"]).ok();
    assert!(!template.exists());
    s.lxm(&["create", "x", "-t", "mine"]).fails(3);
    s.lxm(&["image", "rm", "busybox"]).ok();
    assert_eq!(images(), serde_json::json!([]));
    s.lxm(&["destroy", "-f", "plain"]).ok();
}

fn killed_build(s: &Sandbox) {
    use std::os::unix::fs::PermissionsExt;
    let dir = s.path("templates");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("slow.toml"), "builder = \"script\"\nscript = \"build\"\n").unwrap();
    // Deaf to every signal but the one that kills, with a child that is no better; both go on writing.
    let (pulse, slow) = (s.path("pulse"), s.path("slow"));
    let script = format!(
        "#!/bin/sh\ntrap '' TERM HUP INT\nmkdir -p \"$1/sbin\" \"$1/mnt\" && cp /bin/busybox \"$1/sbin/init\"\n\
         test -e '{slow}' || exit 0\nmount -t tmpfs lxm-trial \"$1/mnt\"\n\
         (while sleep 0.02; do date +%s%N > '{pulse}'; touch \"$1/sbin/$$.$(date +%N)\"; done) &\nsleep 100\n",
        pulse = pulse.display(),
        slow = slow.display(),
    );
    fs::write(dir.join("build"), script).unwrap();
    fs::set_permissions(dir.join("build"), fs::Permissions::from_mode(0o755)).unwrap();
    let create = |name: &str| {
        let mut create = s.command();
        create.env("LXM_TEMPLATES", &dir).args(["create", "-q", "-t", "slow", name, "--storage", "dir"]);
        create.args(["--network", "none"]);
        create
    };
    for next in ["create", "gc"] {
        fs::write(&slow, "").unwrap();
        fs::remove_file(&pulse).ok();
        let mut child = create("web").stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("the builder at work", Duration::from_secs(10), || pulse.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(&slow).unwrap();
        if next == "create" {
            command::bounded(create("web"), b"", Duration::from_secs(20)).ok();
            let init = fs::read_dir(s.path("var/lib/lxm/web/rootfs/sbin")).unwrap().count();
            assert_eq!(init, 1, "what the killed builder wrote is not in the image");
            s.lxm(&["destroy", "web"]).ok();
            let image = s.lxm(&["image", "list", "--format", "json"]).ok().json()[0]["id"].clone();
            s.lxm(&["image", "rm", image.as_str().unwrap()]).ok();
        } else {
            eventually("gc finds all processes gone", Duration::from_secs(5), || {
                s.lxm(&["gc"]).ok();
                names(&s.path("var/cache/lxm/images/.staging")).is_empty()
            });
        }
        let last = fs::read(&pulse).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(fs::read(&pulse).unwrap(), last, "its child writes no more");
    }
}

fn hostile(s: &Sandbox) {
    let outside = s.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "of the host").unwrap();
    let make = "import io, sys, tarfile\n\
        kind, file = sys.argv[1:]\n\
        a = tarfile.open(file, 'w')\n\
        def add(name, type=tarfile.REGTYPE, link='', data=b''):\n\
        \x20   e = tarfile.TarInfo(name); e.type = type; e.linkname = link; e.size = len(data)\n\
        \x20   a.addfile(e, io.BytesIO(data))\n\
        add('sbin/init', data=b'#!')\n\
        if kind == 'dotdot': add('../../outside/evil', data=b'x')\n\
        if kind == 'absolute': add('l', tarfile.SYMTYPE, '/tmp'); add('/l/lxm-trial-evil', data=b'x')\n\
        if kind == 'symlink': add('l', tarfile.SYMTYPE, '../../../../../../../..'); add('l/tmp/lxm-trial-evil', data=b'x')\n\
        if kind == 'hardlink': add('h', tarfile.LNKTYPE, '../../outside/secret')\n\
        if kind == 'truncated': add('big', data=b'x' * 100000)\n\
        a.close()\n\
        if kind == 'truncated': open(file, 'r+b').truncate(50000)\n";
    for (kind, entry) in [
        ("dotdot", "`../../outside/evil`"),
        ("absolute", "`/l/lxm-trial-evil`"),
        ("symlink", "`l/tmp/lxm-trial-evil`"),
        ("hardlink", "`h`"),
        ("truncated", "`big`"),
    ] {
        let file = s.path(format!("{kind}.tar"));
        run_checked("python3", &["-c", make, kind, file.to_str().unwrap()]);
        let args = ["create", "-t", "archive", "web", "--", "--file", file.to_str().unwrap()];
        s.lxm(&args).fails(1).complains(&format!("{kind}.tar")).complains(entry);
        assert_nothing_made(s);
    }
    assert_eq!(names(&outside), ["secret"]);
    assert!(!Path::new("/tmp/lxm-trial-evil").exists());
}

fn no_room(s: &Sandbox) {
    let images = s.path("var/cache/lxm/images");
    fs::create_dir_all(&images).unwrap();
    let images = images.to_str().unwrap();
    let create = || s.lxm(&["create", "-t", "busybox", "web", "--storage", "dir"]);
    run_checked("mount", &["-t", "tmpfs", "-o", "size=200k", "lxm-trial", images]);
    create().fails(1).complains("No space left on device");
    assert_nothing_made(s);
    run_checked("mount", &["-o", "remount,ro", images]);
    create().fails(1).complains("Read-only file system");
    assert_nothing_made(s);
    run_checked("umount", &[images]);
    create().ok();
    s.lxm(&["destroy", "web"]).ok();
}

fn read_only(s: &Sandbox) {
    let images = s.path("var/cache/lxm/images");
    s.create("first", Guest::Busybox, &["--storage", "dir"]);
    let images = images.to_str().unwrap();
    run_checked("mount", &["--bind", images, images]);
    run_checked("mount", &["-o", "remount,ro,bind", images]);
    // Where it was never locked, too: images that another host has filled.
    for storage in ["auto", "dir", "overlay"] {
        s.create("web", Guest::Busybox, &["--storage", storage]);
        s.lxm(&["start", "web"]).ok();
        s.lxm(&["destroy", "-f", "web"]).ok();
    }
    let id = s.lxm(&["image", "list", "--format", "json"]).ok().json()[0]["id"].as_str().unwrap().to_owned();
    s.lxm(&["image", "rm", &id]).fails(1).complains("Read-only file system");
    let other = ["create", "other", "-t", "archive", "--", "--file", "/etc/hostname"];
    s.lxm(&other).fails(1).complains("Read-only file system");
    run_checked("umount", &[images]);
    fs::remove_dir_all(s.path("var/cache/lxm/images/.lock")).unwrap();
    run_checked("mount", &["--bind", images, images]);
    run_checked("mount", &["-o", "remount,ro,bind", images]);
    s.create("web", Guest::Busybox, &["--storage", "overlay"]);
    s.lxm(&["destroy", "web"]).ok();
    run_checked("umount", &[images]);
}

fn overlay_marks(s: &Sandbox) {
    use std::os::unix::fs::PermissionsExt;
    // The probe with a directory that says it is another one, and one that says it hides what is below.
    let root = s.path("hostile");
    fs::create_dir(&root).unwrap();
    let Some(tar) = Guest::Probe.create_arguments().pop() else { panic!("it has an archive") };
    run_checked("tar", &["-xf", &tar, "-C", root.to_str().unwrap()]);
    for (dir, mark, value) in [("etc", "redirect", "/root"), ("var", "opaque", "y"), ("bin/probe", "metacopy", "")] {
        let file = root.join(dir);
        run_checked("setfattr", &["-n", &format!("trusted.overlay.{mark}"), "-v", value, file.to_str().unwrap()]);
    }
    fs::write(root.join("etc/motd"), "seen").unwrap();
    fs::set_permissions(root.join("root"), fs::Permissions::from_mode(0o700)).unwrap();
    let file = s.path("hostile.tar");
    let file = file.to_str().unwrap();
    run_checked("tar", &["--xattrs", "--xattrs-include=*", "-cf", file, "-C", root.to_str().unwrap(), "."]);
    s.lxm(&["create", "-t", "archive", "web", "--storage", "overlay", "--network", "none", "--", "--file", file]).ok();
    let has_marks = |dir: &Path| {
        let dir = dir.to_str().unwrap();
        run_checked("getfattr", &["-R", "-h", "-d", "-m", "trusted", "--absolute-names", dir])
            .contains("trusted.overlay.")
    };
    assert!(has_marks(&root), "the archive was made of a tree that has them");
    let images = s.lxm(&["image", "list", "--format", "json"]).ok().json();
    let image = images.as_array().unwrap().iter().find(|image| image["used_by"] == serde_json::json!(["web"])).unwrap();
    assert!(!has_marks(&s.path("var/cache/lxm/images").join(image["id"].as_str().unwrap())));
    // Snapshots put layers over one another, which is where redirects are followed.
    for snapshot in ["one", "two"] {
        s.lxm_with(&["push", "-", "web:/etc/state"], snapshot.as_bytes(), Duration::from_secs(20)).ok();
        s.lxm(&["snapshot", "create", "web", snapshot]).ok();
    }
    assert_eq!(s.lxm(&["pull", "web:/etc/motd", "-"]).ok().stdout, "seen");
    s.lxm(&["start", "web"]).ok();
    assert_eq!(s.lxm(&["pull", "web:/etc/state", "-"]).ok().stdout, "two");
    s.lxm(&["destroy", "-f", "web"]).ok();
    s.lxm(&["image", "rm", image["id"].as_str().unwrap()]).ok();
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
