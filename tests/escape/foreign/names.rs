//! Untrusted names and words, where lxm makes paths, arguments, lines and settings of them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::pack::{CONFIG, Tar, docker, export, file, hex, link, nothing_left, rootfs, write};
use crate::support::{Guest, Need, Sandbox, Trial, command, run};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    vec![
        probe("escape::foreign::cve_2026_33945_names_that_are_paths", paths),
        probe("escape::foreign::cve_2026_33711_files_that_no_export_has", members),
        probe("escape::foreign::cve_2026_23953_lines_within_a_line", lines),
        probe("escape::foreign::cve_2026_28384_names_that_are_options", options).needs(Need::Tool("mmdebstrap")),
    ]
}

/// What an export of a container of this name would be.
fn export_named(sandbox: &Sandbox, name: &str) -> Vec<u8> {
    let mut tar = Tar::new(Vec::new());
    let record = format!("version = 1\nname = {name:?}\nexported = \"2026-11-28T19:29:00Z\"\nlxm = \"0.1.0\"\n");
    file(&mut tar, "lxm/export.toml", record.as_bytes());
    file(&mut tar, "lxm/origin.toml", super::ORIGIN.as_bytes());
    file(&mut tar, "lxm/config.toml", CONFIG.as_bytes());
    tar.follow_symlinks(false);
    tar.append_dir_all("rootfs", rootfs(sandbox)).unwrap();
    let digest = hex(tar.get_ref());
    file(&mut tar, "lxm/sha256", format!("{digest}\n").as_bytes());
    tar.into_inner().unwrap()
}

/// Of a container, by its archive, its image or its LXC configuration, and of a credential (CVE-2026-33945).
fn paths(sandbox: &Sandbox) {
    let lib = sandbox.path("var/lib/lxm");
    let long = "x".repeat(64);
    let image = serde_json::json!({ "config": { "Cmd": ["/bin/probe"] } });
    let lxc = sandbox.path("lxc/evil");
    fs::create_dir_all(&lxc).unwrap();
    run("cp", &["-a", rootfs(sandbox).to_str().unwrap(), lxc.join("rootfs").to_str().unwrap()]).ok();
    for name in ["..", "../../../tmp/x", "/tmp/x", "-x", "--force", ".layers", ".trash", "a b", "a\nb", "ä", "", &long]
    {
        let archive = write(sandbox, "named.tar", &export_named(sandbox, name));
        let said = sandbox.lxm(&["import", &archive]);
        assert!(said.status != 0 && !said.stderr.contains("a\nb"), "{name:?}: {said}");
        nothing_left(sandbox, &lib);
        let good = write(sandbox, "good.tar", &export_named(sandbox, "good"));
        let said = sandbox.lxm(&["import", &good, &format!("--name={name}")]);
        assert!(said.status != 0, "{name:?}: {said}");
        nothing_left(sandbox, &lib);
        // Where the name is a proposal, another one is taken or asked for.
        fs::write(lxc.join("config"), format!("lxc.uts.name = {name}\nlxc.net.0.type = empty\n")).unwrap();
        drop(sandbox.lxm(&["import", lxc.to_str().unwrap()]));
        let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [format!("{name}:1")], "Layers": ["layer.tar"] }]);
        let tagged = docker(sandbox, &image, |tar| file(tar, "manifest.json", manifest.to_string().as_bytes()));
        drop(sandbox.lxm(&["import", &write(sandbox, "tagged.tar", &tagged)]));
        for made in sandbox.layout().names().unwrap() {
            sandbox.lxm(&["destroy", "-f", &made.to_string()]).ok();
        }
        nothing_left(sandbox, &lib);
        assert!(!Path::new("/tmp/x").exists());
    }
    for name in ["../../../x", "/x", "..", "a/b", "a\0b"] {
        let config = format!("{CONFIG}[credential]\n{name:?} = \"evil\"\n").replace("\\0", "\\u0000");
        let archive = write(sandbox, "credential.tar", &export(sandbox, &config, |_| ()));
        for more in [&[][..], &["--trust"]] {
            drop(sandbox.lxm(&[&["import", archive.as_str(), "-n", "evil"], more].concat()));
            if lib.join("evil").exists() {
                let text = sandbox.lxm(&["config", "show", "evil"]).ok().stdout;
                assert!(!text.contains("credential"), "{text}");
                sandbox.lxm(&["destroy", "-f", "evil"]).ok();
            }
        }
    }
    // The means: such a name in its place is taken.
    let config = format!("{CONFIG}[credential]\n\"a.b\" = \"good\"\n");
    let archive = write(sandbox, "credential.tar", &export(sandbox, &config, |_| ()));
    sandbox.lxm(&["import", &archive, "-n", "evil", "--trust"]).ok();
    assert!(sandbox.lxm(&["config", "show", "evil"]).ok().stdout.contains("a.b"));
    let archive = write(sandbox, "named.tar", &export_named(sandbox, "good"));
    sandbox.lxm(&["import", &archive]).ok();
    assert!(lib.join("good").is_dir());
}

/// A log, a home, a record of a run: what belongs to this host does not come in an archive.
fn members(sandbox: &Sandbox) {
    let victim = write(sandbox, "victim", b"of the host");
    for member in ["console.log", "home.toml", "boot.toml", "overlay.toml", "ids.toml", "snapshots/x", "../evil"] {
        let archive = export(sandbox, CONFIG, |tar| {
            let mut header = super::pack::entry(tar::EntryType::Symlink, 0);
            // As an attacker writes it: the library would refuse `..`.
            let path = format!("lxm/{member}");
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_link_name(&victim).unwrap();
            header.set_cksum();
            tar.append(&header, &[][..]).unwrap();
        });
        let said = sandbox.lxm(&["import", &write(sandbox, "member.tar", &archive), "-n", "evil", "--trust"]);
        assert_ne!(said.status, 0, "{member}: {said}");
        nothing_left(sandbox, &sandbox.path("var/lib/lxm"));
    }
    // The means: a link that is the guest's own is a file as any other, and leads no path out.
    let archive = export(sandbox, CONFIG, |tar| link(tar, "rootfs/etc/console.log", &victim));
    sandbox.lxm(&["import", &write(sandbox, "link.tar", &archive), "-n", "evil"]).ok();
    sandbox.lxm(&["start", "evil"]).ok();
    sandbox.lxm(&["stop", "-k", "evil"]).ok();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "of the host");
}

