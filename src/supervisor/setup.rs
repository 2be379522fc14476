//! What a supervisor knows of its container before it boots it: read, checked, not changed.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use caps::Capability;

use super::{mount_ids, policy};
use crate::cgroup::ContainerCgroup;
use crate::config::{Config, HostConfig, Init, Managed, NetworkType};
use crate::distro::{self, GuestSystem, View};
use crate::error::{Context, Error, Kind, Result};
use crate::identity::{self, ClaimLocks};
use crate::inside::seccomp::SeccompFilter;
use crate::inside::{BootPlan, CapabilitySet, Confinement, NetworkView};
use crate::storage::{self, Backend, GuestIds};
use crate::store::{self, Layout, Origin, ids};
use crate::sys::fork;
use crate::types::{ContainerName, IdRange};

/// Of a guest with the host's ids: the most that the kernel takes (GROUP_RANGE_MAX).
const LAST_GROUP: u32 = i32::MAX as u32;

/// Where a guest's programs are, for its init and for attached commands.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What keeps its files, its ids, and a user namespace that has them for mounts.
type Storage = (Box<dyn Backend>, Option<IdRange>, Option<(File, IdRange)>);

pub(super) struct Setup {
    pub layout: Layout,
    pub name: ContainerName,
    pub config: Config,
    pub host: HostConfig,
    pub backend: Box<dyn Backend>,
    pub guest: GuestSystem,
    /// What in it would configure its network; `None` where nothing would, or where that is not asked.
    pub configurator: Option<&'static str>,
    /// The guest's ids on the host; `None` for a privileged container.
    pub ids: Option<IdRange>,
    /// The user namespace whose ids the guest's mounts have; `None` for a privileged container.
    mount_ids: Option<(File, IdRange)>,
    pub network: NetworkView,
    pub cgroup: ContainerCgroup,
    pub confinement: Confinement,
}

impl Setup {
    /// Reads the configuration and the root file system, and refuses what cannot work. `held` takes
    /// the locks on what no other container may have.
    ///
    /// Gives the mounted root file system too: the first boot needs no other.
    pub(super) fn read(
        layout: &Layout,
        name: &ContainerName,
        cgroup: ContainerCgroup,
        held: &mut ClaimLocks,
    ) -> Result<(Self, OwnedFd)> {
        let config = fit_config(layout, name)?;
        // Before anything of it is mounted.
        let origin = take_claims(layout, name, &config, held)?;
        let backend = storage::backend(layout, &origin.storage)?;
        let ids = config.security.ids(origin.range());
        let mount_ids = ids.map(|ids| mount_ids::namespace(ids).map(|userns| (userns, ids))).transpose()?;
        let place = layout.container(name);
        if let Some(size) = config.storage.size {
            backend.limit(&place, Some(size.bytes())).context(|| "hold `storage.size`")?;
        }
        let rootfs = backend.mount(&place, guest_ids(mount_ids.as_ref()))?;
        store::sweep_aside(&rootfs)?;
        let setup = Self::of(layout, name, cgroup, config, (backend, ids, mount_ids), rootfs.as_fd())?;
        Ok((setup, rootfs))
    }

    /// Reads the same for a guest that runs, whose root file system is `rootfs`, and changes nothing.
    pub(super) fn of_running(
        layout: &Layout,
        name: &ContainerName,
        cgroup: ContainerCgroup,
        rootfs: BorrowedFd<'_>,
    ) -> Result<Self> {
        let config = fit_config(layout, name)?;
        let origin = Origin::read(layout, name)?;
        identity::require_unheld(layout, name, &config, &origin)?;
        let backend = storage::backend(layout, &origin.storage)?;
        let ids = config.security.ids(origin.range());
        let mount_ids = ids.map(|ids| mount_ids::namespace(ids).map(|userns| (userns, ids))).transpose()?;
        Self::of(layout, name, cgroup, config, (backend, ids, mount_ids), rootfs)
    }

    fn of(
        layout: &Layout,
        name: &ContainerName,
        cgroup: ContainerCgroup,
        config: Config,
        (backend, ids, mount_ids): Storage,
        rootfs: BorrowedFd<'_>,
    ) -> Result<Self> {
        let guest = distro::inspect(rootfs, config.boot.init.as_deref())?;
        distro::compat::check(&guest)?;
        let guest = match config.boot.init_type {
            Init::Auto => guest,
            init => GuestSystem { init, ..guest },
        };
        let network = network_view(&config)?;
        let configurator = configurator(&config, &guest, rootfs.as_fd())?;
        let security = &config.security;
        let labels = policy::labels(security, cgroup.group(), &|key| layout.unset_command(name, key))?;
        let mut capabilities =
            CapabilitySet::new(&security.capabilities_add, &security.capabilities_drop, network == NetworkView::Own)?;
        if labels.has_policy() {
            // Over its own policy namespace; all else that it is asked for is the host's namespace's alone.
            capabilities.keep(Capability::CAP_MAC_ADMIN);
        }
        let filter = SeccompFilter::compile(security);
        Ok(Setup {
            cgroup,
            layout: layout.clone(),
            name: name.clone(),
            host: layout.host_settings(),
            backend,
            guest,
            configurator,
            ids,
            mount_ids,
            network,
            confinement: Confinement { capabilities, filter, labels },
            config,
        })
    }

