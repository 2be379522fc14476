//! Text of guests, archives and servers on the admin's terminal.

use std::fs;

use super::foreign::{ORIGIN, docker_archive, export_with, write_archive};
use crate::download::Server;
use crate::support::{Guest, Outcome, Sandbox, Trial};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("escape::terminal::what_an_image_says_of_itself", image).guest(Guest::Probe),
        Trial::new("escape::terminal::what_an_export_and_a_configuration_say", export).guest(Guest::Probe),
        Trial::new("escape::terminal::names_of_files", names).guest(Guest::Probe),
        Trial::new("escape::terminal::what_a_server_has", server).guest(Guest::Probe),
    ]
}

/// Writes to the clipboard, clears the screen, turns the text around, and adds a message of its own.
const EVIL: &str = "x\u{1b}]52;c;bHhtCg==\u{7}\u{1b}[2J\u{9b}2J\u{202e}y\nerror: forged";

/// Asserts that nothing of it does what it would.
#[track_caller]
fn harmless(said: Outcome) -> Outcome {
    for text in [&said.stdout, &said.stderr] {
        let control = text.chars().find(|c| lxm::testing::terminal::is_control(*c) && *c != '\n');
        assert_eq!(control, None, "{said}");
        assert!(!text.lines().any(|line| line.starts_with("error: forged")), "{said}");
    }
    // It is shown, and not dropped.
    assert!(format!("{}{}", said.stdout, said.stderr).contains("\\u{1b}]52;c;bHhtCg==\\u{7}"), "{said}");
    said
}

fn image(sandbox: &Sandbox) {
    let process = serde_json::json!({
        "Cmd": ["/bin/probe", EVIL], "User": EVIL, "Volumes": { EVIL: {} },
        "ExposedPorts": { "80/tcp;touch pwned;": {}, EVIL: {}, "8080/tcp": {} },
    });
    let config = serde_json::json!({ "config": process });
    let archive = docker_archive(sandbox, &config, |_| ());
    // The means: that is what is in it.
    assert!(config.to_string().contains("\\u001b]52;c;"));
    let path = write_archive(sandbox, "evil.tar", &archive);
    let said = harmless(sandbox.lxm(&["import", &path, "-n", "evil"]).ok());
    // What is to be typed is a port; what is none is not proposed.
    let proposed: Vec<&str> = said.stderr.split('`').filter(|part| part.starts_with("lxm config set")).collect();
    assert_eq!(proposed, ["lxm config set evil network.eth0.publish 8080:8080/tcp"], "{said}");
}

fn export(sandbox: &Sandbox) {
    let origin = ORIGIN.replace("\"probe\"", &toml::Value::String(EVIL.into()).to_string());
    let config = format!(
        "version = 1\nuuid = \"2f1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11\"\ndescription = {evil}\n[network.{evil}]\ntype = \"host\"\n",
        evil = toml::Value::String(EVIL.replace('\n', "\\n"))
    );
    let pack = |config: &str| {
        let archive = export_with(&origin, |tar| {
            super::foreign::put(tar, "lxm/config.toml", config.as_bytes());
            super::foreign::put(tar, "rootfs/etc/hostname", b"evil\n");
        });
        write_archive(sandbox, "evil.tar", &archive)
    };
    harmless(sandbox.lxm(&["import", &pack(&config)]).ok());
    harmless(sandbox.lxm(&["info", "evil"]).ok());
    harmless(sandbox.lxm(&["list", "--columns", "name,template"]).ok());
    // Of a program it is asked for as it is; no control character is needed for that.
    let json = sandbox.lxm(&["info", "evil", "--format", "json"]).ok();
    assert!(!json.stdout.contains(|c| lxm::testing::terminal::is_control(c) && c != '\n'), "{json}");
    assert_eq!(json.json()["template"], EVIL);
    // A setting is shown exactly where no terminal is.
    assert_eq!(sandbox.lxm(&["config", "get", "evil", "description"]).ok().line(), EVIL.replace('\n', "\\n"));
    let mut screen = crate::support::pty::Terminal::open(sandbox, &["config", "get", "evil", "description"], 24, 200);
    let shown = screen.shows("forged");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
    assert_eq!(screen.ends(), 0);
    sandbox.lxm(&["destroy", "evil"]).ok();
    let bad = format!("version = 1\n[limits]\npids = {}\n", toml::Value::String(EVIL.into()));
    harmless(sandbox.lxm(&["import", &pack(&bad)]).fails(6));
}

fn names(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "dir"]);
    let tree = sandbox.path("var/lib/lxm/web/rootfs/srv");
    fs::create_dir_all(tree.join("tree")).unwrap();
    let name = EVIL.replace('/', "");
    nix::unistd::mkfifo(&tree.join("tree").join(&name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // The means: the kernel has nothing against it.
    let listed = fs::read_dir(tree.join("tree")).unwrap().next().unwrap().unwrap().file_name();
    assert_eq!(listed.to_str().unwrap(), name);
    let to = sandbox.path("pulled");
    harmless(sandbox.lxm(&["pull", "web:/srv/tree", to.to_str().unwrap()]).ok());
    harmless(sandbox.lxm(&["pull", &format!("web:/srv/tree/{name}"), to.join("x").to_str().unwrap()]).fails(1));
}

fn server(sandbox: &Sandbox) {
    let server = Server::new(sandbox);
    server.pack(sandbox, "a.tar.xz", "a");
    server.list(&[("1", "root.tar.xz", "images/a.tar.xz")]);
    let lists = server.root.join("streams/v1/images.json");
    let mut products: serde_json::Value = serde_json::from_str(&fs::read_to_string(&lists).unwrap()).unwrap();
    let all = products["products"].as_object_mut().unwrap();
    let mut product = all.values().next().unwrap().clone();
    product["release"] = EVIL.into();
    product["aliases"] = "".into();
    all.clear();
    all.insert(EVIL.to_owned(), product);
    fs::write(&lists, products.to_string()).unwrap();
    server.template(sandbox, "");
    let create = ["create", "x", "-t", "try", "-r", "2.0", "--network", "none", "--insecure"];
    harmless(sandbox.lxm(&create).fails(3));
    harmless(sandbox.lxm(&["image", "available", "-t", "try", "--insecure"]).ok());
}
