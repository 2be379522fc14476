//! A container's groups in every hierarchy: made, limited, joined, frozen, killed, removed.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{DeviceRule, Hierarchies, limits};
use crate::config::Limits;
use crate::error::{Context, Error, Result};
use crate::types::{ContainerName, IdRange};

/// One container's groups.
#[derive(Debug, Clone)]
pub(crate) struct ContainerCgroup {
    pub(super) hierarchies: Hierarchies,
    /// `lxm/web`, the same below every mount point.
    pub(super) group: String,
    owner: CgroupManager,
}

/// Who made the container's group, and sets its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CgroupManager {
    Lxm,
    /// The group is a unit's and was delegated to us: what is below it is ours, it itself is not
    /// (docs/CGROUP_DELEGATION.md). Version 1 has no part in it.
    Systemd,
}

/// What a delegatee may write in its root group (/sys/kernel/cgroup/delegate, and systemd's list
/// in docs/CGROUP_DELEGATION.md). Limits are not among them.
const DELEGATED_FILES: [&str; 4] = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "memory.oom.group"];

/// What a guest may make of groups: systemd makes four levels and some hundreds, each container in it
/// six more levels. Unbounded, a hundred thousand groups cost the host its memory, and their depth every
/// path (cgroup.max.depth and cgroup.max.descendants, cgroups(7)).
const BOUNDS: [(&str, &str); 2] = [("cgroup.max.depth", "64"), ("cgroup.max.descendants", "16384")];

impl ContainerCgroup {
    pub(crate) fn new(hierarchies: Hierarchies, group: impl Into<String>) -> Self {
        ContainerCgroup { hierarchies, group: group.into(), owner: CgroupManager::Lxm }
    }

    /// The group of the unit that this process is started in, which systemd made and limits.
    pub(crate) fn of_own_unit(hierarchies: Hierarchies) -> Result<Self> {
        let file = "/proc/self/cgroup";
        let text = fs::read_to_string(file).context(|| format!("read `{file}`"))?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        // systemd 254 and newer starts us in the subgroup already (DelegateSubgroup=).
        let group = own.strip_suffix("/supervisor").unwrap_or(own);
        if !group.ends_with(".service") {
            return Err(Error::host_lacks(format!("this process is in cgroup `/{own}`, which belongs to no service")));
        }
        let hierarchies = hierarchies.without_v1();
        Ok(ContainerCgroup { hierarchies, group: group.to_owned(), owner: CgroupManager::Systemd })
    }

    /// The group's path below each mount point.
    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    pub(crate) fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    pub(super) fn unified(&self) -> Result<PathBuf> {
        Ok(self.hierarchies.require_unified()?.join(&self.group))
    }

    /// The group above the guest's in the v2 tree: what is set and attached here is out of its reach.
    pub(crate) fn payload(&self) -> Result<PathBuf> {
        Ok(self.unified()?.join("payload"))
    }

    /// The guest's group in the v2 tree, the root of its cgroup namespace.
    fn guest(&self) -> Result<PathBuf> {
        Ok(self.payload()?.join("guest"))
    }

    /// The groups of a privileged guest in every v1 hierarchy, below those with its limits.
    fn v1_guests(&self) -> impl Iterator<Item = PathBuf> {
        self.hierarchies.all_v1_mounts().into_iter().map(|mount| mount.join(&self.group).join(limits::V1_GUEST))
    }

    /// Makes the groups in every hierarchy with the limits `wanted`; those that exist are used.
    ///
    /// The payload is delegated to the guest's root where its ids are mapped.
    pub(crate) fn create(&self, wanted: &Limits, ids: Option<IdRange>) -> Result<()> {
        let group = self.unified()?;
        let guest = self.guest()?;
        for dir in [&group.join("supervisor"), &guest] {
            persist(|| fs::create_dir_all(dir).context(|| format!("make cgroup `{}`", dir.display())))?;
        }
        if self.owner == CgroupManager::Systemd {
            // A group with controllers for its children may hold no processes (cgroups(7)).
            super::write_control(group.join("supervisor/cgroup.procs"), "0")
                .context(|| "join the supervisor's cgroup")?;
        }
        let controllers = self.enable_controllers(&group)?;
        limits::require_controllers(&self.hierarchies, &controllers, wanted)?;
        if self.owner == CgroupManager::Lxm {
            limits::apply_v2(&group, wanted)?;
        }
        for mount in self.hierarchies.v1_mounts() {
            persist(|| make_v1(mount, &self.group))?;
        }
        limits::apply_v1(&self.hierarchies, &self.group, wanted)?;
        for (file, value) in BOUNDS {
            super::write_control(self.payload()?.join(file), value).context(|| format!("set `{file}`"))?;
        }
        match ids {
            Some(ids) => delegate(&guest, ids.base),
            None => self.make_v1_guests(),
        }
    }

