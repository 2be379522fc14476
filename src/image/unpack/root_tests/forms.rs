//! What GNU tar reads that no new archive has.

use super::*;

#[test]
fn absolute_names_are_taken_from_the_root() {
    let bench = Bench::new();
    bench.sh(
        "mkdir -p src/a; echo x > src/a/f; ln src/a/f src/g; ln -s /a/f src/s; touch -hd @5 src/a/f src/g src/s src/a src
         tar -C src -cPf a.tar --transform 's,^[.],,rSh' .; tar -tPf a.tar | grep -qx /; tar -tvPf a.tar | grep -q 'link to /'
         mkdir gnu; tar -C gnu --numeric-owner -xf a.tar",
    );
    let summary = unpack_into(&bench, &std::fs::read(bench.path("a.tar")).unwrap()).unwrap();
    assert_same(&bench.path("root"), &bench.path("gnu"));
    let notes = summary.remarks.notes();
    assert!(notes.len() == 1 && notes[0].contains("absolute") && notes[0].contains("`/a/f`"), "{notes:?}");
}

#[test]
fn records_for_all_entries_are_heeded() {
    let bench = Bench::new();
    bench.sh(
        "mkdir src; echo x > src/f; echo y > src/g; touch -d @5 src/f src/g src
         tar --format=pax --pax-option=globexthdr.name=g,mtime=1234567890.25,uid=77,gid=78,comment=c,gname=x -C src -cf a.tar .
         mkdir gnu; tar -C gnu --numeric-owner -xf a.tar",
    );
    unpack_into(&bench, &std::fs::read(bench.path("a.tar")).unwrap()).unwrap();
    assert_same(&bench.path("root"), &bench.path("gnu"));
    let found = &fingerprint(&bench.path("root"))[&b"f"[..]];
    assert!(found.contains(" 77:78 1234567890.250000000"), "{found}");
    let mut global = pax(&[("path", b"elsewhere")]);
    global[156] = b'g';
    let sum: u32 =
        global[..512].iter().enumerate().map(|(at, &b)| if (148..156).contains(&at) { 32 } else { b.into() }).sum();
    global[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let error = unpack_into(&bench, &[global, file("f"), vec![0; 1024]].concat()).unwrap_err().to_string();
    assert!(error.contains("sets `path` for all entries"), "{error}");
}

#[test]
fn archives_that_were_joined_are_read_as_by_gnu_tar() {
    let bench = Bench::new();
    bench.sh("mkdir a b; echo 1 > a/f; echo 2 > b/f; echo 3 > b/g; touch -d @5 a/f b/f b/g a b
         tar -cf a.tar -C a .; tar -cf b.tar -C b .; cp a.tar joined.tar; tar -Af joined.tar b.tar; cat a.tar b.tar > after.tar
         for n in joined after; do mkdir gnu-$n; tar -C gnu-$n --numeric-owner -xf $n.tar; done");
    for name in ["joined", "after"] {
        let archive = std::fs::read(bench.path(&format!("{name}.tar"))).unwrap();
        let summary = unpack_into(&bench, &archive).unwrap();
        assert_same(&bench.path("root"), &bench.path(&format!("gnu-{name}")));
        let notes = summary.remarks.notes();
        assert_eq!(notes.iter().any(|note| note.contains("behind its end")), name == "after", "{name}: {notes:?}");
    }
}

#[test]
fn what_a_file_system_does_not_take_is_named() {
    let bench = Bench::new();
    let records =
        pax(&[("SCHILY.xattr.nonsense", b"x"), ("SCHILY.xattr.user.kept", b"y"), ("SCHILY.fflags", b"nodump,opaque")]);
    let summary = unpack_into(&bench, &[records, file("u"), vec![0; 1024]].concat()).unwrap();
    let notes = summary.remarks.notes();
    assert!(notes.len() == 1 && notes[0].contains("`nonsense`") && notes[0].ends_with("of: `u`"), "{notes:?}");
    assert!(fingerprint(&bench.path("root"))[&b"u"[..]].contains("user.kept=y"));
    bench.sh("lsattr root/u | grep -q '^[^ ]*d'");
}
