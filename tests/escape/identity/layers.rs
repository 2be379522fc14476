//! Two containers on one layer of an overlay.

use super::{copy_by_hand, place, stack, upper};
use crate::support::{Guest, Sandbox, Trial};

pub(super) fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox).limit(120);
    vec![
        busybox("escape::identity::a_copy_never_writes_to_the_layer_of_what_runs", shared_layer),
        busybox("escape::identity::no_verb_makes_a_copy_the_original", laundered),
        busybox("escape::identity::an_adopted_copy_has_no_layer_that_another_one_writes_to", layers_below),
    ]
}

fn shared_layer(sandbox: &Sandbox) {
    sandbox.boot("web", Guest::Busybox, &["--storage", "overlay"]);
    let (original, copy) = (place(sandbox, "web"), place(sandbox, "web2"));
    copy_by_hand(&original, &copy);
    assert_eq!(upper(&original), upper(&copy), "the means: one layer for both");
    // Whatever the files say of whose they are.
    std::fs::remove_file(copy.join("home.toml")).unwrap();
    sandbox.lxm(&["start", "web2"]).fails(4).complains("`web2` is a copy of `web`");
    sandbox.lxm(&["pull", "web2:/etc/hostname", "/dev/null/x"]).fails(4).complains("another process writes to");
    let told = sandbox.lxm(&["adopt", "web2", "--new-identity"]).fails(4);
    told.complains("`web` runs").complains("hint: `lxm stop web` first");
    assert!(!copy.join("home.toml").exists(), "nothing has changed");
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    sandbox.lxm(&["adopt", "web2", "--new-identity"]).ok();
    assert_ne!(upper(&original), upper(&copy));
    sandbox.lxm(&["start", "web", "web2"]).ok();
    sandbox.lxm(&["destroy", "-f", "web2"]).ok();
    sandbox.lxm(&["attach", "web", "--", "ls", "/etc/hostname"]).ok();
}

fn laundered(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Busybox, &["--storage", "overlay"]);
    sandbox.lxm(&["snapshot", "create", "web", "s1"]).ok();
    let copy = place(sandbox, "copy");
    copy_by_hand(&place(sandbox, "web"), &copy);
    let before = stack(&copy);
    for verb in [&["rename", "copy", "db"][..], &["snapshot", "create", "copy"], &["snapshot", "restore", "copy", "s1"]]
    {
        sandbox.lxm(verb).fails(4).complains("`copy` is a copy of `web`");
    }
    assert!(stack(&copy) == before && !place(sandbox, "db").exists());
    // The means: each of them works on the original, and on a copy that is one of its own right.
    for name in ["web", "copy"] {
        sandbox.lxm(&["snapshot", "create", name]).ok();
        sandbox.lxm(&["snapshot", "restore", name, "s1"]).ok();
        sandbox.lxm(&["rename", name, "db"]).ok();
        if name == "web" {
            sandbox.lxm(&["rename", "db", "web"]).ok();
            sandbox.lxm(&["adopt", "copy", "--new-identity"]).ok();
        }
    }
}

fn layers_below(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Busybox, &["--storage", "overlay"]);
    let original = place(sandbox, "web");
    let write = |name: &str, text: &str| {
        sandbox.lxm(&["start", name]).ok();
        sandbox.lxm(&["attach", name, "--", "sh", "-c", &format!("echo {text} >/root/{text}")]).ok();
    };
    write("web", "first");
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    // As of a former version: neither is at home, and a snapshot freezes what the other one writes to.
    let copy = place(sandbox, "copy");
    std::fs::remove_file(original.join("home.toml")).unwrap();
    copy_by_hand(&original, &copy);
    sandbox.lxm(&["snapshot", "create", "copy", "s1"]).ok();
    let written = upper(&original);
    for of_copy in [copy.clone(), copy.join("snapshots/s1")] {
        assert!(stack(&of_copy).contains(&written), "the means: it has the other one's layer below");
    }
    sandbox.lxm(&["adopt", "copy", "--new-identity"]).ok();
    for of_copy in [copy.clone(), copy.join("snapshots/s1")] {
        assert!(!stack(&of_copy).contains(&written));
    }
    write("web", "second");
    sandbox.lxm(&["start", "copy"]).ok();
    sandbox.lxm(&["attach", "copy", "--", "sh", "-c", "ls /root"]).ok().says("first");
    sandbox.lxm(&["attach", "copy", "--", "ls", "/root/second"]).fails(1);
    sandbox.lxm(&["stop", "-k", "web"]).ok();

    // The other way: what the copy writes to is frozen below the original.
    copy_by_hand(&original, &place(sandbox, "late"));
    sandbox.lxm(&["snapshot", "create", "web"]).ok();
    let frozen = upper(&place(sandbox, "late"));
    assert!(stack(&original).contains(&frozen), "the means: it is below the original");
    sandbox.lxm(&["adopt", "late", "--new-identity"]).ok();
    assert!(upper(&place(sandbox, "late")) != frozen && stack(&original).contains(&frozen));
    sandbox.lxm(&["start", "web", "late"]).ok();
}
