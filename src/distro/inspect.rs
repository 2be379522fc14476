//! Reads what a root file system says of itself, trusting nothing in it.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::config::Init;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::fs::{open_in_root, read_in_root};

/// What is known of a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestSystem {
    /// Never `Init::Auto`.
    pub init: Init,
    /// The init's path in the guest, as it is executed.
    pub init_path: PathBuf,
    /// systemd's version where that is the init.
    pub systemd: Option<u32>,
    /// `ID` of its os-release, `debian` for example; empty where there is none.
    pub os: String,
    /// `VERSION_CODENAME`, or `VERSION_ID` where it has no codename.
    pub release: String,
}

impl GuestSystem {
    /// What its kind of init is called, as `boot.init-type` writes it.
    pub(crate) fn kind_name(&self) -> &'static str {
        super::init::rule(self.init).name
    }

    /// Whether its systemd takes the hostname from the credential `system.hostname`
    /// (systemd.system-credentials(7)).
    pub(crate) fn reads_hostname(&self) -> bool {
        self.systemd.is_some_and(|version| version >= 254)
    }

    /// Whether its systemd takes root's keys from the credential `ssh.authorized_keys.root`.
    pub(crate) fn reads_root_keys(&self) -> bool {
        self.systemd.is_some_and(|version| version >= 252)
    }
}

/// Where an init is looked for. One installed without the package that makes it the system's own (`systemd-sysv`,
/// `runit-init`, `finit-sysv`) has no `/sbin/init`.
const INITS: [&str; 8] = [
    "/sbin/init",
    "/usr/lib/systemd/systemd",
    "/lib/systemd/systemd",
    "/sbin/openrc-init",
    "/sbin/runit-init",
    "/sbin/finit",
    "/sbin/dinit",
    "/usr/sbin/dinit",
];

/// Where systemd keeps its shared library, whose name has the version: merged, split and 64-bit
/// `/usr`, and Debian's multiarch directories.
const SYSTEMD_LIBRARIES: [&str; 3] = ["usr/lib/systemd", "lib/systemd", "usr/lib64/systemd"];

/// The most that is read of an init to find out what it is; a static busybox has 2 MB.
const INIT_LIMIT: u64 = 16 << 20;

/// Reads a root file system; `init` is what the configuration says it is, if it does.
///
/// Fails with `Kind::Config` where there is no executable init.
pub(crate) fn inspect(rootfs: BorrowedFd<'_>, init: Option<&Path>) -> Result<GuestSystem> {
    let (init_path, file) = find_init(rootfs, init)?;
    let kind = kind_of(rootfs, &init_path, &file)?;
    let systemd = match kind {
        Init::Systemd => systemd_version(rootfs, &init_path),
        _ => None,
    };
    let os_release = os_release(rootfs);
    let field = |name: &str| os_release.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    Ok(GuestSystem {
        init: kind,
        init_path,
        systemd,
        os: field("ID").unwrap_or_default(),
        release: field("VERSION_CODENAME").or_else(|| field("VERSION_ID")).unwrap_or_default(),
    })
}

/// The init's path and the file that it is once links are followed.
fn find_init(rootfs: BorrowedFd<'_>, configured: Option<&Path>) -> Result<(PathBuf, OwnedFd)> {
    let candidates: Vec<&Path> = match configured {
        Some(path) => vec![path],
        None => INITS.iter().map(Path::new).collect(),
    };
    for path in &candidates {
        match open_in_root(rootfs, path, OFlags::PATH, Mode::empty()) {
            Ok(file) => {
                require_executable(path, &file)?;
                return Ok((path.to_path_buf(), file));
            }
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(e) => return Err(e.with_kind(Kind::Config)),
        }
    }
    Err(Error::config(format!("its root file system has no `{}`", candidates[0].display()))
        .hint("a system container boots an init: install one (`systemd-sysv`, for example), or name it in `boot.init`"))
}

fn require_executable(path: &Path, file: &OwnedFd) -> Result<()> {
    let stat = rustix::fs::fstat(file).context(|| format!("look at `{}`", path.display()))?;
    let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    if is_file && stat.st_mode & 0o111 != 0 {
        return Ok(());
    }
    let fault = if is_file { "is not executable" } else { "is not a file" };
    Err(Error::config(format!("its init `{}` {fault}", path.display()))
        .hint("set `boot.init` to the path of its init, or make that file executable"))
}

