//! `lxc.include`: the files that a configuration is continued in.
//!
//! A container's configuration may be anybody's, and names files of the host. Read are those in the container's
//! own directory, and what root alone can write; and of none of them is shown what is no setting of LXC's.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::lines::parse;
use crate::error::{Context, Error, Result};
use crate::ops::import::foreign;
use crate::ops::import::table::Setting;
use crate::sys::fs::open_beneath;
use crate::sys::host_path::open_host_path;

/// How deep, and how many. LXC itself has no limits, and does not end where a file includes itself.
const MOST_DEPTH: usize = 8;
const MOST_FILES: usize = 200;

/// Where LXC's own files are.
const SHIPPED: [&str; 2] = ["/usr/share/lxc/config", "/usr/local/share/lxc/config"];

/// What LXC's own `NAME.common.conf` takes from a container, beside what it takes from all, where this host
/// has none.
const DROPPED: [(&str, &str); 11] = [
    (
        "alpine",
        "audit_write ipc_owner mknod sys_nice sys_pacct sys_rawio sys_resource sys_tty_config syslog wake_alarm",
    ),
    ("archlinux", "setfcap sys_nice sys_pacct sys_rawio"),
    ("centos", "sys_nice sys_pacct sys_rawio"),
    ("fedora", "setfcap sys_nice sys_pacct sys_rawio"),
    ("opensuse", "sys_nice sys_pacct sys_rawio"),
    ("openwrt", "sys_admin sys_nice sys_pacct sys_ptrace sys_rawio sys_resource sys_tty_config syslog wake_alarm"),
    ("oracle", "sys_nice sys_pacct sys_rawio"),
    ("sabayon", ""),
    ("slackware", "mknod setfcap setpcap"),
    ("sparclinux", "sys_nice sys_pacct sys_rawio"),
    ("voidlinux", "setfcap sys_nice sys_pacct sys_rawio"),
];

/// The directory of the container.
pub(super) struct ContainerDir<'a> {
    pub dir: &'a OwnedFd,
    pub path: &'a Path,
}

/// A configuration with what it includes.
#[derive(Default)]
pub(super) struct Included {
    pub settings: Vec<Setting>,
    /// Files that could not be read: what they set is not known.
    pub missing: Vec<String>,
    files: usize,
}

/// Puts what is included in the place of `lxc.include`, and the lines of a file of mounts in the place of
/// `lxc.mount.fstab`. Without a directory only what LXC ships is known.
pub(super) fn expand(settings: Vec<Setting>, container: Option<&ContainerDir<'_>>) -> Result<Included> {
    let mut included = Included::default();
    add(&mut included, settings, container, 0)?;
    Ok(included)
}

fn add(
    included: &mut Included,
    settings: Vec<Setting>,
    container: Option<&ContainerDir<'_>>,
    depth: usize,
) -> Result<()> {
    for setting in settings {
        let is_fstab = setting.key == "lxc.mount.fstab" || setting.key == "lxc.mount";
        if (setting.key != "lxc.include" && !is_fstab) || setting.value.is_empty() {
            included.settings.push(setting);
            continue;
        }
        included.files += 1;
        if depth >= MOST_DEPTH || included.files > MOST_FILES {
            return Err(Error::config(format!("`{}` leads to too many files, or in a circle", setting.text)));
        }
        let path = Path::new(&setting.value);
        let found = match container {
            Some(container) => read(container, path, is_fstab).context(|| format!("read `{}`", setting.value))?,
            None => Found::Missing,
        };
        let is_shipped = SHIPPED.iter().any(|dir| path.parent() == Some(Path::new(dir)));
        let more = match found {
            Found::File(text) if is_fstab => mounts(&text, &setting.text),
            Found::File(text) => parse(&text)?,
            Found::Directory(files) => {
                let include = |file: PathBuf| {
                    let value = file.display().to_string();
                    let text = format!("lxc.include = {value}");
                    Setting { key: "lxc.include".into(), value, text, is_shipped: false }
                };
                files.into_iter().map(include).collect()
            }
            // Of a directory that is missing LXC says nothing either (do_includedir).
            Found::Missing if setting.value.ends_with('/') && !is_fstab => Vec::new(),
            Found::Missing => match path.file_name().and_then(|name| name.to_str()).filter(|_| is_shipped) {
                Some(name) if shipped(name).is_some() => parse(&shipped(name).unwrap_or_default())?,
                _ => {
                    included.missing.push(setting.text.clone());
                    Vec::new()
                }
            },
        };
        let more = more.into_iter().map(|more| Setting { is_shipped: more.is_shipped || is_shipped, ..more });
        // For what it means as a whole.
        included.settings.push(Setting { is_shipped: false, ..setting.clone() });
        add(included, more.collect(), container, depth + 1)?;
    }
    Ok(())
}

