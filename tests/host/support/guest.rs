//! The root file systems that trials boot, made once for all of them by the real `lxm create`.
//!
//! They are kept in the image store of an `LXM_ROOT` below [`CACHE`], named after the digest of
//! what makes them, so that a changed template makes new ones. Every sandbox sees that store as
//! its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sha2::{Digest, Sha256};

use super::sandbox::{program, source_tree};
use super::{Need, command};

const CACHE: &str = "/var/cache/lxm-tests";

/// Downloads and installs a distribution, perhaps from a slow mirror.
const BUILD_LIMIT: Duration = Duration::from_secs(900);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Guest {
    /// `tests/probe`: an init that reports what it sees.
    Probe,
    Busybox,
    Bookworm,
    Trixie,
    Sid,
    /// Debian bookworm with sysvinit instead of systemd.
    Sysvinit,
    /// Debian bookworm with podman.
    Podman,
    /// Debian bookworm with docker.
    Docker,
    /// No guest yet: the archive that [`noble_archive`] is at.
    NobleArchive,
    /// No guest: a Debian with the firewalls that hosts have, at [`firewalls`].
    Firewalls,
    /// No guest yet: Debian's packages of inits, at [`inits_archive`].
    Inits,
}

impl Guest {
    /// What a machine must have to make it.
    pub fn needs(self) -> Vec<Need> {
        match self {
            Guest::Probe => vec![Need::Tool("rustc")],
            Guest::Busybox => vec![],
            Guest::NobleArchive => ["mmdebstrap", "dpkg-scanpackages", "gpg"].map(Need::Tool).into(),
            _ => vec![Need::Tool("mmdebstrap")],
        }
    }

    /// Arguments of `lxm create` that make a container of it.
    pub fn create_arguments(self) -> Vec<String> {
        let words: &[&str] = match self {
            Guest::Probe => {
                let archive = probe_archive().to_string_lossy().into_owned();
                return ["-t", "archive", "--", "--file", &archive].map(String::from).into();
            }
            Guest::Busybox => &["-t", "busybox"],
            Guest::Bookworm => &["-t", "debian", "-r", "bookworm"],
            Guest::Trixie => &["-t", "debian", "-r", "trixie"],
            Guest::Sid => &["-t", "debian", "-r", "sid"],
            Guest::Sysvinit => &["-t", "debian", "-r", "bookworm", "--", "--init", "sysvinit"],
            Guest::Podman => &["-t", "debian", "-r", "bookworm", "--packages", "podman,crun"],
            Guest::Docker => &["-t", "debian", "-r", "bookworm", "--packages", "docker.io,iptables"],
            Guest::NobleArchive | Guest::Firewalls | Guest::Inits => panic!("it is no guest"),
        };
        words.iter().map(|word| word.to_string()).collect()
    }

    /// Makes it, unless it is there; trials that share a guest wait for one maker.
    pub fn prepare(self) -> Result<(), String> {
        static MADE: Mutex<BTreeMap<Guest, Result<(), String>>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().expect("no maker of guests panics");
        made.entry(self).or_insert_with(|| self.make()).clone()
    }

    fn make(self) -> Result<(), String> {
        let store = store();
        fs::create_dir_all(store).map_err(|e| format!("make {}: {e}", store.display()))?;
        // Another run of the suite may be making the same.
        let _lock = lxm::testing::store::FileLock::acquire(&store.join("lock")).map_err(|e| e.to_string())?;
        let ready = store.join(format!("ready-{self:?}"));
        if ready.exists() {
            return Ok(());
        }
        forget_old_stores();
        if self == Guest::Probe {
            make_probe()?;
        } else if self == Guest::NobleArchive {
            make_noble_archive()?;
        } else if self == Guest::Firewalls {
            make_firewalls()?;
        } else if self == Guest::Inits {
            make_inits()?;
        } else {
            eprintln!("making the guest {self:?}, which later runs find in {}", store.display());
            let mut create = Command::new(program());
            create.env("LXM_ROOT", store).env("LXM_TEMPLATES", source_tree().join("templates"));
            create.args(["create", "make", "--network", "none"]).args(self.create_arguments());
            checked(create, BUILD_LIMIT)?;
            let mut destroy = Command::new(program());
            destroy.env("LXM_ROOT", store).args(["destroy", "-f", "make"]);
            checked(destroy, BUILD_LIMIT)?;
        }
        fs::write(&ready, "").map_err(|e| format!("write {}: {e}", ready.display()))
    }