    /// Reads it anew for the next boot: an admin may have changed the configuration, and the guest its
    /// init.
    ///
    /// Fails with `Kind::Conflict` where it has become privileged or is no longer: that takes another
    /// supervisor ([`sys::reexec`](crate::sys::reexec)).
    pub(super) fn read_again(&self, held: &mut ClaimLocks) -> Result<(Self, OwnedFd)> {
        let (now, rootfs) = Self::read(&self.layout, &self.name, self.cgroup.clone(), held)?;
        if now.ids.is_none() != self.ids.is_none() {
            return Err(Error::conflict("`security.privileged` changes when it is stopped and started"));
        }
        Ok((now, rootfs))
    }

    pub(super) fn mount_ids(&self) -> Option<GuestIds<'_>> {
        guest_ids(self.mount_ids.as_ref())
    }

    /// Whether the host configures an interface of the guest.
    pub(super) fn configures_network(&self) -> bool {
        let does = self.configurator.is_some();
        self.config.network.values().any(|network| network.is_managed_by_host(does))
    }

    /// Mounts the root file system, attached nowhere.
    pub(super) fn mount_rootfs(&self) -> Result<OwnedFd> {
        self.backend.mount(&self.layout.container(&self.name), self.mount_ids())
    }

    /// The plan of one boot: a boot id of its own, everything else as configured.
    pub(super) fn plan(&self, rows: u16, cols: u16) -> Result<BootPlan> {
        let uuid = &self.config.uuid;
        let systemd = self.guest.init == Init::Systemd;
        let mut credentials = self.config.credential.clone();
        if self.guest.reads_hostname() {
            // For a guest without a hostname in its files, which come first.
            credentials.entry("system.hostname".to_owned()).or_insert_with(|| self.name.to_string());
        }
        // Each name has one value: of two, getenv(3) finds the first and a shell takes the last.
        let mut environment = BTreeMap::from([
            ("container", "lxm"),
            ("TERM", "xterm-256color"),
            ("PATH", PATH),
            ("HOME", "/root"),
            ("USER", "root"),
            ("LOGNAME", "root"),
        ]);
        environment.extend(self.config.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        // What lxm and the guest's systemd agree on is not for settings.
        environment.insert("container_uuid", uuid);
        if systemd {
            environment.insert("NOTIFY_SOCKET", "/run/host/notify");
        }
        if !credentials.is_empty() {
            environment.insert("CREDENTIALS_DIRECTORY", "/run/host/credentials");
        }
        let environment = environment.into_iter().map(|(key, value)| format!("{key}={value}"));
        let c_string =
            |text: String| CString::new(text).map_err(|_| Error::new(Kind::Config, "a setting holds a NUL byte"));
        Ok(BootPlan {
            hostname: self.name.to_string(),
            init: c_string(self.guest.init_path.to_string_lossy().into_owned())?,
            environment: environment.map(c_string).collect::<Result<_>>()?,
            mapped: self.ids.is_some(),
            last_group: self.ids.map_or(LAST_GROUP, |ids| ids.len - 1),
            network: self.network,
            nesting: self.config.security.nesting,
            own_policy: self.confinement.labels.has_policy(),
            uuid: uuid.clone(),
            boot_id: random_uuid()?,
            host_os_release: host_os_release(),
            credentials: credentials.into_iter().collect(),
            notify: systemd,
            confinement: self.confinement.clone(),
            rows,
            cols,
        })
    }
}

/// The configuration, without what no container can be started with.
fn fit_config(layout: &Layout, name: &ContainerName) -> Result<Config> {
    let config = layout.config(name)?;
    match config.unfit().first() {
        None => Ok(config),
        Some(unfit) => {
            let away = format!("`{}` takes it away", layout.unset_command(name, unfit.element()));
            Err(unfit.error().hint(away))
        }
    }
}

/// Takes the locks on what no other container may have, on as many ids as it is to have.
fn take_claims(layout: &Layout, name: &ContainerName, config: &Config, held: &mut ClaimLocks) -> Result<Origin> {
    let origin = Origin::read(layout, name)?;
    held.take(layout, name, config, &origin)?;
    if ids::suits(&origin, &config.security) {
        return Ok(origin);
    }
    // All containers are read: in a child, so that this process does not keep the memory.
    fork::run(|| ids::suit(layout, name, &config.security))?;
    let origin = Origin::read(layout, name)?;
    held.take(layout, name, config, &origin)?;
    Ok(origin)
}

fn guest_ids(mount_ids: Option<&(File, IdRange)>) -> Option<GuestIds<'_>> {
    mount_ids.map(|(userns, range)| GuestIds { userns: userns.as_fd(), range: *range })
}

fn random_uuid() -> Result<String> {
    let file = "/proc/sys/kernel/random/uuid";
    Ok(std::fs::read_to_string(file).context(|| format!("read `{file}`"))?.trim().to_owned())
}

/// The host's os-release (os-release(5) gives both places); empty where it has none.
fn host_os_release() -> String {
    ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|file| std::fs::read_to_string(file).ok())
        .unwrap_or_default()
}

/// What in the guest would configure its network, where its settings leave that open.
fn configurator(config: &Config, guest: &GuestSystem, root: BorrowedFd<'_>) -> Result<Option<&'static str>> {
    if config.network.values().all(|network| network.managed != Managed::Auto) {
        return Ok(None);
    }
    Ok(distro::configurator(&View::of(root)?, guest.init, &guest.init_path.to_string_lossy()))
}

/// Whose network the guest is in.
fn network_view(config: &Config) -> Result<NetworkView> {
    if !config.network.values().any(|network| network.kind == NetworkType::Host) {
        return Ok(NetworkView::Own);
    }
    if config.network.len() > 1 {
        let why = "an interface of type `host` is the host's whole network: it must be the only one";
        return Err(Error::new(Kind::Config, why));
    }
    Ok(NetworkView::Host)
}