/// What one of LXC's own files says that has a meaning here, where this host does not have the file.
fn shipped(name: &str) -> Option<String> {
    let common = "lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio\n";
    let of = |distribution: &str| {
        let dropped = DROPPED.iter().find(|(name, _)| *name == distribution).map_or("", |(_, dropped)| dropped);
        format!("{common}{}", if dropped.is_empty() { String::new() } else { format!("lxc.cap.drop = {dropped}\n") })
    };
    match name {
        "common.conf" => Some(common.to_owned()),
        "userns.conf" => Some("lxc.cap.drop =\nlxc.cap.keep =\n".to_owned()),
        "nesting.conf" => Some("lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0\n".to_owned()),
        "oci.common.conf" => Some(String::new()),
        _ => match name.split_once('.')? {
            (_, "userns.conf") => shipped("userns.conf"),
            (distribution, "common.conf") => Some(of(distribution)),
            _ => None,
        },
    }
}

/// The lines of a file in the form of fstab(5), as entries. What is said of one names the file, as `said` does, and
/// its line: the file may be one that root alone can read, and no fstab at all.
fn mounts(text: &str, said: &str) -> Vec<Setting> {
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| Setting {
            key: "lxc.mount.entry".into(),
            value: line.to_owned(),
            text: format!("{said}, line {}", at + 1),
            is_shipped: false,
        })
        .collect()
}

enum Found {
    File(String),
    Directory(Vec<PathBuf>),
    Missing,
}

/// Reads a file, or lists the files `*.conf` of a directory.
fn read(container: &ContainerDir<'_>, path: &Path, is_fstab: bool) -> Result<Found> {
    // LXC takes a relative one from where it happens to have been started.
    let path = container.path.join(path);
    let own = path.strip_prefix(container.path).ok();
    let own = own.filter(|below| below.components().all(|part| matches!(part, Component::Normal(_))));
    let opened = match own {
        Some(below) => match open_beneath(container.dir, below, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Err(e) if e.errno() == Some(libc::ENOENT) => None,
            opened => Some(opened?),
        },
        None => open_host_path(&path)?,
    };
    let Some(opened) = opened else { return Ok(Found::Missing) };
    let stat = rustix::fs::fstat(&opened).context(|| "look at it")?;
    if own.is_none() && (stat.st_uid != 0 || stat.st_mode & 0o022 != 0) {
        return Err(Error::failed("it is outside of the container's directory, and not only root can write it")
            .hint("copy it into the directory, or take the line out of its `config`"));
    }
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Directory || is_fstab {
        // To open a device is to use it: a watchdog that is opened and closed restarts the host.
        if kind != FileType::RegularFile {
            return Err(Error::failed("it is no regular file"));
        }
        // Through the magic link: what is opened is what was looked at.
        let file = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(file, flags, Mode::empty()).context(|| "open it")?;
        return foreign::text_of(file).map(Found::File);
    }
    let listed = std::fs::read_dir(foreign::path_of(&opened)).context(|| "list it")?;
    let mut names: Vec<_> = listed.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    names.retain(|name| name.as_encoded_bytes().ends_with(b".conf") && name.len() > 5);
    names.sort();
    Ok(Found::Directory(names.into_iter().map(|name| path.join(name)).collect()))
}