    /// Fails with `Kind::HostLacks` where a limit is set that no controller of this host can hold.
    pub(crate) fn require_controllers(&self, wanted: &Limits) -> Result<()> {
        let root = self.hierarchies.require_unified()?;
        let there = fs::read_to_string(root.join("cgroup.controllers")).context(|| "read the cgroup controllers")?;
        limits::require_controllers(&self.hierarchies, &there, wanted)
    }

    /// A privileged guest may mount any v1 hierarchy, and sees of it what is below its own group: its
    /// limits are above that, and where it had no group it would see, and write, the host's root of it
    /// (`release_agent`, CVE-2022-0492). Others may mount them too, but every file there is the host's.
    fn make_v1_guests(&self) -> Result<()> {
        let group = format!("{}/{}", self.group, limits::V1_GUEST);
        self.hierarchies.all_v1_mounts().into_iter().try_for_each(|mount| persist(|| make_v1(mount, &group)))
    }

    /// Moves this process, which has one thread, into the v1 groups of a privileged guest.
    pub(crate) fn join_v1_guests(&self) -> Result<()> {
        self.v1_guests().try_for_each(|dir| move_to_v1(&dir))
    }

    /// Changes the limits of a running guest to `wanted`; those it does not name are lifted.
    pub(crate) fn change_limits(&self, wanted: &Limits) -> Result<()> {
        self.lift_limits()?;
        limits::apply_v2(&self.unified()?, wanted)?;
        limits::apply_v1(&self.hierarchies, &self.group, wanted)
    }

    /// Enables in `group`'s ancestors and itself what controllers the v2 tree has, so that limits
    /// and accounting exist in it. A tree whose controllers v1 holds has none.
    /// Returns their names.
    fn enable_controllers(&self, group: &Path) -> Result<String> {
        let root = self.hierarchies.require_unified()?;
        let available =
            fs::read_to_string(root.join("cgroup.controllers")).context(|| "read the cgroup controllers")?;
        let wanted: Vec<String> = available
            .split_whitespace()
            .filter(|name| ["cpu", "cpuset", "io", "memory", "pids"].contains(name))
            .map(|name| format!("+{name}"))
            .collect();
        if wanted.is_empty() {
            return Ok(available);
        }
        let mut dirs = match self.owner {
            CgroupManager::Systemd => vec![group.to_owned()],
            CgroupManager::Lxm => {
                let below_root = group.strip_prefix(root).expect("the group is below the root").ancestors();
                below_root.map(|dir| root.join(dir)).collect()
            }
        };
        dirs.reverse();
        dirs.push(group.join("payload"));
        for dir in dirs {
            let file = dir.join("cgroup.subtree_control");
            super::write_control(&file, wanted.join(" "))
                .context(|| format!("enable controllers in `{}`", dir.display()))?;
        }
        Ok(available)
    }

