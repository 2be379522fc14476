//! They need root, for owners, capabilities, devices and mounts.

use super::*;
use crate::image::budget::Budget;
use crate::image::compress::{Compression, Encoder};
use crate::image::fingerprint::assert_same;
use crate::image::testing::{Bench, TORTURE, make_deep};
use crate::image::unpack::unpack;

fn pack<W: Write>(root: &Path, writer: W, progress: &Progress) -> Result<W> {
    let mut packer = Packer::new(writer, progress);
    packer.tree("", root)?;
    packer.finish()
}

fn packed(bench: &Bench) -> Vec<u8> {
    pack(&bench.path("src"), Vec::new(), &Progress::hidden()).unwrap()
}

#[test]
fn what_was_packed_unpacks_the_same_here_and_with_gnu_tar() {
    let bench = Bench::new();
    bench.sh(TORTURE);
    bench.sh(
        "cd src; touch -d '2300-01-01 UTC' etc/shadow; touch -d '1969-12-31 23:59:58 UTC' etc/three; touch -d @5.1 .",
    );
    let archive = packed(&bench);
    std::fs::write(bench.path("a.tar"), &archive).unwrap();
    unpack(&*archive, &bench.path("root"), &Budget::default(), &Progress::hidden()).unwrap();
    assert_same(&bench.path("root"), &bench.path("src"));
    bench.sh("mkdir gnu; tar --xattrs --xattrs-include='*' --numeric-owner -C gnu -xf a.tar 2>&1");
    assert_same(&bench.path("gnu"), &bench.path("src"));
    bench.sh("test $(stat -c %s a.tar) -lt 8000000; tar -tf a.tar > /dev/null");
}

#[test]
fn every_compression_carries_an_archive() {
    let bench = Bench::new();
    bench.sh("mkdir -p src/d; seq 100000 > src/d/numbers; truncate -s 1M src/hole");
    for compression in [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd] {
        let encoder = Encoder::new(Vec::new(), compression).unwrap();
        let archive = pack(&bench.path("src"), encoder, &Progress::hidden()).unwrap().finish().unwrap();
        let root = bench.path(&format!("root-{compression}"));
        unpack(&*archive, &root, &Budget::default(), &Progress::hidden()).unwrap();
        assert_same(&root, &bench.path("src"));
    }
}

#[test]
fn the_same_tree_gives_the_same_archive() {
    let bench = Bench::new();
    bench.sh("mkdir -p src/{b,a,c}/x; for i in $(seq 50 -1 1); do echo $i > src/a/$i; ln src/a/$i src/c/$i; done");
    let first = packed(&bench);
    bench.sh("cp -a src other; rm -r src; mv other src");
    assert!(first == packed(&bench));
}

