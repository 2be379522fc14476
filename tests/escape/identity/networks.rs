//! Two state directories, and two of one name, on the bridges of one host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{elsewhere, field};
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Outcome, Sandbox, Trial, command, eventually};

pub(super) fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox).limit(120);
    vec![
        busybox("escape::identity::two_state_directories_have_networks_of_their_own", two_roots).limit(180),
        busybox("escape::identity::two_of_one_name_on_a_bridge_have_names_of_their_own", names_on_a_bridge),
    ]
}

/// A second state directory on the same host, with the same images.
struct Second {
    root: PathBuf,
}

impl Second {
    fn new(sandbox: &Sandbox) -> Self {
        let root = sandbox.path("second");
        std::fs::create_dir_all(&root).unwrap();
        Guest::Busybox.offer(&root);
        Second { root }
    }

    #[track_caller]
    fn lxm(&self, sandbox: &Sandbox, args: &[&str]) -> Outcome {
        let mut command = sandbox.command();
        command.env("LXM_ROOT", &self.root).args(args);
        command::bounded(command, b"", Duration::from_secs(60))
    }

    fn end(self, sandbox: &Sandbox) {
        self.lxm(sandbox, &["destroy", "-f", "web"]).ok();
        self.lxm(sandbox, &["network", "down"]).ok();
        run_checked("umount", &[self.root.join("var/cache/lxm/images").to_str().unwrap()]);
    }
}

fn two_roots(sandbox: &Sandbox) {
    let create = ["create", "web", "-t", "busybox", "--network", "lxmbr0"];
    let second = Second::new(sandbox);
    sandbox.lxm(&create).ok();
    sandbox.lxm(&["start", "web", "--wait", "network"]).ok();
    let gateway = |told: Outcome| {
        let shown = told.ok().json();
        let ipv4 = shown[0]["ipv4"].as_str().unwrap().to_owned();
        (shown[0]["name"].as_str().unwrap().to_owned(), ipv4.split('/').next().unwrap().to_owned())
    };
    let (bridge, of_first) = gateway(sandbox.lxm(&["network", "show", "--format", "json"]));
    assert_eq!(bridge, "lxmbr0");
    let alias = run_checked("cat", &["/sys/class/net/lxmbr0/ifalias"]);
    assert!(alias.starts_with("lxm:") && alias.contains(sandbox.root().to_str().unwrap()), "{alias}");

    second.lxm(sandbox, &create).ok();
    second.lxm(sandbox, &["start", "web", "--wait", "network"]).ok();
    let (other_bridge, of_second) = gateway(second.lxm(sandbox, &["network", "show", "--format", "json"]));
    assert!(other_bridge.starts_with("lxmbr-"), "{other_bridge}");
    assert_ne!(of_first, of_second);
    let ids = second.lxm(sandbox, &["info", "web", "--format", "json"]).ok().json()["ids"].clone();
    assert_ne!(sandbox.info("web", "ids"), ids);

    // Both networks work, with both sets of rules there; so does that of a guest that comes later.
    sandbox.lxm(&["create", "db", "-t", "busybox", "--network", "lxmbr0"]).ok();
    sandbox.lxm(&["start", "db", "--wait", "network"]).ok();
    let attach = |name: &'static str, shell: String| {
        let told = sandbox.lxm(&["attach", name, "--", "sh", "-c", &shell]);
        assert_eq!(told.status, 0, "{told}");
    };
    let works = || {
        for name in ["web", "db"] {
            attach(name, format!("ping -c 1 -W 5 {of_first}"));
        }
        attach("web", "ping -c 1 -W 5 db.lxm".into());
    };
    works();
    let ping = format!("ping -c 1 -W 5 {of_second}");
    second.lxm(sandbox, &["attach", "web", "--", "sh", "-c", &ping]).ok();
    let tables = run_checked("nft", &["list", "tables"]);
    assert_eq!(tables.lines().filter(|line| line.contains("lxm")).count(), 4, "{tables}");

    // What one takes down is its own.
    second.lxm(sandbox, &["stop", "-k", "web"]).ok();
    second.lxm(sandbox, &["network", "down"]).ok();
    works();
    sandbox.lxm(&["stop", "-k", "db"]).ok();
    sandbox.lxm(&["start", "db", "--wait", "network"]).ok();
    second.lxm(sandbox, &["start", "web", "--wait", "network"]).ok();
    works();

    // A bridge that is another's is neither used as one's own nor taken down.
    let settings = std::fs::read_to_string(sandbox.path("etc/lxm/network.toml")).unwrap();
    let file = second.root.join("etc/lxm/network.toml");
    let own = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, settings).unwrap();
    second.lxm(sandbox, &["network", "up"]).fails(4).complains("belongs to the containers of LXM_ROOT=");
    second.lxm(sandbox, &["network", "delete", "lxmbr0"]).ok();
    assert!(Path::new("/sys/class/net/lxmbr0").exists());
    works();
    std::fs::write(&file, own).unwrap();
    second.end(sandbox);
    works();
    eventually("its tables are gone", Duration::from_secs(5), || {
        run_checked("nft", &["list", "tables"]).lines().filter(|line| line.contains("lxm")).count() == 2
    });
}

fn names_on_a_bridge(sandbox: &Sandbox) {
    let dir = sandbox.path("srv");
    std::fs::create_dir_all(&dir).unwrap();
    let create = ["create", "web", "-t", "busybox", "--network", "lxmbr0"];
    sandbox.lxm(&create).ok();
    elsewhere(sandbox, &dir, &create).ok();
    sandbox.lxm(&["start", "web", "--wait", "network"]).ok();
    elsewhere(sandbox, &dir, &["start", "web", "--wait", "network"]).ok();
    let shown = sandbox.lxm(&["network", "show", "lxmbr0", "--format", "json"]).ok().json();
    let names: Vec<&str> =
        shown["guests"].as_array().unwrap().iter().filter_map(|guest| guest["name"].as_str()).collect();
    assert_eq!(names.len(), 2, "{shown}");
    assert!(names.contains(&"web") && names.iter().any(|name| name.starts_with("web-")), "{names:?}");
    let own = sandbox.info("web", "ipv4")[0].as_str().unwrap().to_owned();
    let other =
        field(elsewhere(sandbox, &dir, &["info", "web", "--format", "json"]), "ipv4")[0].as_str().unwrap().to_owned();
    assert_ne!(own, other);
    let other_name = names.iter().find(|name| **name != "web").unwrap();
    for (name, address) in [("web", &own), (*other_name, &other)] {
        let lookup = format!("nslookup {name}.lxm");
        sandbox.lxm(&["attach", "web", "--", "sh", "-c", &lookup]).ok().says(address);
    }
    elsewhere(sandbox, &dir, &["destroy", "-f", "web"]).ok();
    sandbox.lxm(&["attach", "web", "--", "sh", "-c", "nslookup web.lxm"]).ok().says(&own);
}
