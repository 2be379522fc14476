//! Against GNU tar on the same archives. They need root, for owners, capabilities and devices.

mod forms;
mod layers;

use super::*;
use crate::image::fingerprint::{assert_same, fingerprint};
use crate::image::testing::{Bench, TORTURE};

fn unpack_into(bench: &Bench, archive: &[u8]) -> Result<Summary> {
    std::fs::remove_dir_all(bench.path("root")).ok();
    unpack(archive, &bench.path("root"), &Budget::default(), &Progress::hidden())
}

const EVERYTHING: &str = "--xattrs --xattrs-include='*' --numeric-owner";

#[test]
fn a_tree_comes_out_as_gnu_tar_makes_it() {
    let bench = Bench::new();
    bench.sh(TORTURE);
    for flags in [
        "--format=gnu",
        "--format=gnu -S",
        "--format=pax",
        "--format=pax -S",
        "--format=pax -S --sparse-version=0.0",
        "--format=pax -S --sparse-version=0.1",
        "--format=pax --xattrs --xattrs-include='*'",
        "--format=pax --xattrs --xattrs-include='*' -S",
        "--format=pax --xattrs --xattrs-include='*' --acls -S",
        "--format=pax --acls",
        "--sort=name --hard-dereference --format=gnu",
    ] {
        bench.sh(&format!("rm -rf gnu a.tar; tar {flags} --numeric-owner -C src -cf a.tar ."));
        // Given `--acls`, GNU tar removes lists that an archive without them has as attributes.
        let acls = if flags.contains("--acls") { "--acls" } else { "" };
        bench.sh(&format!("mkdir gnu; tar {EVERYTHING} {acls} -C gnu -xf a.tar"));
        let archive = std::fs::read(bench.path("a.tar")).unwrap();
        let summary = unpack_into(&bench, &archive).unwrap_or_else(|e| panic!("{flags}: {e}"));
        println!("{flags}: {summary:?}");
        assert_same(&bench.path("root"), &bench.path("gnu"));
        if flags.contains("--xattrs") && flags.contains("-S") {
            assert_same(&bench.path("root"), &bench.path("src"));
        }
    }
}

#[test]
fn old_and_ustar_archives_come_out_as_gnu_tar_makes_them() {
    let bench = Bench::new();
    bench.sh("mkdir -p src/a/b; cd src; echo x > a/b/c; ln a/b/c d; ln -s d e; mkdir -p $(printf 'p%.0s' {1..90})/q; \
              echo y > $(printf 'p%.0s' {1..90})/q/r; touch -d @1234567890 a/b/c d .");
    for format in ["v7", "oldgnu", "ustar"] {
        bench.sh(&format!("rm -rf gnu a.tar; tar --format={format} -C src -cf a.tar ."));
        bench.sh(&format!("mkdir gnu; tar {EVERYTHING} -C gnu -xf a.tar"));
        unpack_into(&bench, &std::fs::read(bench.path("a.tar")).unwrap()).unwrap_or_else(|e| panic!("{format}: {e}"));
        assert_same(&bench.path("root"), &bench.path("gnu"));
    }
}