    /// Lets a sandbox see the store of made images as its own.
    pub fn offer(self, root: &Path) {
        if matches!(self, Guest::NobleArchive | Guest::Firewalls | Guest::Inits) {
            // What is made of it is for the trial alone to see.
            return;
        }
        let (from, to) = (images(), root.join("var/cache/lxm/images"));
        if from.is_dir() && !to.exists() {
            fs::create_dir_all(&to).expect("make the place of the images");
            mount(Some(&from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind the image store");
        }
    }
}

/// Where the made images are: an `images` directory of lxm's.
pub fn images() -> PathBuf {
    store().join("var/cache/lxm/images")
}

/// The directory for everything that today's templates and probe make.
fn store() -> &'static Path {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    STORE.get_or_init(|| {
        let mut digest = Sha256::new();
        for dir in ["templates", "templates/keyrings", "src/distro", "src/template", "tests/probe"] {
            for file in files(&source_tree().join(dir)) {
                digest.update(file.to_string_lossy().as_bytes());
                digest.update(fs::read(&file).unwrap_or_default());
            }
        }
        let digest: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Path::new(CACHE).join(digest)
    })
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Unmounts what a maker that was killed has left mounted below `dir`, which is ours alone.
pub fn unmount_below(dir: &Path) -> std::io::Result<()> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    // The last mounted first.
    for point in points.filter(|point| point.starts_with(dir) && *point != dir).collect::<Vec<_>>().into_iter().rev() {
        umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

/// Removes the stores that no run has added to for a week.
fn forget_old_stores() {
    let week = Duration::from_secs(7 * 24 * 3600);
    for entry in fs::read_dir(CACHE).into_iter().flatten().flatten() {
        let changed = entry.metadata().and_then(|data| data.modified()).unwrap_or_else(|_| SystemTime::now());
        if entry.path() != store() && changed.elapsed().is_ok_and(|age| age > week) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn probe_archive() -> PathBuf {
    store().join("probe.tar")
}

/// A local archive that has all that Ubuntu's template asks for, under Ubuntu's names: suite `noble`,
/// components `main` and `universe`. The packages are real, Debian's; `key.gpg` in it signed it.
pub fn noble_archive() -> PathBuf {
    store().join("noble")
}

/// A root file system with iptables, ufw and firewalld, to be run on the trial's host: the machine
/// itself, whose firewall they might take over, has none of them.
pub fn firewalls() -> PathBuf {
    store().join("firewalls")
}

fn make_firewalls() -> Result<(), String> {
    let root = firewalls();
    eprintln!("making a system with firewalls, which later runs find in {}", root.display());
    unmount_below(&root).map_err(|e| format!("unmount below {}: {e}", root.display()))?;
    fs::remove_dir_all(&root).or_else(|e| if root.exists() { Err(e) } else { Ok(()) }).map_err(|e| e.to_string())?;
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=minbase", "--include=dbus,firewalld,iptables,procps,ufw", "bookworm"]);
    make.arg(&root);
    checked(make, BUILD_LIMIT)
}

/// A root file system of Debian's packages of inits, unpacked and not configured.
pub fn inits_archive() -> PathBuf {
    store().join("inits.tar")
}

fn make_inits() -> Result<(), String> {
    let archive = inits_archive();
    eprintln!("fetching packages of inits, which later runs find in {}", archive.display());
    let packages = "busybox-static,tini,dumb-init,catatonit,finit,runit,runit-init,s6,openrc";
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=extract", &format!("--include={packages}"), "bookworm"]).arg(archive);
    checked(make, BUILD_LIMIT)
}

fn make_noble_archive() -> Result<(), String> {
    let archive = noble_archive();
    let template = fs::read_to_string(source_tree().join("templates/ubuntu.toml")).map_err(|e| e.to_string())?;
    let template: toml::Table = template.parse().map_err(|e| format!("templates/ubuntu.toml: {e}"))?;
    let of_release = template["release"]["noble"].get("packages").and_then(toml::Value::as_array);
    let packages = template["packages"].as_array().into_iter().chain(of_release).flatten();
    let packages: Vec<_> = packages.filter_map(toml::Value::as_str).collect();
    eprintln!("fetching the packages of a local archive, which later runs find in {}", archive.display());
    fs::create_dir_all(archive.join("pool")).map_err(|e| format!("make {}: {e}", archive.display()))?;
    // mmdebstrap knows which packages a system is made of; what it makes of them is thrown away.
    let mut fetch = Command::new("mmdebstrap");
    fetch.args(["--variant=minbase", "--format=null", "--skip=essential/unlink,download/empty,cleanup"]);
    let keep = format!("cp \"$1\"/var/cache/apt/archives/*.deb '{}/pool/'", archive.display());
    fetch.arg(format!("--customize-hook={keep}")).arg(format!("--include={}", packages.join(",")));
    fetch.args(["trixie", "-"]);
    checked(fetch, BUILD_LIMIT)?;
    let mut sign = Command::new("sh");
    sign.args(["-euc", SIGN_ARCHIVE]).current_dir(&archive).env("GNUPGHOME", archive.join("gnupg"));
    checked(sign, BUILD_LIMIT)
}

/// Writes the indices of an archive and signs them with a key made for it.
const SIGN_ARCHIVE: &str = r#"
    rm -rf gnupg dists && mkdir -m 700 gnupg
    mkdir -p dists/noble/main/binary-amd64 dists/noble/universe/binary-amd64
    dpkg-scanpackages -m pool /dev/null > dists/noble/main/binary-amd64/Packages
    : > dists/noble/universe/binary-amd64/Packages
    cd dists/noble
    {
        printf 'Origin: lxm tests\nSuite: noble\nCodename: noble\nComponents: main universe\nArchitectures: amd64\n'
        LC_ALL=C date -u '+Date: %a, %d %b %Y %H:%M:%S UTC'
        echo SHA256:
        for f in main/binary-amd64/Packages universe/binary-amd64/Packages; do
            echo " $(sha256sum < $f | cut -d' ' -f1) $(stat -c %s $f) $f"
        done
    } > Release
    gpg --batch --quiet --passphrase '' --quick-gen-key 'lxm tests' ed25519 sign never
    gpg --batch --quiet --yes --clearsign -o InRelease Release
    gpg --batch --export > ../../key.gpg
    gpgconf --kill gpg-agent
"#;

/// Compiles the probe into a static program and packs it as a root file system of little else.
fn make_probe() -> Result<(), String> {
    let root = tempfile::tempdir_in(store()).map_err(|e| format!("make a temporary directory: {e}"))?;
    let root = root.path();
    for dir in ["bin", "sbin", "etc", "proc", "sys", "dev", "run", "tmp", "root", "var/log"] {
        fs::create_dir_all(root.join(dir)).map_err(|e| format!("make {dir}: {e}"))?;
    }
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-C", "target-feature=+crt-static", "-C", "opt-level=s", "-C", "strip=symbols"]);
    rustc.args(["-C", "panic=abort", "--crate-name", "probe", "-o"]).arg(root.join("bin/probe"));
    rustc.arg(source_tree().join("tests/probe/probe.rs"));
    checked(rustc, BUILD_LIMIT)?;
    let link = |target: &str, at: &str| std::os::unix::fs::symlink(target, root.join(at));
    link("/bin/probe", "sbin/init").map_err(|e| format!("link sbin/init: {e}"))?;
    let files = [
        ("etc/os-release", "ID=probe\nNAME=Probe\nPRETTY_NAME=\"lxm probe\"\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/probe\ndaemon:x:1:1:daemon:/:/bin/probe\n"),
        ("etc/group", "root:x:0:\ntty:x:5:\ndaemon:x:1:\nstaff:x:50:daemon\n"),
        ("etc/hostname", "probe\n"),
    ];
    for (name, text) in files {
        fs::write(root.join(name), text).map_err(|e| format!("write {name}: {e}"))?;
    }
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(root).arg("-cf").arg(probe_archive()).args(["--owner=0", "--group=0", "."]);
    checked(tar, BUILD_LIMIT)
}

fn checked(mut command: Command, limit: Duration) -> Result<(), String> {
    command.env_remove("RUST_BACKTRACE");
    let outcome = command::bounded(command, b"", limit);
    if outcome.status == 0 { Ok(()) } else { Err(outcome.to_string()) }
}
