//! Every setting of LXC's, versions 1 to 7 (lxc.container.conf(5); `config_jump_table`, src/lxc/confile.c).

use super::interface::{self, LxcInterface};
use super::model::Lxc;
use super::{limits, mounts, settings};
use crate::ops::import::table::{Row, Taken};

/// Settings of a container. Of LXC 1 and 2 they have other names, which come second.
pub(super) const ROWS: &[Row<Lxc>] = &[
    Row::takes("lxc.uts.name lxc.utsname", "the container's name, unless `-n` gives it another", settings::name),
    Row::takes(
        "lxc.arch",
        "nothing: the guest's programs say it. One that this host does not run is lost",
        settings::arch,
    ),
    Row::takes(
        "lxc.rootfs.path lxc.rootfs",
        "its files: those of a directory (`dir:`, `btrfs:`); of other backends what is mounted at `rootfs`, and else they are refused",
        settings::rootfs,
    ),
    Row::takes("lxc.rootfs.backend", "as the word before the colon of `lxc.rootfs.path`", settings::backend),
    Row::same("lxc.rootfs.mount lxc.pivotdir", "nothing: where LXC mounts the files for a moment"),
    Row::takes(
        "lxc.rootfs.options",
        "`idmap=` is how lxm maps ids anyway; other options are lost: the files are mounted writable, without further options",
        settings::rootfs_options,
    ),
    Row::same("lxc.rootfs.managed", "nothing: whether `lxc-destroy` removes the files"),
    Row::takes(
        "lxc.idmap lxc.id_map",
        "a range of the container's own, of 65536 ids; files are shifted to it. Longer ranges and single ids are lost",
        settings::id_map,
    ),
    Row::takes(
        "lxc.init.cmd lxc.init_cmd",
        "`boot.init`; lost with arguments, which lxm gives to no init",
        settings::init,
    ),
    Row::lost("lxc.execute.cmd", "`lxm start` boots an init; `lxm exec` runs a command"),
    Row::takes(
        "lxc.init.uid lxc.init_uid lxc.init.gid lxc.init_gid",
        "0; others are lost: init is the guest's root",
        settings::zero,
    ),
    Row::lost("lxc.init.groups", "init has none but root's"),
    Row::takes("lxc.init.cwd", "`/`; another one is lost", settings::init_cwd),
    Row::takes(
        "lxc.environment lxc.environment.runtime",
        "`environment.NAME`; a name without a value is LXC's caller's variable, and lost",
        settings::environment,
    ),
    Row::lost("lxc.environment.hooks", "there are no hooks that it would be for"),
    Row::takes(
        "lxc.start.auto",
        "nothing: a note says that `lxm enable` makes it start with the host",
        settings::autostart,
    ),
    Row::takes(
        "lxc.start.order lxc.start.delay",
        "0; else lost: `boot.autostart-after` names those to be started before",
        settings::zero,
    ),
    Row::lost("lxc.group", "there are no groups of containers"),
    Row::takes("lxc.ephemeral", "0; 1 is lost: an imported container is kept", settings::zero),
    Row::takes("lxc.cap.drop", "`security.capabilities-drop`", settings::cap_drop),
    Row::takes("lxc.cap.keep", "`security.capabilities-drop`: all others", settings::cap_keep),
    Row::takes("lxc.no_new_privs", "0; 1 is lost: set-user-ID programs work in the guest", settings::zero),
    Row::takes("lxc.selinux.context lxc.se_context", "`security.selinux-label`", settings::selinux),
    Row::lost(
        "lxc.selinux.context.keyring lxc.keyring.session",
        "a guest has a session keyring of its own, with its own label",
    ),
    Row::takes(
        "lxc.apparmor.profile lxc.aa_profile",
        "lxm's own profile in place of LXC's own; others are lost: see `security.apparmor`",
        settings::apparmor,
    ),
    Row::takes(
        "lxc.apparmor.allow_incomplete lxc.aa_allow_incomplete",
        "0; 1 is lost: what this host's kernel lacks, no profile holds",
        settings::zero,
    ),
    Row::takes("lxc.apparmor.allow_nesting", "0; 1 is lost: `security.nesting` is for that", settings::nesting),
    Row::lost("lxc.apparmor.raw", "lxm's profile has no further rules"),
    Row::takes(
        "lxc.seccomp.profile lxc.seccomp",
        "lxm's own filter in place of LXC's own; others are lost: see `security.syscalls`",
        settings::seccomp,
    ),
    Row::takes("lxc.seccomp.allow_nesting", "nothing: a guest may have filters within lxm's", |_, _| Taken::Over),
    Row::lost(
        "lxc.seccomp.notify.proxy lxc.seccomp.notify.cookie",
        "no other program answers the guest's system calls",
    ),
    Row::takes(
        "lxc.mount.auto",
        "lxm's own /proc, /sys and cgroups; writable ones (`:rw`), the host's (`cgroup-full`) and `shmounts` are lost",
        mounts::auto,
    ),
    Row::takes(
        "lxc.mount.entry",
        "`[[mount]]` of a `bind` or `rbind` (`ro`, `optional`, `idmap=container`, targets below the old files), `[[device]]` of a device below /dev. Lost are other file systems, but for those that lxm mounts anyway, and sources in the host's /proc and /sys",
        mounts::entry,
    ),
    Row::same("lxc.mount.fstab lxc.mount", "each of its lines as `lxc.mount.entry`"),
    Row::same("lxc.autodev lxc.autodev.tmpfs.size lxc.kmsg", "nothing: every guest has a /dev of its own"),
    Row::takes(
        "lxc.include",
        "the files are read: those in the container's directory, and those that root alone can write. Of LXC's own the meaning is known without the file; `nesting.conf` is lost: `security.nesting`",
        settings::include,
    ),
    Row::takes(
        "lxc.cgroup2.* lxc.cgroup.*",
        "`limits.memory`, `memory-high`, `swap`, `cpus`, `cpu-weight`, `io-weight`, `cpuset`, `pids`; `devices.allow` of what every guest has or `[[device]]` gives. Others are lost",
        limits::control,
    ),
    Row::same(
        "lxc.cgroup.dir lxc.cgroup.dir.container lxc.cgroup.dir.container.inner lxc.cgroup.dir.monitor lxc.cgroup.dir.monitor.pivot lxc.cgroup.relative",
        "nothing: lxm has places of its own for its groups",
    ),
    Row::lost(
        "lxc.prlimit.* lxc.limit lxc.limit.* lxc.prlimit",
        "a guest's processes begin with lxm's limits; `limits` holds the guest as a whole",
    ),
    Row::lost("lxc.sysctl.* lxc.sysctl", "a file in the guest's /etc/sysctl.d sets it"),
    Row::lost("lxc.proc.* lxc.proc", "lxm sets none of init's files in /proc"),
    Row::lost(
        "lxc.namespace.clone lxc.namespace.keep lxc.namespace.share.* lxc.namespace.share",
        "a guest has namespaces of its own, of all kinds",
    ),
    Row::lost("lxc.time.offset.boot lxc.time.offset.monotonic", "a guest has the host's clocks"),
    Row::takes("lxc.sched.core", "0; 1 is lost: a guest's threads may share a core with others", settings::zero),
    Row::takes(
        "lxc.signal.halt lxc.haltsignal",
        "`boot.stop-signal`; nothing where it is LXC's own or systemd's: lxm knows what an init understands",
        settings::halt,
    ),
    Row::takes(
        "lxc.signal.reboot lxc.rebootsignal lxc.signal.stop lxc.stopsignal",
        "nothing where it is LXC's own. Others are lost: see `boot.init-type`",
        settings::signal,
    ),
    Row::takes(
        "lxc.hook.clone",
        "LXC's own, which changes the host name, is what `lxm copy` does; others are lost",
        settings::clone_hook,
    ),
    Row::lost("lxc.hook.* lxc.hook", "lxm runs no programs of the host for a container"),
    Row::same("lxc.hook.version", "nothing without hooks"),
    Row::same(
        "lxc.tty.max lxc.tty lxc.tty.dir lxc.devttydir lxc.pty.max lxc.pts",
        "nothing: a guest has one console, and as many terminals as it opens",
    ),
    Row::takes("lxc.console.path lxc.console", "`none`; others are lost: `lxm console` joins it", settings::console),
    Row::same(
        "lxc.console.logfile lxc.console.rotate lxc.console.size lxc.console.buffer.size",
        "nothing: `lxm logs` shows what was written to the console",
    ),
    Row::same(
        "lxc.log.level lxc.loglevel lxc.log.file lxc.logfile lxc.log.syslog lxc.syslog",
        "nothing: LXC's own log",
    ),
    Row::same("lxc.monitor.unshare lxc.monitor.signal.pdeath", "nothing: about LXC's own process"),
    Row::same("lxc.net lxc.network", "without a value it takes away the interfaces before it"),
    Row::same(
        "lxc.net.* lxc.network.*",
        "`[network.NAME]`: see below. Without any, and with `empty`, a container has no network here either",
    ),
];

