//! Debian root file systems to be hosts, made once by mmdebstrap and kept for later runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use lxm::testing::store::FileLock;
use sha2::{Digest, Sha256};

use crate::support::{command, guest};

const CACHE: &str = "/var/cache/lxm-tests";

/// Downloads and installs a distribution, perhaps from a slow mirror.
const BUILD_LIMIT: Duration = Duration::from_secs(900);

/// What every host has: systemd with all its clients, and what the package depends on.
pub const PACKAGES: &str = "systemd,systemd-sysv,dbus,systemd-container,libnss-mymachines,libnss-systemd,\
    libpam-systemd,bsdutils,mount,systemd-resolved,firewalld,netbase,iproute2,iputils-ping,nftables,openssh-client,\
    procps,ca-certificates,busybox-static";

/// Services that would write to the machine's own kernel settings or wait for a console, and the
/// firewall that one trial starts.
const MASKED: [&str; 10] = [
    "systemd-udevd.service",
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "systemd-binfmt.service",
    "systemd-random-seed.service",
    "console-getty.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "dpkg-db-backup.timer",
    "firewalld.service",
];

/// Gives the directory of what `recipe` makes, made by `make` in it unless it is there.
///
/// A changed recipe makes a new one.
pub fn cached(kind: &str, recipe: &str, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let digest: String = Sha256::digest(recipe).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let dir = Path::new(CACHE).join(format!("{kind}-{digest}"));
    let _lock = FileLock::acquire(&dir.with_extension("lock")).map_err(|e| e.to_string())?;
    if !dir.exists() {
        eprintln!("making {kind}, which later runs find in {}", dir.display());
        let staging = dir.with_extension("making");
        let io = |step: &str, e: std::io::Error| format!("{step} {}: {e}", staging.display());
        if staging.exists() {
            guest::unmount_below(&staging).map_err(|e| io("unmount below", e))?;
            fs::remove_dir_all(&staging).map_err(|e| io("remove", e))?;
        }
        fs::create_dir_all(&staging).map_err(|e| io("make", e))?;
        make(&staging)?;
        fs::rename(&staging, &dir).map_err(|e| io("rename", e))?;
    }
    Ok(dir)
}

/// The root file system of a host of this Debian release; one that cannot be made is not tried twice.
pub fn host(release: &'static str) -> Result<PathBuf, String> {
    static MADE: Mutex<BTreeMap<&str, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().expect("no maker of hosts panics");
    made.entry(release).or_insert_with(|| make_host(release)).clone()
}

fn make_host(release: &str) -> Result<PathBuf, String> {
    let dir = cached(&format!("host-{release}"), &format!("2 {release} {PACKAGES} {MASKED:?}"), |dir| {
        let root = dir.join("rootfs");
        debootstrap(release, PACKAGES, &root)?;
        let mask = |unit: &&str| std::os::unix::fs::symlink("/dev/null", root.join("etc/systemd/system").join(unit));
        MASKED.iter().try_for_each(mask).map_err(|e| format!("mask a unit: {e}"))?;
        fs::write(root.join("etc/hostname"), "testhost\n").map_err(|e| format!("name the host: {e}"))
    })?;
    Ok(dir.join("rootfs"))
}

pub fn debootstrap(release: &str, packages: &str, root: &Path) -> Result<(), String> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=apt", "--aptopt=Apt::Install-Recommends \"false\""]);
    // Signatures are checked; how old they are says nothing here, and mirrors of sid lag.
    command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    for unwanted in ["doc", "man", "locale", "info"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{unwanted}/*"));
    }
    command.arg(format!("--include={packages}")).arg(release).arg(root);
    run(command)
}

/// Makes a Debian package of a program in `dir`.
pub fn package(program: &Path, version: &str, dir: &Path) -> Result<(), String> {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/build-deb"));
    command.arg(program).arg(dir).env("VERSION", version).env("COMPRESSION", "gzip").env_remove("LXM_ROOT");
    run(command)
}

pub fn run(command: Command) -> Result<(), String> {
    let outcome = command::bounded(command, b"", BUILD_LIMIT);
    if outcome.status == 0 { Ok(()) } else { Err(outcome.to_string()) }
}
