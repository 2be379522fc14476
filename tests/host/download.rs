//! Builder `download` against a simplestreams server of the trial's own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::support::{Guest, Need, Sandbox, Trial, run};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("download::the_newest_tree_of_a_server_becomes_a_guest", newest).guest(Guest::Probe),
        Trial::new("download::what_is_not_as_the_list_says_leaves_nothing", corrupt).guest(Guest::Probe),
        Trial::new("download::a_squashfs_becomes_a_guest", squashfs)
            .guest(Guest::Probe)
            .needs(Need::Tool("mksquashfs"))
            .needs(Need::FileSystem("squashfs")),
        Trial::new("download::lists_that_are_not_signed_by_the_templates_key_are_refused", signed)
            .guest(Guest::Probe)
            .needs(Need::Tool("gpg"))
            .needs(Need::Tool("gpgv")),
        Trial::new("download::servers_that_do_not_answer_are_named", unreachable),
    ]
}

/// Serves the files below `root`; ends with the trial.
fn serve(root: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let path = request.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
            let mut stream = stream;
            let answered = match fs::read(root.join(path)) {
                Ok(body) => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())
                    .and_then(|()| stream.write_all(&body)),
                Err(_) => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
            };
            answered.ok();
        }
    });
    format!("http://{address}")
}

/// A server's directory, and its address.
pub struct Server {
    pub root: PathBuf,
    pub url: String,
}

impl Server {
    pub fn new(sandbox: &Sandbox) -> Self {
        let root = sandbox.path("server");
        fs::create_dir_all(root.join("streams/v1")).unwrap();
        fs::create_dir_all(root.join("images")).unwrap();
        Server { url: serve(root.clone()), root }
    }

    /// Says in its lists that there are these versions: name, kind and file.
    pub fn list(&self, versions: &[(&str, &str, &str)]) {
        let item = |(version, ftype, path): &(&str, &str, &str)| {
            let contents = fs::read(self.root.join(path)).unwrap();
            let sha: String = Sha256::digest(&contents).iter().map(|byte| format!("{byte:02x}")).collect();
            let item = serde_json::json!({ "ftype": ftype, "path": path, "sha256": sha, "size": contents.len() });
            (version.to_string(), serde_json::json!({ "items": { "file": item } }))
        };
        let versions: serde_json::Map<_, _> = versions.iter().map(item).collect();
        let arch = lxm::testing::types::Arch::host().to_string();
        let product = serde_json::json!({
            "os": "Probe", "release": "1.0", "arch": arch, "variant": "default", "versions": versions });
        let products = serde_json::json!({ "format": "products:1.0", "products": { format!("probe:1.0:{arch}:default"): product } });
        let index = serde_json::json!({ "format": "index:1.0", "index": { "images": {
            "datatype": "image-downloads", "path": "streams/v1/images.json", "format": "products:1.0" } } });
        fs::write(self.root.join("streams/v1/images.json"), products.to_string()).unwrap();
        fs::write(self.root.join("streams/v1/index.json"), index.to_string()).unwrap();
    }

    /// A template that downloads from it.
    pub fn template(&self, sandbox: &Sandbox, more: &str) {
        let dir = sandbox.path("etc/lxm/templates");
        fs::create_dir_all(&dir).unwrap();
        let text = format!(
            "builder = \"download\"\nuser = \"root\"\n[download]\nserver = \"{}\"\nos = \"probe\"\n{more}",
            self.url
        );
        fs::write(dir.join("try.toml"), text).unwrap();
    }

    /// Packs the probe's root file system, with `mark` in it, as `images/NAME`.
    pub fn pack(&self, sandbox: &Sandbox, name: &str, mark: &str) {
        if !sandbox.path("var/lib/lxm/seed").exists() {
            sandbox.create("seed", Guest::Probe, &["--storage", "dir"]);
        }
        let rootfs = sandbox.path("var/lib/lxm/seed/rootfs");
        fs::write(rootfs.join("etc/mark"), mark).unwrap();
        let (file, rootfs) = (self.root.join("images").join(name), rootfs.to_str().unwrap().to_owned());
        let file = file.to_str().unwrap();
        if name.ends_with("squashfs") {
            run("mksquashfs", &[&rootfs, file, "-no-progress", "-quiet"]).ok();
        } else {
            run("tar", &["-C", &rootfs, "-caf", file, "."]).ok();
        }
    }
}

fn mark(sandbox: &Sandbox, name: &str) -> String {
    sandbox.lxm(&["pull", &format!("{name}:/etc/mark"), "-"]).ok().stdout
}

fn create(sandbox: &Sandbox, name: &str) -> super::support::Outcome {
    // The trial's own server speaks http; where its lists are signed, that is what counts.
    sandbox.lxm(&["create", name, "-t", "try", "--network", "none", "--insecure"])
}

