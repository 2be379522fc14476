//! docs/IMPORT.md, written from the tables, which name every setting of the programs' own manuals.

use std::path::{Path, PathBuf};

use super::{lxc, nspawn, oci};

const HEAD: &str = "\
# What `lxm import` makes of other programs' settings

A test writes this file from the tables that read the settings (`src/ops/import`), and holds them against the names
that the programs have (`tests/import`). For the containers and images themselves see [README.md](../README.md).

- What is **lost** is said at the import, setting by setting, with the reason, and so is every setting that no table
  has. What a program ships for all its containers is not repeated.
- No container gets more of the host than it had. Where a setting cannot be had, what depends on it is left out: an
  interface, a mount, a device. What gives more than a new container has takes `--trust`. What confined a guest in a
  way that lxm does not have (`lxc.no_new_privs`, `Inaccessible=`) is said.
- What is written starts, or is refused at the import: links and devices that this host lacks are left out, a mount
  whose source is missing waits for it (`optional`), files without an init are refused.
- What a command can still give the container is one line at the end of the import, a `lxm config set` with all of it.
";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text() -> String {
    let table = |title: &str, about: &str, column: &str, rows: &str| {
        format!("\n## {title}\n\n{about}\n\n| {column} | in lxm |\n|---|---|\n{rows}")
    };
    let [container, interface] = lxc::document();
    let [image, process] = oci::document();
    [
        HEAD.to_owned(),
        table(
            "LXC",
            "Versions 1 to 7: `config` in the container's directory, lxc.container.conf(5). An empty value takes away what was \
             said before, as LXC reads it; what is in quotes is read without them.",
            "setting",
            &container,
        ),
        table("Interfaces of LXC", "In LXC 1 and 2 they are `lxc.network.NAME`, each begun by its `type`.", "setting", &interface),
        table(
            "systemd-nspawn",
            "Up to systemd 262: `NAME.nspawn` in /etc/systemd/nspawn, /run/systemd/nspawn or beside the tree, systemd.nspawn(5). \
             Quotes, continued lines and empty values are read by the rules of systemd.syntax(7). Without `[Network]` a machine \
             gets what `systemd-nspawn@.service` gives it: a `veth`.",
            "setting",
            &nspawn::document(),
        ),
        table("Images of OCI and docker", "The image's configuration.", "field", &image),
        table("The process of an image", "The object `config` of it; `docker inspect` shows it.", "field", &process),
    ]
    .concat()
}

#[test]
fn the_document_is_as_the_tables_are() {
    let path: PathBuf = root().join("docs/IMPORT.md");
    let text = text();
    if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
        std::fs::write(&path, &text).unwrap();
        panic!("docs/IMPORT.md was not up to date; it is now: read it, and add it to the commit");
    }
}

#[test]
fn every_setting_of_the_manuals_has_a_row() {
    let mut missing = Vec::new();
    for (file, least, knows) in [
        ("lxc.keys", 150, lxc::knows as fn(&str) -> bool),
        ("nspawn.keys", 60, nspawn::knows),
        ("oci.keys", 40, oci::knows),
    ] {
        let text = std::fs::read_to_string(root().join("tests/import").join(file)).unwrap();
        let keys = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(' ').next());
        let keys: Vec<&str> = keys.collect();
        assert!(keys.len() >= least, "{file} has {} settings", keys.len());
        missing.extend(keys.into_iter().filter(|key| !knows(key)).map(|key| format!("{file}: {key}")));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    // The means: a setting that nobody has is in no table.
    assert!(!lxc::knows("lxc.shiny") && !lxc::knows("lxc.net.0.shiny") && !lxc::knows("lxc.net.x"));
    assert!(!nspawn::knows("Exec.Shiny") && !oci::knows("config.Shiny"));
}