/// CVE-2026-23953, GHSA-7fj9, GHSA-m3j6: a value with an end of line in it is one value.
fn lines(sandbox: &Sandbox) {
    sandbox.create("g", Guest::Probe, &[]);
    let evil = "x\n[security]\nprivileged = true\n%n $(touch pwned) ${HOME} \"'\\";
    for (key, value) in [("description", evil), ("environment.EVIL", evil)] {
        sandbox.lxm(&["config", "set", "g", key, value]).ok();
        assert_eq!(sandbox.lxm(&["config", "get", "g", key]).ok().line(), value);
    }
    // What becomes a line of another program's file is no line with another one in it.
    for key in ["network.eth0.bridge", "network.eth0.mac", "limits.cpuset", "boot.init", "uuid", "boot.requires"] {
        let said = sandbox.lxm(&["config", "set", "g", key, evil]);
        assert_eq!(said.status, 6, "{key}: {said}");
        assert!(!said.stderr.contains("\n[security]"), "{said}");
    }
    let said = sandbox.lxm(&["config", "set", "g", "environment.A\nB", "x"]);
    assert_ne!(said.status, 0, "{said}");
    sandbox.lxm(&["start", "g"]).ok();
    assert_eq!(sandbox.info("g", "privileged"), false);
    let environment = fs::read_to_string(format!("/proc/{}/environ", sandbox.leader("g"))).unwrap();
    assert!(environment.split('\0').any(|entry| entry == format!("EVIL={evil}")), "{environment:?}");
    assert!(!environment.split('\0').any(|entry| entry.starts_with("privileged")));
    let copied = sandbox.lxm(&["copy", "g", "h"]);
    assert_eq!(copied.status, 0, "{copied}");
    assert_eq!(sandbox.lxm(&["config", "get", "h", "security.privileged"]).ok().line(), "false");
    // The means: in a file that is put together from text it would be a setting.
    let naive: toml::Table = format!("description = '''{evil}'''").replace("'''", "").parse().unwrap_or_default();
    assert!(naive.is_empty() || naive.contains_key("security"));
}

/// CVE-2026-28384, CVE-2026-48755, CVE-2026-62867: file names and addresses that look like options of tar,
/// of a compressor, of mmdebstrap, or like commands of a shell.
fn options(sandbox: &Sandbox) {
    let dir = sandbox.path("files");
    fs::create_dir(&dir).unwrap();
    let mark = sandbox.path("pwned");
    let archive = export(sandbox, CONFIG, |_| ());
    let here = |program: &Path, args: &[&str]| {
        let mut command = Command::new(program);
        sandbox.environment(&mut command);
        command.args(args).current_dir(&dir);
        command::bounded(command, b"", Duration::from_secs(60))
    };
    let touch = "touch ${PWNED:-../pwned}";
    let names = ["--use-compress-program=touch ..", "--checkpoint-action=exec=touch x", "-x.tar", "$(touch pwned).tar"];
    for name in names {
        let name = name.replace('/', "_");
        fs::write(dir.join(&name), &archive).unwrap();
        here(&crate::support::sandbox::program(), &["import", "-n", "evil", "--", &name]).ok();
        sandbox.lxm(&["destroy", "-f", "evil"]).ok();
        here(&crate::support::sandbox::program(), &["import", "-n", "evil", &format!("./{name}")]).ok();
        here(&crate::support::sandbox::program(), &["export", "evil", "-o", &format!("./{name}.gz")]).ok();
        sandbox.lxm(&["destroy", "-f", "evil"]).ok();
    }
    assert!(!dir.join("pwned").exists() && !mark.exists());
    // The means: a tool that is given such a name does what it says.
    fs::write(dir.join("plain.tar"), &archive).unwrap();
    let tar = ["-xf", "plain.tar", "--checkpoint=1", "--checkpoint-action=exec=touch pwned"];
    here(Path::new("tar"), &[&tar[..], &["--exclude=*"]].concat()).ok();
    assert!(dir.join("pwned").exists());

    let hook = format!("--setup-hook={touch}; exit 1").replace("${PWNED:-../pwned}", mark.to_str().unwrap());
    let mirrors = [
        hook.clone(),
        format!("http://127.0.0.1:9/ ;touch {}", mark.display()),
        format!("$(touch {})", mark.display()),
        format!("http://127.0.0.1:9/\nDPkg::Pre-Invoke {{ \"touch {}\"; }};", mark.display()),
        "-".to_owned(),
        "--help".to_owned(),
    ];
    for mirror in &mirrors {
        let mirror = format!("--mirror={mirror}");
        let said = sandbox.lxm(&["create", "evil", "-t", "debian", "--network", "none", &mirror]);
        assert!(!mark.exists(), "{mirror}: {said}");
        said.fails(2).complains("is not the address of a mirror");
    }
    let target = sandbox.path("target");
    drop(here(
        Path::new("mmdebstrap"),
        &["--mode=root", &hook, "trixie", target.to_str().unwrap(), "http://127.0.0.1:9/"],
    ));
    assert!(mark.exists(), "the means are there");
    fs::remove_dir_all(&target).ok();
}
