use super::*;

const SHA: &str = "aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11aa11";

fn streams(products: serde_json::Value) -> Streams {
    let products: Products = serde_json::from_value(serde_json::json!({ "products": products })).unwrap();
    let named = products.products.into_iter().map(|(key, product)| Product { key, ..product });
    Streams { server: "https://images.example".into(), products: named.collect() }
}

fn file(ftype: &str, path: &str) -> serde_json::Value {
    serde_json::json!({ "ftype": ftype, "path": path, "sha256": SHA, "size": 7 })
}

fn sample() -> Streams {
    streams(serde_json::json!({
        "alpine:3.22:amd64:default": {
            "os": "Alpine", "release": "3.22", "arch": "amd64", "variant": "default", "aliases": "alpine/3.22/default,alpine/3.22",
            "versions": {
                "20261120_13:00": { "items": { "a": file("root.tar.xz", "old.tar.xz") } },
                "20261121_13:00": { "items": {
                    "lxd.tar.xz": file("lxd.tar.xz", "meta"), "b": file("squashfs", "new.squashfs"), "c": file("root.tar.xz", "new.tar.xz") } },
                // Not there yet as a whole.
                "20261122_13:00": { "items": { "disk": file("disk-kvm.img", "disk") } },
            },
        },
        "alpine:3.22:amd64:cloud": {
            "os": "Alpine", "release": "3.22", "arch": "amd64", "variant": "cloud",
            "versions": { "1": { "items": { "b": file("squashfs", "cloud.squashfs") } } },
        },
        "com.ubuntu.cloud:server:24.04:amd64": {
            "os": "ubuntu", "release": "noble", "version": "24.04", "arch": "amd64", "aliases": "24.04,noble,lts",
            "versions": { "20261101": { "items": { "x": { "ftype": "root.tar.xz", "path": "p", "size": 3 } } } },
        },
    }))
}

fn wanted<'a>(os: &'a str, release: &'a str, variant: &'a str) -> Wanted<'a> {
    Wanted { os, release, arch: Arch::Amd64, variant }
}

#[test]
fn the_newest_whole_version_is_taken_tar_before_squashfs() {
    let chosen = sample().choose(&wanted("alpine", "3.22", "default")).unwrap();
    assert_eq!((chosen.path.as_str(), chosen.kind), ("new.tar.xz", FileKind::Tar));
    let chosen = sample().choose(&wanted("alpine", "3.22", "cloud")).unwrap();
    assert_eq!((chosen.path.as_str(), chosen.kind), ("cloud.squashfs", FileKind::Squashfs));
}

#[test]
fn a_missing_release_is_reported_with_what_there_is() {
    for (os, release, variant) in [("alpine", "3.9", "default"), ("alpine", "3.22", "x"), ("beos", "5", "default")] {
        let e = sample().choose(&wanted(os, release, variant)).unwrap_err();
        assert_eq!(e.kind(), Kind::NotFound);
        assert_eq!(e.hint_text().unwrap().contains("3.22 (cloud)"), os == "alpine", "{e:?}");
    }
}

#[test]
fn a_release_is_known_by_any_name_but_not_without_a_digest() {
    for release in ["noble", "24.04", "lts"] {
        let e = sample().choose(&wanted("ubuntu", release, "default")).unwrap_err();
        assert!(e.to_string().contains("no sha256"), "{release}: {e}");
    }
}

#[test]
fn no_release_asked_for_is_the_newest_numbered_one() {
    let product =
        |release: &str| Product { release: release.into(), ..serde_json::from_value(serde_json::json!({})).unwrap() };
    for (releases, newest) in [
        (vec!["3.9", "3.22", "edge"], "3.22"),
        (vec!["9", "10"], "10"),
        (vec!["15.6", "tumbleweed", "16.0"], "16.0"),
        (vec!["current"], "current"),
    ] {
        let products: Vec<Product> = releases.into_iter().map(product).collect();
        assert_eq!(newest_release(products.iter()), Some(newest));
    }
}

#[test]
fn no_list_sends_us_elsewhere() {
    let streams = sample();
    assert_eq!(streams.url("images/a/b.tar").unwrap(), "https://images.example/images/a/b.tar");
    for path in ["/etc/passwd", "../x", "a/../b", "http://evil/x", "a?b", "a//b", "a b", ""] {
        assert!(streams.url(path).is_err(), "{path}");
    }
}

#[test]
fn all_that_can_be_had_is_listed() {
    let listed = sample().available("ALPINE");
    let variants: Vec<_> = listed.iter().map(|a| (a.variant.as_str(), a.version.as_str())).collect();
    assert_eq!(variants, [("cloud", "1"), ("default", "20261121_13:00")]);
}
