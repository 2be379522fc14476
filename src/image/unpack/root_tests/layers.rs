//! Layers over layers.

use super::*;

fn layers(bench: &Bench, names: &[&str]) {
    for name in names {
        let archive = std::fs::read(bench.path(name)).unwrap();
        unpack_layer(archive.as_slice(), &bench.path("root"), &Budget::default(), &Progress::hidden())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn whiteouts_remove_what_lower_layers_made_alone() {
    let bench = Bench::new();
    bench.sh(
        "mkdir -p root a/dir/sub a/opaque/old a/usr/bin b/opaque b/dir b/bin expected
         echo 1 > a/gone; echo 1 > a/dir/kept; echo 1 > a/dir/gone; echo 1 > a/opaque/old/file; echo 1 > a/file-to-dir
         mkdir a/dir-to-file; echo 1 > a/dir-to-file/x; ln -s /usr/bin a/bin
         touch b/.wh.gone b/dir/.wh.gone b/dir/.wh.sub b/dir/.wh.never-was b/opaque/.wh..wh..opq
         echo 2 > b/opaque/new; mkdir b/file-to-dir; echo 2 > b/file-to-dir/y; echo 2 > b/dir-to-file; echo 2 > b/bin/tool
         tar -C a -cf a.tar .; tar -C b -cf b.tar --exclude=./bin .; tar -C b -rf b.tar ./bin/tool
         mkdir -p expected/dir expected/opaque expected/usr/bin expected/file-to-dir
         echo 1 > expected/dir/kept; echo 2 > expected/opaque/new; echo 2 > expected/file-to-dir/y
         echo 2 > expected/dir-to-file; echo 2 > expected/usr/bin/tool; ln -s /usr/bin expected/bin",
    );
    layers(&bench, &["a.tar", "b.tar"]);
    bench.sh("diff -r --no-dereference root expected");
    // The opaque marker may come after its siblings.
    bench
        .sh("rm -rf root; mkdir root; tar -C b -cf late.tar ./opaque/new; tar -C b -rf late.tar ./opaque/.wh..wh..opq");
    layers(&bench, &["a.tar", "late.tar"]);
    bench.sh("test $(ls root/opaque) = new");
}

#[test]
fn attributes_of_a_lower_layer_do_not_reach_the_next() {
    let bench = Bench::new();
    bench.sh(
        "mkdir -p root a/mail b/mail expected; setfacl -d -m u:77:rwx a/mail; setfacl -m u:77:rwx a; chgrp 8 a/mail
         chmod 2775 a/mail; echo x > b/mail/f; mkdir b/mail/d; mkfifo b/mail/p; ln -s x b/mail/l; touch -d @5 a/mail a
         touch -hd @5 b/mail/* b/mail b; tar --xattrs --xattrs-include='*' -C a -cf a.tar .
         tar -C b -cf b.tar mail/f mail/d mail/p mail/l; mkdir expected/mail; cp -a b/mail/* expected/mail",
    );
    layers(&bench, &["a.tar", "b.tar"]);
    let (found, expected) = (fingerprint(&bench.path("root")), fingerprint(&bench.path("expected")));
    for path in ["mail/f", "mail/d", "mail/p", "mail/l"] {
        assert_eq!(found[path.as_bytes()], expected[path.as_bytes()], "{path}");
    }
    for path in ["", "mail"] {
        assert!(found[path.as_bytes()].contains("posix_acl"), "`{path}` keeps its own: {}", found[path.as_bytes()]);
    }
    bench.sh("test $(stat -c %a-%g root/mail) = 2775-8");
}

#[test]
fn paths_that_a_running_container_could_not_open_are_refused() {
    let bench = Bench::new();
    bench.sh("mkdir root");
    let path = vec![b"d".to_vec(); 2048].join(&b'/');
    let layer = |path: &[u8]| {
        let archive = [pax(&[("path", path)]), file("x"), vec![0; 1024]].concat();
        unpack_layer(archive.as_slice(), &bench.path("root"), &Budget::default(), &Progress::hidden())
    };
    layer(&path).unwrap();
    let error = layer(&[&path, b"/".as_slice(), b"d"].concat()).unwrap_err().to_string();
    assert!(error.contains("its path is longer than PATH_MAX"), "{error}");
}

#[test]
fn no_whiteout_leads_out_of_the_tree() {
    let bench = Bench::new();
    bench.sh(
        "mkdir root outside a b; echo host > outside/file; ln -s $PWD/outside a/link; tar -C a -cf a.tar .
         mkdir b/link; touch b/link/.wh.file b/link/.wh..wh..opq; tar -C b -cf b.tar ./link/.wh.file ./link/.wh..wh..opq",
    );
    layers(&bench, &["a.tar", "b.tar"]);
    bench.sh("test $(cat outside/file) = host");
    bench.sh("touch b/.wh..; tar -C b -cf c.tar ./.wh..");
    let archive = std::fs::read(bench.path("c.tar")).unwrap();
    assert!(unpack_layer(archive.as_slice(), &bench.path("root"), &Budget::default(), &Progress::hidden()).is_err());
}