#[test]
fn a_path_that_comes_twice_is_what_came_last() {
    let bench = Bench::new();
    bench.sh("mkdir a b; cd a; mkdir dir keep; echo 1 > file; ln -s keep link; echo old > hard; ln hard hard2; cd ../b
         echo now-a-file > keepme; mkdir file; echo in > file/in; mkdir link; echo new > hard; mkdir dir; chmod 700 dir
         cd ..; touch -d @5 a/* a b/* b; tar -cf x.tar -C a .; tar -rf x.tar -C b .
         mkdir gnu; tar --numeric-owner -C gnu -xf x.tar");
    unpack_into(&bench, &std::fs::read(bench.path("x.tar")).unwrap()).unwrap();
    assert_same(&bench.path("root"), &bench.path("gnu"));
}

#[test]
fn directories_that_the_archive_does_not_name_are_made() {
    let bench = Bench::new();
    bench.sh("mkdir -p src/a/b/c; echo x > src/a/b/c/d; tar -cf a.tar -C src a/b/c/d; mkdir gnu; tar -C gnu -xf a.tar");
    unpack_into(&bench, &std::fs::read(bench.path("a.tar")).unwrap()).unwrap();
    let mode = |tree: &str| fingerprint(&bench.path(tree))[&b"a/b"[..]][..17].to_owned();
    assert_eq!(mode("root"), mode("gnu"));
    assert_eq!(std::fs::read(bench.path("root/a/b/c/d")).unwrap(), b"x\n");
}

#[test]
fn device_nodes_are_left_out_and_named() {
    let bench = Bench::new();
    bench.sh(
        "mkdir src; cd src; mknod -m 666 null c 1 3; mknod whiteout c 0 0; mknod disk b 8 0; ln null null2; echo x > file
         tar -cf ../a.tar .",
    );
    let summary = unpack_into(&bench, &std::fs::read(bench.path("a.tar")).unwrap()).unwrap();
    assert_eq!(
        summary.remarks.notes(),
        ["left out, because a container's devices are made at its start: `null2`, `disk`, `null`"]
    );
    let found: Vec<_> = fingerprint(&bench.path("root")).into_keys().collect();
    assert_eq!(found, [b"".to_vec(), b"file".to_vec(), b"whiteout".to_vec()]);
}

/// A ustar header by hand, for what GNU tar would not write.
fn header(kind: u8, name: &[u8], target: &[u8], size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, target);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn file(name: &str) -> Vec<u8> {
    let mut entry = header(b'0', name.as_bytes(), b"", 4);
    entry.extend(b"evil");
    entry.resize(1024, 0);
    entry
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (1..).map(|digits| rest + digits).find(|all| all.to_string().len() + rest == *all).unwrap();
        content.extend(format!("{length} {key}=").as_bytes());
        content.extend(*value);
        content.push(b'\n');
    }
    let mut entry = header(b'x', b"pax", b"", content.len() as u64);
    entry.extend(&content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

#[test]
fn entries_that_would_leave_the_tree_are_refused_by_name() {
    let link = |name: &str, target: &str| header(b'2', name.as_bytes(), target.as_bytes(), 0);
    let hard = |name: &str, target: &str| header(b'1', name.as_bytes(), target.as_bytes(), 0);
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("../escaped", vec![file("../escaped")]),
        ("a/../../escaped", vec![file("a/../../escaped")]),
        ("..", vec![header(b'5', b"..", b"", 0)]),
        ("l/escaped", vec![link("l", ".."), file("l/escaped")]),
        ("l/escaped", vec![link("l", "/"), file("l/escaped")]),
        ("l/escaped", vec![link("l", "/proc/self/cwd"), file("l/escaped")]),
        ("m/escaped", vec![link("l", "../outside"), link("m", "l"), file("m/escaped")]),
        ("l/d/escaped", vec![link("l", "../outside"), file("l/d/escaped")]),
        ("l/d/", vec![link("l", "../outside"), header(b'5', b"l/d/", b"", 0)]),
        ("got", vec![hard("got", "../secret")]),
        ("got", vec![hard("got", "/etc/passwd")]),
        ("got", vec![link("l", ".."), hard("got", "l/secret")]),
        ("l/s", vec![link("l", "../outside"), link("l/s", "target")]),
        ("l/f", vec![link("l", "../outside"), header(b'6', b"l/f", b"", 0)]),
        ("./", vec![header(b'2', b"./", b"outside", 0)]),
        ("long/../../escaped", vec![pax(&[("path", b"long/../../escaped")]), file("harmless")]),
        ("got", vec![pax(&[("linkpath", b"../secret")]), hard("got", "harmless")]),
    ];
    let bench = Bench::new();
    for (name, entries) in cases {
        bench.sh("rm -rf outside escaped; mkdir outside; echo secret > secret");
        let error = unpack_into(&bench, &[entries.concat(), vec![0; 1024]].concat()).expect_err(name);
        assert!(error.to_string().contains(&format!("unpack `{name}`")), "{name}: {error}");
        bench.sh(
            "test -z \"$(ls outside)\"; test ! -e escaped; test ! -e /tmp/lxm-escaped; test $(stat -c %h secret) = 1",
        );
    }
}

#[test]
fn links_inside_the_tree_are_followed_or_replaced() {
    let bench = Bench::new();
    let link = |name: &str, target: &str| header(b'2', name.as_bytes(), target.as_bytes(), 0);
    let entries = [
        header(b'5', b"usr/bin/", b"", 0),
        link("bin", "usr/bin"),
        file("bin/through"),
        link("up", "usr/../usr/bin"),
        file("up/round"),
        // Not written through the link to the host's file.
        link("passwd", "/etc/passwd"),
        file("passwd"),
    ];
    unpack_into(&bench, &[entries.concat(), vec![0; 1024]].concat()).unwrap();
    for path in ["usr/bin/through", "usr/bin/round", "passwd"] {
        assert!(bench.path("root").join(path).symlink_metadata().unwrap().is_file(), "{path}");
    }
}

#[test]
fn directories_that_no_entry_names_are_made_at_any_depth() {
    let bench = Bench::new();
    let deep = |last: &[u8]| [[&[b'd'; 100], b"/".as_slice()].concat().repeat(60), last.to_vec()].concat();
    let entry = |last: &[u8]| [pax(&[("path", &deep(last))]), file("x")].concat();
    unpack_into(&bench, &[entry(b"one"), entry(b"two/three"), vec![0; 1024]].concat()).unwrap();
    let found = fingerprint(&bench.path("root"));
    assert!(found.contains_key(&deep(b"one")) && found.contains_key(&deep(b"two/three")), "{}", found.len());
}

#[test]
fn damaged_archives_say_what_is_wrong_and_where() {
    let good = [file("first"), file("second"), vec![0; 1024]].concat();
    let sparse = |map: &[u8], size: &[u8]| {
        let records = pax(&[("GNU.sparse.major", b"0"), ("GNU.sparse.map", map), ("GNU.sparse.size", size)]);
        [records, file("s"), vec![0; 1024]].concat()
    };
    let mut bad_sum = good.clone();
    bad_sum[1024 + 5] ^= 1;
    let huge = [header(b'0', b"huge", b"", 0o77777777777), vec![0; 5000]].concat();
    let named = |name: &[u8]| [pax(&[("path", name)]), file("x"), vec![0; 1024]].concat();
    let deep = vec![b"d".to_vec(); 9000].join(&b'/');
    for (archive, expected) in [
        (vec![], "empty"),
        (b"hello".to_vec(), "not a tar archive"),
        (vec![b'x'; 5000], "not a tar archive"),
        (vec![0; 512], "not a tar archive"),
        (good[..600].to_vec(), "`first`: the archive ends in the middle"),
        (good[..1024].to_vec(), "truncated: it ends at byte 1024, after `first`"),
        (good[..1300].to_vec(), "truncated: it ends at byte 1300, after `first`"),
        (good[..2048].to_vec(), "after `second`"),
        (bad_sum, "damaged at byte 1024, after `first`"),
        (huge, "`huge`: the archive ends in the middle"),
        (named(&[b'n'; 256]), "File name too long"),
        (named(&deep), "exceeds limit"),
        (named(b"a\0b"), "unpack `a\\u{0}b`: Invalid argument"),
        (sparse(b"0,2,1,2", b"10"), "contradicts itself"),
        (sparse(b"5,9", b"10"), "contradicts itself"),
        (sparse(b"18446744073709551615,2", b"10"), "contradicts itself"),
        (sparse(b"0,4", b"18446744073709551615"), "read `s`: it claims to be larger than 16 TiB"),
        (sparse(&b"0,1,".repeat(1_000_001), b"10"), "too many sparse entries"),
        (sparse(b"0,x", b"10"), "sparse map"),
        ([header(b'M', b"rest", b"", 0), vec![0; 1024]].concat(), "type `M`"),
        ([header(b'1', b"l", b"missing", 0), vec![0; 1024]].concat(), "unpack `l`: link it to `missing`: No such file"),
        ([pax(&[("uid", b"-5")]), file("u"), vec![0; 1024]].concat(), "`uid`"),
        ([pax(&[("uid", b"4294967295")]), file("u"), vec![0; 1024]].concat(), "read `u`: its owner"),
        (
            [pax(&[("SCHILY.acl.access", b"user:x:r:y")]), file("u"), vec![0; 1024]].concat(),
            "access control entry `user:x:r:y`",
        ),
        ([header(b'L', b"", b"", 1 << 33), vec![0; 5000]].concat(), "metadata exceeds limit"),
    ] {
        let error = unpack_into(&Bench::new(), &archive).expect_err(expected).to_string();
        assert!(error.contains(expected), "`{error}` should say `{expected}`");
    }
}

#[test]
fn a_pax_value_cannot_smuggle_in_another_record() {
    let bench = Bench::new();
    let value = b"x\n20 path=../escaped\n";
    let archive = [pax(&[("SCHILY.xattr.user.note", value)]), file("plain"), vec![0; 1024]].concat();
    unpack_into(&bench, &archive).unwrap();
    assert!(fingerprint(&bench.path("root"))[&b"plain"[..]].contains("user.note=x\\n20 path="));
}

#[test]
fn compressions_are_detected_and_checked_to_the_end() {
    let bench = Bench::new();
    bench.sh("mkdir src; head -c 100000 /dev/urandom > src/f; echo x > src/g; touch -d @5 src/f src/g src; tar -C src -cf a.tar .; gzip -k a.tar; xz -k a.tar; zstd -qk a.tar");
    for name in ["a.tar", "a.tar.gz", "a.tar.xz", "a.tar.zst"] {
        unpack_file(&bench.path(name), &bench.path(&format!("root-{name}")), &Budget::default()).unwrap();
        assert_same(&bench.path(&format!("root-{name}")), &bench.path("src"));
        let archive = std::fs::read(bench.path(name)).unwrap();
        for cut in [archive.len() / 2, archive.len() - if name == "a.tar" { 10240 } else { 3 }] {
            unpack_into(&bench, &archive[..cut]).expect_err(name);
        }
    }
    let error =
        unpack_file(&bench.path("no-such.tar"), &bench.path("root"), &Budget::default()).unwrap_err().to_string();
    assert!(error.contains("no-such.tar"), "{error}");
}

#[test]
fn attributes_inherited_from_around_do_not_reach_the_tree() {
    let bench = Bench::new();
    bench.sh(
        "mkdir -p src/d; echo x > src/d/f; chmod 755 src src/d; touch -d @5 src/d/f src/d src; tar -C src -cf a.tar .
         setfacl -d -m u:77:rwx .; chgrp 88 .; chmod g+s .",
    );
    unpack_into(&bench, &std::fs::read(bench.path("a.tar")).unwrap()).unwrap();
    assert_same(&bench.path("root"), &bench.path("src"));
}

#[test]
fn part_of_an_archive_is_unpacked_and_the_rest_handed_over() {
    let bench = Bench::new();
    bench.sh(
        "mkdir -p src/rootfs/etc src/lxm; echo a > src/lxm/one; echo f > src/rootfs/etc/f; ln src/rootfs/etc/f src/rootfs/g
         tar -C src -cf a.tar lxm rootfs; mkdir root; ln src/lxm/one src/rootfs/bad; tar -C src -cf bad.tar lxm rootfs",
    );
    let unpack = |name: &str| {
        let archive = std::fs::read(bench.path(name)).unwrap();
        let mut aside = Vec::new();
        let mut keep = |name: &str, contents: &[u8]| {
            aside.push((name.to_owned(), contents.to_vec()));
            Ok(())
        };
        unpack_below(
            archive.as_slice(),
            "rootfs",
            &bench.path("root"),
            &Budget::default(),
            &Progress::hidden(),
            &mut keep,
        )?;
        Ok::<_, Error>(aside)
    };
    assert_eq!(unpack("a.tar").unwrap(), [("lxm/one".to_owned(), b"a\n".to_vec())]);
    bench.sh("diff -r root src/rootfs 2>&1 | grep -v bad | grep . && exit 1; test root/g -ef root/etc/f");
    assert!(unpack("bad.tar").unwrap_err().to_string().contains("outside the tree"));
}

#[test]
fn no_damage_makes_it_panic_hang_or_write_outside() {
    let bench = Bench::new();
    bench.sh(
        "mkdir -p src/d outside; cd src; echo x > d/f; ln d/f l; ln -s d/f s; truncate -s 1M hole; echo y >> hole; mkfifo p
         setfattr -n user.a -v b d/f; setfacl -m u:5:r d/f; touch -d @1.5 d; mkdir $(printf 'n%.0s' {1..150})
         for format in 'gnu -S' 'pax -S --xattrs --acls'; do tar --format=$format -rf ../a.tar .; done",
    );
    let archive = std::fs::read(bench.path("a.tar")).unwrap();
    // A fixed sequence (xorshift), so that a failure comes again.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..400 {
        let mut damaged = archive.clone();
        for _ in 0..1 + random(6) {
            let at = random(damaged.len());
            damaged[at] = [0, 0xff, b'0', b'7', b'9', b'/', b'.', b'\n', random(256) as u8][random(9)];
        }
        // With right sums in the headers the damage gets past the first check.
        for block in damaged.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        println!("round {round}");
        let _ = unpack_into(&bench, &damaged);
    }
    let found: Vec<_> = fingerprint(&bench.path("outside")).into_keys().collect();
    assert_eq!(found, [b"".to_vec()]);
}

#[test]
fn sizes_that_overflow_are_refused() {
    let mut huge = header(b'x', b"huge", b"", 0);
    // Base-256, as GNU tar writes what octal cannot hold.
    huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc, 0]);
    huge[148..156].fill(b' ');
    let sum: u32 = huge.iter().map(|&byte| u32::from(byte)).sum();
    huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let long_name = [header(b'L', b"", b"", 600), vec![b'n'; 1024]].concat();
    let bench = Bench::new();
    unpack_into(&bench, &[long_name, huge.clone(), vec![0; 4096]].concat()).unwrap_err();
    unpack_into(&bench, &[huge, vec![0; 4096]].concat()).unwrap_err();
    let sized = [pax(&[("size", b"18446744073709551615")]), file("f"), vec![0; 4096]].concat();
    unpack_into(&bench, &sized).unwrap_err();
}