fn newest(sandbox: &Sandbox) {
    let server = Server::new(sandbox);
    server.pack(sandbox, "old.tar.xz", "old");
    server.pack(sandbox, "new.tar.xz", "new");
    server.list(&[("20261101", "root.tar.xz", "images/old.tar.xz"), ("20261102", "root.tar.xz", "images/new.tar.xz")]);
    server.template(sandbox, "");
    create(sandbox, "one").ok();
    assert_eq!(mark(sandbox, "one"), "new");
    sandbox.lxm(&["start", "one", "--wait", "booted"]).ok();
    sandbox.lxm(&["stop", "-k", "one"]).ok();
    assert!(fs::read_dir(sandbox.path("var/cache/lxm/downloads")).unwrap().next().is_none());

    let listed = sandbox.lxm(&["image", "available", "-t", "try", "--insecure", "--format", "json"]).ok().json();
    assert_eq!((listed[0]["release"].as_str(), listed[0]["version"].as_str()), (Some("1.0"), Some("20261102")));
    sandbox.lxm(&["image", "available", "-t", "try", "--insecure"]).ok().says("20261102");

    // The image is kept; asked for anew it is what the server has then.
    server.pack(sandbox, "newer.tar.xz", "newer");
    server.list(&[("20261103", "root.tar.xz", "images/newer.tar.xz")]);
    create(sandbox, "two").ok();
    assert_eq!(mark(sandbox, "two"), "new");
    // That one alone: the store has the guests of other trials too.
    sandbox.lxm(&["image", "refresh", sandbox.info("one", "image").as_str().unwrap()]).ok();
    create(sandbox, "three").ok();
    assert_eq!(mark(sandbox, "three"), "newer");
    sandbox
        .lxm(&["create", "x", "-t", "try", "-r", "2.0", "--network", "none", "--insecure"])
        .fails(3)
        .complains("it has 1.0");
}

fn corrupt(sandbox: &Sandbox) {
    let server = Server::new(sandbox);
    server.pack(sandbox, "a.tar.xz", "a");
    server.list(&[("1", "root.tar.xz", "images/a.tar.xz")]);
    server.template(sandbox, "");
    let file = server.root.join("images/a.tar.xz");
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    for (contents, says) in
        [(bad, "digest"), (good[..good.len() / 2].to_vec(), "shorter"), ([&good[..], b"x"].concat(), "longer")]
    {
        fs::write(&file, contents).unwrap();
        create(sandbox, "one").fails(1).complains(says);
        assert!(!sandbox.path("var/lib/lxm/one").exists());
    }
    fs::remove_file(&file).unwrap();
    create(sandbox, "one").fails(3).complains("404");
    fs::write(&file, &good).unwrap();
    create(sandbox, "one").ok();
    assert_eq!(mark(sandbox, "one"), "a");
}

fn squashfs(sandbox: &Sandbox) {
    let server = Server::new(sandbox);
    server.pack(sandbox, "rootfs.squashfs", "squashed");
    server.list(&[("1", "squashfs", "images/rootfs.squashfs")]);
    server.template(sandbox, "");
    create(sandbox, "one").ok();
    assert_eq!(mark(sandbox, "one"), "squashed");
    sandbox.lxm(&["start", "one", "--wait", "booted"]).ok();
    sandbox.lxm(&["stop", "-k", "one"]).ok();
}

fn signed(sandbox: &Sandbox) {
    let server = Server::new(sandbox);
    server.pack(sandbox, "a.tar.xz", "signed");
    server.list(&[("1", "root.tar.xz", "images/a.tar.xz")]);
    server.template(sandbox, "keyring = \"try.gpg\"\n");
    let keyrings = sandbox.path("etc/lxm/templates/keyrings");
    fs::create_dir_all(&keyrings).unwrap();
    let gpg = |home: &Path, args: &[&str]| {
        fs::create_dir_all(home).unwrap();
        let home = [
            "--homedir",
            home.to_str().unwrap(),
            "--batch",
            "--yes",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ];
        run("gpg", &[&home, args].concat()).ok();
    };
    let (ours, theirs) = (sandbox.path("ours"), sandbox.path("theirs"));
    for home in [&ours, &theirs] {
        gpg(home, &["--quick-generate-key", "Images <images@example>", "ed25519", "sign", "never"]);
    }
    let keyring = keyrings.join("try.gpg");
    gpg(&ours, &["--output", keyring.to_str().unwrap(), "--export"]);
    let sign = |home: &Path| {
        for list in ["index", "images"] {
            let file =
                |ending: &str| server.root.join(format!("streams/v1/{list}.{ending}")).to_str().unwrap().to_owned();
            gpg(home, &["--output", &file("sjson"), "--clearsign", &file("json")]);
        }
    };
    create(sandbox, "one").fails(3);
    sign(&theirs);
    create(sandbox, "one").fails(1).complains("not signed by a key of");
    sign(&ours);
    // Text around what is signed, as an attacker on the way would put it there.
    let index = server.root.join("streams/v1/index.sjson");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace("images.json", "others.json")).unwrap();
    create(sandbox, "one").fails(1).complains("not signed by a key of");
    fs::write(&index, text).unwrap();
    create(sandbox, "one").ok();
    assert_eq!(mark(sandbox, "one"), "signed");
    for home in [&ours, &theirs] {
        let mut stop = std::process::Command::new("gpgconf");
        stop.env("GNUPGHOME", home).args(["--kill", "gpg-agent"]).status().unwrap();
    }
}

fn unreachable(sandbox: &Sandbox) {
    let dir = sandbox.path("etc/lxm/templates");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("try.toml"), "builder = \"download\"\n[download]\nserver = \"http://127.0.0.1:1\"\n").unwrap();
    create(sandbox, "one").fails(7).complains("127.0.0.1:1");
    sandbox.lxm(&["image", "available", "-t", "try", "--insecure"]).fails(7).complains("127.0.0.1:1");
    sandbox.lxm(&["image", "available", "-t", "debian"]).fails(2);
}