#[test]
fn a_tree_deeper_than_a_path_is_long_unpacks_the_same() {
    let bench = Bench::new();
    bench.sh("mkdir -p src/after; echo x > src/after/f; touch -d @5 src/after/f src/after");
    let deepest = make_deep(&bench.path("src"));
    let file = rustix::fs::openat(&deepest, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    std::fs::File::from(file).write_all(b"deep").unwrap();
    rustix::fs::linkat(&deepest, "file", &deepest, "other", AtFlags::empty()).unwrap();
    rustix::fs::symlinkat("/", &deepest, "link").unwrap();
    unpack(&*packed(&bench), &bench.path("root"), &Budget::default(), &Progress::hidden()).unwrap();
    assert_same(&bench.path("root"), &bench.path("src"));
}

#[test]
fn a_path_longer_than_any_that_is_read_back_is_refused() {
    let bench = Bench::new();
    bench.sh("mkdir src");
    let mut dir = OwnedFd::from(std::fs::File::open(bench.path("src")).unwrap());
    for _ in 0..MOST_PATH / 250 + 1 {
        let name = "n".repeat(249);
        rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, &name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let error = pack(&bench.path("src"), Vec::new(), &Progress::hidden()).unwrap_err().to_string();
    assert!(error.contains("its path is longer than the 16384 bytes that are read back"), "{error}");
}

#[test]
fn devices_are_kept_for_others_and_sockets_left_out() {
    let bench = Bench::new();
    bench.sh("mkdir src; cd src; mknod null c 1 3; mknod disk b 259 70000; touch -d @5 null disk
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'; touch -d @5 .");
    std::fs::write(bench.path("a.tar"), packed(&bench)).unwrap();
    bench.sh("mkdir gnu; tar -C gnu --numeric-owner -xf a.tar; rm src/socket; touch -d @5 src");
    assert_same(&bench.path("gnu"), &bench.path("src"));
}

#[test]
fn a_socket_is_left_out_and_named_by_all_of_its_names() {
    let bench = Bench::new();
    bench.sh("mkdir src; cd src; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"a\")'; ln a b; ln a c
         mkfifo f; ln f g; touch -d @5 f .");
    let progress = Progress::hidden();
    let mut packer = Packer::new(Vec::new(), &progress);
    packer.tree("", &bench.path("src")).unwrap();
    assert_eq!(packer.remarks().notes(), ["left out, because a tar archive has no sockets: `a`, `b`, `c`"]);
    unpack(&*packer.finish().unwrap(), &bench.path("root"), &Budget::default(), &progress).unwrap();
    bench.sh("rm src/a src/b src/c; touch -d @5 src");
    assert_same(&bench.path("root"), &bench.path("src"));
}

#[test]
fn names_of_attributes_that_are_no_text_and_flags_come_back() {
    let bench = Bench::new();
    bench.sh("mkdir -p src/d; cd src; echo x > f; ln f g; setfattr -n $'user.caf\\xe9=%' -v x f; touch -d @5 f d .
         chattr +i f; chattr +a d");
    unpack(&*packed(&bench), &bench.path("root"), &Budget::default(), &Progress::hidden()).unwrap();
    let same = std::panic::catch_unwind(|| assert_same(&bench.path("root"), &bench.path("src")));
    let flags =
        std::process::Command::new("lsattr").args(["-d", "root/f", "root/d"]).current_dir(bench.path("")).output();
    bench.sh("chattr -i -a src/f src/d root/f root/d");
    same.unwrap();
    let flags = String::from_utf8(flags.unwrap().stdout).unwrap();
    let has = |line: Option<&str>, flag| line.is_some_and(|line| line.split(' ').next().unwrap().contains(flag));
    assert!(has(flags.lines().next(), 'i') && has(flags.lines().nth(1), 'a'), "{flags}");
    let big = vec![0; 60_000];
    let mut entry = NewEntry::new(EntryType::Regular, b"f");
    entry.xattrs(&(0..200).map(|n| (format!("user.{n}").into_bytes(), big.clone())).collect::<Vec<_>>());
    let progress = Progress::hidden();
    let error = Packer::new(Vec::new(), &progress).header(&entry).unwrap_err().to_string();
    assert!(error.contains("extended attributes are larger"), "{error}");
}

#[test]
fn no_more_parts_of_a_file_are_written_than_are_read_back() {
    let part = |n: usize| (n as u64 * 8192, 4096);
    let few: Vec<_> = (0..1000).map(part).collect();
    assert_eq!(merge_close(few.clone()), few);
    let mut many: Vec<_> = (0..=MOST_PARTS).map(part).collect();
    many.push((1 << 40, 512));
    let merged = merge_close(many);
    assert_eq!(merged, [(0, MOST_PARTS as u64 * 8192 + 4096), (1 << 40, 512)]);
}

#[test]
fn files_and_trees_can_be_put_beside_each_other() {
    let bench = Bench::new();
    bench.sh("mkdir -p src/etc; echo x > src/etc/f; ln src/etc/f src/g; touch -d @5 src/etc/f src/etc src");
    let progress = Progress::hidden();
    let mut packer = Packer::new(Vec::new(), &progress);
    packer.file("config.toml", b"version = 1\n", 0o640, 1_234_567_890).unwrap();
    packer.tree("rootfs", &bench.path("src")).unwrap();
    let archive = packer.finish().unwrap();
    unpack(&*archive, &bench.path("root"), &Budget::default(), &progress).unwrap();
    assert_same(&bench.path("root/rootfs"), &bench.path("src"));
    bench.sh(
        "test \"$(cat root/config.toml)\" = 'version = 1'; test $(stat -c %a-%Y root/config.toml) = 640-1234567890",
    );
}

#[test]
fn what_is_mounted_in_the_tree_is_left_out() {
    let bench = Bench::new();
    bench.sh("mkdir -p src/proc src/a");
    // In a mount namespace of a thread that dies with the test, so that nothing can stay mounted.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            bench.sh("mount --make-rprivate /; mount -t tmpfs none src/proc; touch src/proc/mounted");
            std::fs::write(bench.path("a.tar"), packed(&bench)).unwrap();
        });
    });
    bench.sh("test \"$(tar -tf a.tar | xargs)\" = './ a/ proc/'");
}

#[test]
fn an_archive_that_could_not_be_ended_is_not_taken_for_whole() {
    let bench = Bench::new();
    bench.sh("mkdir src; echo x > src/f");
    let progress = Progress::hidden();
    let mut archive = Vec::new();
    let mut packer = Packer::new(&mut archive, &progress);
    packer.tree("", &bench.path("src")).unwrap();
    packer.tree("more", &bench.path("missing")).unwrap_err();
    drop(packer);
    let error = unpack(&*archive, &bench.path("root"), &Budget::default(), &progress).unwrap_err().to_string();
    assert!(error.contains("truncated"), "{error}");
}
