//! What `lxm diff` finds.

use std::fs;
use std::path::PathBuf;

use super::write_file;
use crate::support::{Guest, Need, Sandbox, Trial, run};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("storage::changed_files_are_listed", differences),
        Trial::new("storage::changed_packages_of_rpm_are_listed", rpm_packages).needs(Need::Tool("rpmbuild")),
    ]
}

fn differences(sandbox: &Sandbox) {
    for backend in ["overlay", "dir"] {
        sandbox.create("web", Guest::Busybox, &["--storage", backend]);
        let made = sandbox.lxm(&["diff", "web", "--format", "json"]).ok().json();
        assert_eq!(made["packages"], serde_json::Value::Null, "busybox has no package manager");
        let dpkg = |packages: &[(&str, &str)]| {
            let paragraph = |(name, version): &(&str, &str)| {
                format!("Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n")
            };
            let status: String = packages.iter().map(paragraph).collect();
            let (file, dir) = (sandbox.path("dpkg/status"), sandbox.path("dpkg"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(file, status).unwrap();
            sandbox.lxm(&["push", dir.to_str().unwrap(), "web:/var/lib/"]).ok();
        };
        let rootfs = || PathBuf::from(sandbox.lxm(&["mount", "web"]).ok().line());
        fs::create_dir_all(rootfs().join("var/lib")).unwrap();
        fs::create_dir_all(rootfs().join("srv/old/deep")).unwrap();
        std::os::unix::fs::symlink("/srv", rootfs().join("link")).unwrap();
        sandbox.lxm(&["umount", "web"]).ok();
        for file in ["changed", "owned", "retyped", "old/gone"] {
            write_file(sandbox, &format!("web:/srv/{file}"), b"1");
        }
        dpkg(&[("bash", "1"), ("nano", "1"), ("vim", "1")]);
        sandbox.lxm(&["snapshot", "create", "web", "before"]).ok();
        assert_eq!(sandbox.lxm(&["diff", "web", "before"]).ok().stdout, "");

        write_file(sandbox, "web:/srv/changed", b"22");
        write_file(sandbox, "web:/srv/new", b"");
        dpkg(&[("bash", "2"), ("vim", "1"), ("zsh", "1")]);
        let root = rootfs();
        std::os::unix::fs::chown(root.join("srv/owned"), Some(7), None).unwrap();
        fs::remove_file(root.join("srv/retyped")).unwrap();
        fs::create_dir_all(root.join("srv/retyped/below")).unwrap();
        fs::remove_dir_all(root.join("srv/old")).unwrap();
        fs::remove_file(root.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        drop(root);
        sandbox.lxm(&["umount", "web"]).ok();
        let wanted = "C /link\nC /srv/changed\nA /srv/new\nD /srv/old\nC /srv/owned\nC /srv/retyped\n\
            A /srv/retyped/below\nC /var/lib/dpkg/status\n~ bash 1 -> 2\n- nano 1\n+ zsh 1\n";
        assert_eq!(sandbox.lxm(&["diff", "web", "before"]).ok().stdout, wanted, "{backend}");
        // A running guest's ids are told as the guest knows them, and what is mounted in it is left out.
        sandbox.lxm(&["start", "web"]).ok();
        let running = sandbox.lxm(&["diff", "web", "before"]).ok().stdout;
        for line in wanted.lines() {
            assert!(running.lines().any(|found| found == line), "{backend}: `{line}` is missing in {running}");
        }
        assert!(!running.contains("/proc/") && !running.contains("/dev/"), "{running}");
        sandbox.lxm(&["attach", "web", "--", "mkdir", "/srv/\u{1b}[2Jx"]).ok();
        assert!(sandbox.lxm(&["diff", "web", "before"]).ok().stdout.contains("A /srv/\\u{1b}[2Jx\n"));
        let of_image = sandbox.lxm(&["diff", "web"]).ok().stdout;
        assert!(of_image.contains("A /srv/changed\n") && !of_image.contains("/bin/busybox"), "{of_image}");
        sandbox.lxm(&["diff", "web", "none"]).fails(3);
        sandbox.lxm(&["destroy", "-f", "web"]).ok();
    }
}

fn rpm_packages(sandbox: &Sandbox) {
    let top = sandbox.path("rpm");
    fs::create_dir_all(&top).unwrap();
    let define = format!("_topdir {}", top.display());
    let package = |name: &str, version: &str, more: &str| {
        let spec = top.join("package.spec");
        let head = format!("Name: {name}\nVersion: {version}\nRelease: 1\n{more}\nSummary: {name}\nLicense: none\n");
        fs::write(&spec, format!("{head}BuildArch: noarch\n%description\n%files\n")).unwrap();
        run("rpmbuild", &["--quiet", "--define", &define, "-bb", spec.to_str().unwrap()]).ok();
        top.join(format!("RPMS/noarch/{name}-{version}-1.noarch.rpm")).to_str().unwrap().to_owned()
    };
    sandbox.create("web", Guest::Busybox, &[]);
    let rpm = |args: &[&str]| {
        let root = sandbox.lxm(&["mount", "web"]).ok().line().to_owned();
        run("rpm", &[&["--root", &root, "--dbpath", "/usr/lib/sysimage/rpm"], args].concat()).ok();
        sandbox.lxm(&["umount", "web"]).ok();
    };
    rpm(&["-i", &package("stays", "1.0", ""), &package("rises", "1.9", ""), &package("goes", "1.0", "")]);
    sandbox.lxm(&["snapshot", "create", "web", "before"]).ok();
    rpm(&["-U", &package("rises", "1.0", "Epoch: 2"), &package("comes", "0.1", "")]);
    rpm(&["-e", "goes"]);
    let told = sandbox.lxm(&["diff", "web", "before"]).ok().stdout;
    let packages: Vec<&str> = told.lines().filter(|line| !line.contains('/')).collect();
    assert_eq!(packages, ["+ comes 0.1-1", "- goes 1.0-1", "~ rises 1.9-1 -> 2:1.0-1"], "{told}");
}
