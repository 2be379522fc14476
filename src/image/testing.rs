//! What the tests of this module share.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};

/// A directory for one test, and shell commands in it.
pub(super) struct Bench(tempfile::TempDir);

impl Bench {
    pub(super) fn new() -> Self {
        Bench(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn sh(&self, script: &str) {
        let output = Command::new("bash").args(["-ec", script]).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Makes directories in `top` down to where no path is long enough, and opens the deepest.
pub(super) fn make_deep(top: &Path) -> OwnedFd {
    let name = "n".repeat(200);
    let mut dir = OwnedFd::from(std::fs::File::open(top).unwrap());
    for _ in 0..50 {
        rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        dir = rustix::fs::openat(&dir, &name, flags, Mode::empty()).unwrap();
    }
    dir
}

/// Makes a tree with everything that a root file system may hold, in `src`, but for device nodes.
pub(super) const TORTURE: &str = r#"
    mkdir -p src/{usr/bin,etc,var/log/journal,dev,tmp,empty,closed}; cd src
    echo shared > usr/bin/one; ln usr/bin/one usr/bin/two; ln usr/bin/two etc/three
    cp /bin/true usr/bin/suid; chown 0:33 usr/bin/suid; chmod 6755 usr/bin/suid
    cp /bin/true usr/bin/ping; setcap cap_net_raw+ep usr/bin/ping
    echo shadow > etc/shadow; chown 0:42 etc/shadow; chmod 0640 etc/shadow
    echo odd > etc/odd; chown 3000000:4294967294 etc/odd; chmod 0 etc/odd
    chmod 1777 tmp; chmod 000 closed; chown 1000:1000 closed; : > closed/file
    setfattr -n user.note -v $'with\nnewline=and\x01more' etc/shadow
    setfattr -n user.binary -v 0x000a0d00ff etc/odd
    setfattr -n 'user.a=b%c' -v odd etc/odd; setfattr -n trusted.t -v t etc
    setfacl -m u:1234:rwx,g:5678:r-x,m::r-x var/log/journal; setfacl -d -m g:4:r-x,g:root:rwx var/log/journal
    : > var/log/journal/made-before-the-list; setfacl -m u:99:r etc/shadow
    mkfifo -m 622 tmp/fifo; chown 7:8 tmp/fifo; setfattr -hn trusted.f -v f tmp/fifo
    ln -s /etc/shadow etc/absolute; ln -s ../../../.. etc/upwards; ln -s usr/bin bin; chown -h 5:6 etc/absolute
    setfattr -hn trusted.link -v l bin; ln bin etc/link-to-a-link
    touch -hd '1960-02-03 04:05:06.789 UTC' bin; touch -d '2033-01-01 00:00:00.123456789 UTC' etc/shadow
    touch -d '1955-05-05 05:05:05.000000001 UTC' etc/odd
    long=$(printf 'n%.0s' {1..250}); mkdir -p "$long/$long"; echo deep > "$long/$long/$long"; ln -s "$long/$long" to-long
    printf 'latin1' > $'etc/caf\xe9'; printf 'line' > $'etc/new\nline'; : > 'etc/ space '; : > 'etc/back\slash'
    truncate -s 5M sparse; echo middle | dd of=sparse bs=1 seek=2M conv=notrunc status=none; ln sparse sparse-link
    truncate -s 3M all-hole; truncate -s 1M tail; dd if=/dev/urandom of=tail bs=4k seek=255 count=1 conv=notrunc status=none
    for i in $(seq 0 2 200); do dd if=/dev/zero bs=4k count=1 status=none | tr '\0' x | dd of=comb bs=4k seek=$i conv=notrunc status=none; done
    head -c 3000000 /dev/urandom > big; : > empty-file; head -c 512 /dev/urandom > exactly
    touch -d '2001-02-03 04:05:06.7 UTC' usr/bin usr var/log/journal closed tmp .
"#;