    /// Closes the guest's list of devices to `rules`.
    pub(crate) fn restrict_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        // Above the guest's group: with `security.nesting` a privileged one may detach what is on its own.
        let payload = crate::sys::fs::open_dir(self.payload()?)?;
        match crate::sys::bpf::attach_device_program(payload, &super::devices::program(rules)) {
            // In a container: it takes CAP_BPF over the whole host (bpf_token_capable() in kernel/bpf/token.c). That
            // container's own list holds, and in its user namespace no device can be made.
            Err(e) if e.errno() == Some(libc::EPERM) && !crate::sys::userns::is_the_hosts() => Ok(()),
            other => other,
        }
    }

    /// Whether there are groups that a killed supervisor has left.
    pub(crate) fn has_leftovers(&self) -> Result<bool> {
        let in_v1 = || self.hierarchies.v1_mounts().into_iter().any(|mount| mount.join(&self.group).exists());
        Ok(self.payload()?.exists() || in_v1())
    }

    /// Lifts the limits of an earlier run before the present ones are set.
    pub(crate) fn lift_limits(&self) -> Result<()> {
        limits::lift(&self.hierarchies, &self.group)
    }

    /// Makes the group that a supervisor is cloned into, and opens it.
    pub(crate) fn make_supervisor(&self) -> Result<OwnedFd> {
        if self.has_leftovers()? {
            // A limit of the last run may be what killed it, and would apply to this supervisor.
            self.lift_limits()?;
        }
        let dir = self.unified()?.join("supervisor");
        // An empty group was left by a supervisor that was killed, perhaps by `cgroup.kill`: since Linux 6.14
        // what is cloned into such a group is killed as well. A group that is not empty stays.
        let _ = fs::remove_dir(&dir);
        persist(|| fs::create_dir_all(&dir).context(|| format!("make cgroup `{}`", dir.display())))?;
        crate::sys::fs::open_dir(dir)
    }

    /// The directory a guest's init is cloned into.
    pub(crate) fn open_guest(&self) -> Result<OwnedFd> {
        crate::sys::fs::open_dir(self.guest()?)
    }

    /// The directory an attached command is cloned into: a leaf of its own, because the guest's
    /// systemd enables controllers in its own and no process may then join it.
    pub(crate) fn open_attach(&self, ids: Option<IdRange>) -> Result<OwnedFd> {
        let dir = self.guest()?.join(".lxm");
        match fs::create_dir(&dir) {
            Ok(()) => {
                if let Some(ids) = ids {
                    delegate(&dir, ids.base)?;
                }
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).context(|| format!("make cgroup `{}`", dir.display())),
        }
        crate::sys::fs::open_dir(&dir)
    }

    /// Whether the guest has frozen the group of attached commands, or one above it that it sees.
    pub(crate) fn is_attach_frozen(&self) -> bool {
        let events = |guest: PathBuf| fs::read_to_string(guest.join(".lxm/cgroup.events")).ok();
        self.guest().ok().and_then(events).is_some_and(|text| text.lines().any(|line| line == "frozen 1"))
    }

    /// Moves this process, which has one thread, into the v1 groups: its children are born there.
    pub(crate) fn join_v1(&self) -> Result<()> {
        self.hierarchies.v1_mounts().into_iter().try_for_each(|mount| move_to_v1(&mount.join(&self.group)))
    }

    /// Freezes or thaws the guest and waits until it is.
    ///
    /// Fails with `Kind::TimedOut` when the kernel does not manage within `limit`.
    pub(crate) fn set_frozen(&self, frozen: bool, limit: Duration) -> Result<()> {
        let payload = self.payload()?;
        let (word, value) = if frozen { ("freeze", "1") } else { ("thaw", "0") };
        super::write_control(payload.join("cgroup.freeze"), value)
            .context(|| format!("{word} cgroup `{}`", payload.display()))?;
        let deadline = Instant::now() + limit;
        while self.is_frozen()? != frozen {
            if Instant::now() >= deadline {
                return Err(Error::timed_out(format!("{word} cgroup `{}`", payload.display())));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether the guest is frozen.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        Ok(self.event("frozen")? == Some(true))
    }

    /// Fails with `Kind::Conflict` if the guest of `name` is frozen; `unfreeze` is the command that thaws it.
    pub(crate) fn require_thawed(&self, name: &ContainerName, unfreeze: &str) -> Result<()> {
        if !self.is_frozen()? {
            return Ok(());
        }
        Err(Error::conflict(format!("container `{name}` is frozen: nothing runs in it"))
            .hint(format!("`{unfreeze}` lets it go on")))
    }

    pub(super) fn event(&self, key: &str) -> Result<Option<bool>> {
        let file = self.payload()?.join("cgroup.events");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if super::is_gone(&e) => return Ok(None),
            Err(e) => return Err(e).context(|| format!("read `{}`", file.display())),
        };
        Ok(text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).map(|value| value == "1"))
    }

    /// Takes this program out of the container's groups, so that they can be removed.
    ///
    /// In the v2 tree the program continues in a child that is born in the root group, and this process ends:
    /// to be born elsewhere costs nothing, a move waits for an RCU grace period.
    pub(crate) fn leave(&self) -> Result<()> {
        if self.owner == CgroupManager::Systemd {
            return Ok(());
        }
        for mount in self.hierarchies.v1_mounts().into_iter().filter(|mount| mount.join(&self.group).exists()) {
            move_to_v1(mount)?;
        }
        let root = self.hierarchies.require_unified()?;
        if crate::sys::clone::go_on_in(crate::sys::fs::open_dir(root)?.as_fd())? {
            return Ok(());
        }
        // A root that is not the true one, but a namespace's, may be closed to processes.
        super::write_control(root.join("cgroup.procs"), "0").context(|| format!("leave cgroup `{}`", self.group))
    }

    /// Removes the guest's groups, so that the next boot finds a clean payload.
    pub(crate) fn remove_payload(&self) -> Result<()> {
        super::tree::remove(&self.payload()?)
    }

    /// Removes the container's groups from every hierarchy, after whatever is left in the v2 tree
    /// was killed. What the calling process still sits in stays for the next sweep.
    pub(crate) fn remove(&self) -> Result<()> {
        let mut result = self.remove_payload();
        if self.owner == CgroupManager::Systemd {
            return result;
        }
        result = result.and_then(|()| super::tree::remove(&self.unified()?));
        for mount in self.hierarchies.all_v1_mounts() {
            result = result.and(super::tree::remove(&mount.join(&self.group)));
        }
        // The group above all containers is removed with the last of them; other containers keep it, and
        // systemd keeps its slices.
        let base = Path::new(&self.group).parent().filter(|base| base.to_string_lossy().starts_with("lxm"));
        let Some(base) = base else { return result };
        for mount in self.hierarchies.all_v1_mounts().into_iter().chain(self.hierarchies.unified.as_deref()) {
            let _ = fs::remove_dir(mount.join(base));
        }
        result
    }
}