/// Settings of an interface: `lxc.net.N.`, or `lxc.network.` of LXC 1 and 2 (there `ipv4` and `ipv6` are
/// addresses).
pub(super) const NET_ROWS: &[Row<LxcInterface>] = &[
    Row::takes(
        "type",
        "`type`: `veth`, `macvlan`, `ipvlan` are the same; `phys` is `physical`; `vlan` is `physical` with `vlan`; `none` is `host`; `empty` is `none`",
        interface::kind,
    ),
    Row::takes(
        "link",
        "`bridge` of `veth`, else `parent`. `lxcbr0` is the default bridge; an interface at a link that this host lacks is left out, and a `veth` without one is on no bridge: `none`",
        interface::link,
    ),
    Row::takes("name", "the name of the interface; without one eth0, eth1 and so on", interface::name),
    Row::same("flags", "nothing: the guest's interfaces are up"),
    Row::takes("hwaddr", "`mac`, with digits of chance for each `x`", interface::hwaddr),
    Row::takes("mtu", "`mtu`", interface::mtu),
    Row::takes(
        "ipv4.address ipv4",
        "`ipv4`, the first; further ones are lost. Without a prefix it is that of its class, as LXC reads it: /8, /16 or /24",
        interface::ipv4,
    ),
    Row::takes(
        "ipv6.address ipv6",
        "`ipv6`, the first; further ones are lost. Without a prefix it is /64",
        interface::ipv6,
    ),
    Row::takes("ipv4.gateway ipv6.gateway", "`gateway`; `auto` and `dev` are lost", interface::gateway),
    Row::takes("vlan.id", "`vlan` of a `vlan` interface", interface::vlan),
    Row::takes("veth.vlan.id", "`vlan`; `none` leaves the interface out", interface::port_vlan),
    Row::lost("veth.vlan.tagged.id", "a guest's port is in one VLAN"),
    Row::takes("veth.mode", "`bridge`; an interface with `router` is left out", interface::veth_mode),
    Row::same("veth.pair", "nothing: lxm names the host's side, and `lxm info` shows it"),
    Row::lost("veth.ipv4.route veth.ipv6.route", "lxm sets no further routes of the host's"),
    Row::lost("veth.n_rxqueues veth.n_txqueues", "each link has the kernel's number of queues"),
    Row::takes(
        "macvlan.mode",
        "`bridge` is lxm's; with the others guests on one link do not reach each other, and here they do: a note says so",
        interface::macvlan_mode,
    ),
    Row::takes("ipvlan.mode", "`l2` is lxm's; others are lost", interface::ipvlan_mode),
    Row::takes(
        "ipvlan.isolation",
        "`bridge` is lxm's; others are lost: guests on one link reach each other",
        interface::ipvlan_isolation,
    ),
    Row::takes("l2proxy", "0; 1 is lost: lxm answers for no address on the parent", interface::l2proxy),
    Row::lost("script.up script.down", "lxm runs no programs of the host for a container"),
];