fn kind_of(rootfs: BorrowedFd<'_>, path: &Path, file: &OwnedFd) -> Result<Init> {
    let target = resolved_name(file)?;
    match super::init::by_name(&target) {
        Some(kind) => Ok(kind),
        // A copy or a hard link named `init` is recognised by its contents.
        None => Ok(super::init::by_contents(&read_in_root(rootfs, path, INIT_LIMIT)?)),
    }
}

/// The last component of the path of an open file.
fn resolved_name(file: &OwnedFd) -> Result<String> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).context(|| "read /proc/self/fd")?;
    Ok(path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// systemd's version from the name of its shared library, as nspawn reads it; builds without one
/// (before 231, or linked statically) say it in the program's greeting.
fn systemd_version(rootfs: BorrowedFd<'_>, init: &Path) -> Option<u32> {
    let multiarch = names_in(rootfs, "usr/lib").into_iter().filter(|name| name.contains("-linux-"));
    let dirs = SYSTEMD_LIBRARIES.iter().map(|dir| dir.to_string());
    dirs.chain(multiarch.map(|triplet| format!("usr/lib/{triplet}/systemd")))
        .flat_map(|dir| names_in(rootfs, &dir))
        .filter_map(|name| leading_number(name.strip_prefix("libsystemd-shared-")?.as_bytes()))
        .max()
        .or_else(|| {
            let program = read_in_root(rootfs, init, INIT_LIMIT).ok()?;
            version_in_greeting(&program)
        })
}

/// Finds N in `systemd N… running in`.
fn version_in_greeting(program: &[u8]) -> Option<u32> {
    const GREETING: &[u8] = b"systemd ";
    let starts = program.windows(GREETING.len()).enumerate().filter(|(_, window)| *window == GREETING);
    starts.map(|(at, _)| &program[at + GREETING.len()..]).find_map(|rest| {
        let version = leading_number(rest)?;
        contains(&rest[..rest.len().min(80)], b" running in").then_some(version)
    })
}

fn leading_number(text: &[u8]) -> Option<u32> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

/// The names in a directory; none where it cannot be read.
fn names_in(rootfs: BorrowedFd<'_>, dir: &str) -> Vec<String> {
    let names = || -> Result<Vec<String>> {
        let fd = open_in_root(rootfs, dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let entries = rustix::fs::Dir::read_from(&fd)?;
        Ok(entries.filter_map(|e| Some(e.ok()?.file_name().to_str().ok()?.to_owned())).collect())
    };
    names().unwrap_or_default()
}

/// The assignments of os-release(5), the administrator's file first; none where it has neither.
fn os_release(rootfs: BorrowedFd<'_>) -> Vec<(String, String)> {
    let read = |path| read_in_root(rootfs, path, 64 << 10).ok();
    let text = read("etc/os-release").or_else(|| read("usr/lib/os-release")).unwrap_or_default();
    let assignments = String::from_utf8_lossy(&text).into_owned();
    assignments.lines().filter_map(assignment).collect()
}

/// Reads `KEY=value`, quoted or not. The value is shown on terminals, so what is no plain
/// identifier of a system or release is dropped from it.
fn assignment(line: &str) -> Option<(String, String)> {
    let (key, value) = line.trim().split_once('=')?;
    let plain = |c: &char| c.is_ascii_alphanumeric() || "._-+~ /".contains(*c);
    Some((key.to_owned(), value.trim_matches(['"', '\'']).chars().filter(plain).take(64).collect()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::sys::fs::open_dir;

    /// A root file system with programs (path, contents) and links (path, target).
    fn tree(programs: &[(&str, &str)], links: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, contents) in programs {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, contents).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (path, target) in links {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }
        dir
    }

    fn inspect_tree(dir: &tempfile::TempDir, init: Option<&str>) -> Result<GuestSystem> {
        inspect(open_dir(dir.path()).unwrap().as_fd(), init.map(Path::new))
    }

    #[test]
    fn debian_of_today_is_systemd_with_the_version_of_its_library() {
        let dir = tree(
            &[
                ("usr/lib/systemd/systemd", "\x7fELF"),
                ("usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so", ""),
                ("usr/lib/os-release", "ID=debian\nVERSION_CODENAME=trixie\nVERSION_ID=\"13\"\n"),
            ],
            &[("sbin", "usr/sbin"), ("usr/sbin/init", "../lib/systemd/systemd"), ("lib", "usr/lib")],
        );
        let guest = inspect_tree(&dir, None).unwrap();
        assert_eq!((guest.init, guest.systemd), (Init::Systemd, Some(257)));
        assert_eq!((guest.os.as_str(), guest.release.as_str()), ("debian", "trixie"));
        assert_eq!(guest.init_path, Path::new("/sbin/init"));
    }

    #[test]
    fn inits_are_recognised_by_name_or_contents() {
        let cases = [
            ("bin/busybox", "\x7fELF", Init::Busybox),
            ("sbin/openrc-init", "\x7fELF", Init::Openrc),
            ("sbin/runit-init", "\x7fELF", Init::Runit),
            ("sbin/renamed", "\x7fELF..INIT_VERSION=sysvinit-3.06", Init::Sysvinit),
            ("sbin/renamed", "\x7fELF..BusyBox v1.35.0", Init::Busybox),
            ("sbin/renamed", "\x7fELF..libsystemd-shared-252.so", Init::Systemd),
            ("sbin/procd", "\x7fELF", Init::Procd),
            ("sbin/renamed", "\x7fELF..\0/sbin/procd\0", Init::Procd),
            ("sbin/finit", "\x7fELF", Init::Finit),
            ("sbin/renamed", "\x7fELF..\0/etc/finit.d\0", Init::Finit),
            ("usr/bin/dinit", "\x7fELF", Init::Dinit),
            ("sbin/renamed", "\x7fELF..\0/etc/dinit.d\0", Init::Dinit),
            ("sbin/script", "#!/bin/execlineb -S0\n/bin/s6-linux-init -c /etc/s6 -- \"$@\"", Init::S6),
            ("usr/bin/tini", "\x7fELF..BusyBox v", Init::Other),
            ("sbin/renamed", "\x7fELF..", Init::Other),
            ("sbin/renamed", "#!/bin/sh\n# not INIT_VERSION=sysvinit", Init::Other),
        ];
        for (path, contents, init) in cases {
            let dir = tree(&[(path, contents)], &[("sbin/init", &format!("/{path}"))]);
            assert_eq!(inspect_tree(&dir, None).unwrap().init, init, "{path} {contents}");
        }
    }

    #[test]
    fn an_old_systemd_says_its_version_in_its_greeting() {
        let dir = tree(&[("lib/systemd/systemd", "\x7fELF\0systemd 229 running in %ssystem mode")], &[]);
        assert_eq!(inspect_tree(&dir, None).unwrap().systemd, Some(229));
    }

    #[test]
    fn an_init_that_cannot_run_is_a_configuration_error() {
        let plain = tree(&[("sbin/init", "")], &[]);
        fs::set_permissions(plain.path().join("sbin/init"), fs::Permissions::from_mode(0o644)).unwrap();
        let cases = [
            (tree(&[], &[]), None),
            (tree(&[("sbin/init/x", "")], &[]), None),
            (tree(&[], &[("sbin/init", "loop"), ("sbin/loop", "init")]), None),
            (tree(&[("sbin/init", "")], &[]), Some("/none")),
            (plain, None),
        ];
        for (dir, init) in cases {
            let e = inspect_tree(&dir, init).unwrap_err();
            assert_eq!(e.kind(), Kind::Config, "{e}");
        }
    }

    #[test]
    fn a_link_out_of_the_root_finds_nothing_of_the_host() {
        let dir = tree(&[], &[("sbin/init", "/../../../../bin/sh")]);
        assert!(inspect_tree(&dir, None).is_err());
    }

    #[test]
    fn a_hostile_os_release_reaches_no_terminal() {
        let dir =
            tree(&[("sbin/init", "\x7fELF"), ("etc/os-release", "ID=\"\x1b[2Jdebian\"\nVERSION_ID='9'\n=\nX\n")], &[]);
        let guest = inspect_tree(&dir, None).unwrap();
        assert_eq!((guest.os.as_str(), guest.release.as_str()), ("2Jdebian", "9"));
    }
}