/// Runs `make` again if the group above all containers was removed meanwhile with the last other container.
fn persist(make: impl Fn() -> Result<()>) -> Result<()> {
    let gone = |result: &Result<()>| result.as_ref().is_err_and(|e| e.errno() == Some(libc::ENOENT));
    (0..10).map(|_| make()).find(|result| !gone(result)).unwrap_or_else(make)
}

/// Hands a v2 group to the host id `uid`: the directory and the files a delegatee may write.
fn delegate(dir: &Path, uid: u32) -> Result<()> {
    let give = |path: &Path| match chown(path, Some(uid), Some(uid)) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).context(|| format!("give `{}` to the guest", path.display()))
        }
        _ => Ok(()),
    };
    give(dir)?;
    DELEGATED_FILES.iter().try_for_each(|file| give(&dir.join(file)))
}

/// Moves this process, which has one thread, to a v1 group.
///
/// Not by `cgroup.procs`: to move a process the kernel stops all forks and exits of the host
/// (`cgroup_threadgroup_rwsem`), for which it waits for an RCU grace period, 7 to 15 ms. A thread
/// that moves itself needs none of that (`cgroup_procs_write_start` in kernel/cgroup/cgroup.c).
fn move_to_v1(dir: &Path) -> Result<()> {
    super::write_control(dir.join("tasks"), "0").context(|| format!("move to cgroup `{}`", dir.display()))
}

/// Makes a v1 group and those above it.
fn make_v1(mount: &Path, group: &str) -> Result<()> {
    let mut dir = mount.to_owned();
    let is_cpuset = mount.join("cpuset.cpus").exists();
    for part in Path::new(group) {
        let parent = dir.clone();
        dir.push(part);
        match fs::create_dir(&dir) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).context(|| format!("make cgroup `{}`", dir.display())),
        }
        if is_cpuset {
            inherit_cpuset(&parent, &dir)?;
        }
    }
    Ok(())
}

/// Gives a v1 cpuset what its parent has: a new one is empty, and accepts no process until it has processors
/// and memory (cpuset(7)).
fn inherit_cpuset(parent: &Path, dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let set_up = || -> std::io::Result<()> {
            if fs::read_to_string(dir.join(file))?.trim().is_empty() {
                super::write_control(dir.join(file), fs::read_to_string(parent.join(file))?.trim())?;
            }
            Ok(())
        };
        set_up().context(|| format!("set up `{}`", dir.join(file).display()))?;
    }
    Ok(())
}
