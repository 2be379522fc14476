//! A tree of /var/lib/machines with the settings of `systemd-nspawn` (systemd.nspawn(5)).

mod files;
mod lines;
mod model;
mod network;
mod rows;

use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use self::model::Nspawn;
use self::rows::ROWS;
use super::foreign::{self, Translated};
use super::make::{ContainerParts, Imported, fill_from_tree, make};
use super::options::ImportOptions;
use super::table;
use crate::distro::HostKeys;
use crate::error::{Context, Error, Result};
use crate::store::Layout;
use crate::types::ContainerName;

pub(super) fn is_tree(dir: &Path) -> bool {
    dir.join("usr").is_dir() && dir.join("etc").is_dir()
}

/// Makes a container of the tree `dir`, which stays as it is and must not run.
pub(super) fn import(layout: &Layout, dir: &Path, options: &ImportOptions) -> Result<Imported> {
    let called = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut made = Translated::new()?;
    match settings_file(dir, &called) {
        Some(file) => {
            let text = foreign::settings(CWD, &file)?;
            made.notes.push(format!("its settings are those of `{}`", file.display()));
            made = translate(made, &called, &text)?;
        }
        None => made.notes.push(format!("there are no settings `{called}.nspawn`")),
    }
    made.with_network(layout, "host0")?;
    let name: ContainerName = match &options.name {
        Some(name) => name.clone(),
        None => called.parse().map_err(|e: Error| e.hint("`-n NAME` gives it another name"))?,
    };
    let open = foreign::open(dir)?;
    let tree = foreign::path_of(&open);
    let base = foreign::base_of(&tree)?;
    let text = made.text()?;
    let mut notes = std::mem::take(&mut made.notes);
    let storage = make(layout, &name, options, &mut notes, &mut |root, place| {
        let remarks = fill_from_tree(&tree, dir, root, place, base)?;
        foreign::require_init(root, &made.config)?;
        let config_text = text.clone();
        Ok(ContainerParts { config_text, origin: foreign::origin("nspawn"), keys: HostKeys::Keep, remarks })
    });
    let storage = storage.context(|| format!("import `{}`", dir.display()))?;
    notes.extend(foreign::hint(layout, &name, &made.hints)?);
    Ok(Imported { name, storage, notes })
}

/// The first of those that nspawn would read.
fn settings_file(dir: &Path, called: &str) -> Option<PathBuf> {
    let file = format!("{called}.nspawn");
    let beside = dir.parent().map(|parent| parent.join(&file));
    let known = ["/etc/systemd/nspawn", "/run/systemd/nspawn"].map(|known| Path::new(known).join(&file));
    known.into_iter().chain(beside).find(|file| file.symlink_metadata().is_ok())
}

/// Takes over the settings `text` of the machine `called`.
pub(super) fn translate(made: Translated, called: &str, text: &str) -> Result<Translated> {
    let mut machine = Nspawn::new(made, called);
    let (settings, others) = lines::parse(text);
    machine.made.notes.extend(others.iter().map(|line| format!("not taken over: `{line}`")));
    for setting in lines::in_force(settings) {
        // Whatever is said of a network: without what it says, the guest has none.
        machine.made.says_network |= setting.key.starts_with("Network.") && setting.key != "Network.Port";
        let note = table::take(ROWS, &mut machine, &setting);
        machine.made.notes.extend(note);
    }
    network::finish(&mut machine)?;
    Ok(machine.made)
}

/// Every `Section.Key` and its value, in force or not.
#[cfg(any(test, fuzzing))]
pub(super) fn assignments(text: &str) -> impl Iterator<Item = (String, String)> {
    lines::parse(text).0.into_iter().map(|setting| (setting.key, setting.value))
}

/// The table as docs/IMPORT.md has it.
#[cfg(test)]
pub(super) fn document() -> String {
    table::document(ROWS, "")
}

/// Whether the table has a row for `Section.Key`.
#[cfg(test)]
pub(super) fn knows(key: &str) -> bool {
    table::find(ROWS, key).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MountIds;

    fn translated(text: &str) -> Translated {
        translate(Translated::new().unwrap(), "web", text).unwrap()
    }

    #[test]
    fn settings_are_taken_over_and_the_rest_is_reported() {
        let text = "[Exec]\nBoot=yes\nEnvironment=X=gone\nEnvironment=\nEnvironment=A=b=c \"B=d e\" 'C=f'\nCapability=CAP_SYS_TIME\n\
                    LimitNOFILE=1024\nCPUAffinity=0-3 5\n; no\n[Files]\nBind=/srv\n\
                    BindReadOnly=-/data:/mnt\nTemporaryFileSystem=/tmp\n[Network]\nVirtualEthernet=yes\nPort=udp:53\nPort=8080:80\nPort=8080:81\n";
        let made = translated(text);
        let config = &made.config;
        let environment: Vec<_> = config.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(environment, ["A=b=c", "B=d e", "C=f"]);
        assert_eq!(config.security.capabilities_add, ["CAP_SYS_TIME"]);
        assert_eq!((config.mount.len(), config.limits.cpuset.as_deref()), (2, Some("0-3,5")));
        assert!(config.mount[1].optional && config.mount[1].read_only);
        let ports: Vec<_> = config.network["host0"].publish.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["53:53/udp", "8080:80/tcp"]);
        assert_eq!(made.notes.len(), 3, "{:?}", made.notes);
    }

    #[test]
    fn what_differs_here_is_reported() {
        let told = |text: &str| translated(text).notes.join("\n");
        let usual =
            "[Exec]\nBoot=yes\nHostname=web\nPrivateUsers=pick\n[Files]\nVolatile=no\nPrivateUsersOwnership=map\n";
        assert_eq!(told(usual), "");
        assert_eq!(told("[Exec]\nBoot=TRUE\nPrivateUsers=655360:65536\nPrivateUsers=yes\n"), "");
        for ids in ["no", "identity", "0", "Off"] {
            assert!(told(&format!("[Exec]\nPrivateUsers={ids}\n")).contains("the host's own"), "{ids}");
        }
        let exec = [
            "PrivateUsers=655360:1048576",
            "Boot=no",
            "Boot=maybe",
            "Hostname=other",
            "Ephemeral=yes",
            "NoNewPrivileges=yes",
            "Capability=all",
            "Capability=CAP_FLYING",
            "User=www-data",
            "Environment='A=1",
            "Environment=A",
            "Parameters=single",
        ];
        let files = ["Volatile=yes", "Volatile=state", "ReadOnly=yes", "Inaccessible=/etc", "Overlay=/a:/b:/c"];
        let exec = exec.map(|setting| ("Exec", setting)).into_iter();
        for (section, setting) in exec.chain(files.map(|setting| ("Files", setting))) {
            let told = told(&format!("[{section}]\n{setting}\n"));
            assert!(told.contains(setting), "{setting} in {told}");
        }
    }

    #[test]
    fn capabilities_are_dropped_one_by_one_or_all() {
        let drop = |text: &str| translated(&format!("[Exec]\n{text}")).config.security.capabilities_drop;
        assert_eq!(
            drop("DropCapability=CAP_MKNOD cap_kill\nDropCapability=CAP_KILL"),
            ["CAP_MKNOD", "cap_kill", "CAP_KILL"]
        );
        assert!(drop("DropCapability=all").contains(&"CAP_SYS_ADMIN".to_owned()));
    }

    #[test]
    fn binds_keep_their_options_and_escapes() {
        let mounts = |setting: &str| translated(&format!("[Files]\n{setting}\n")).config.mount;
        let mount = &mounts(r"Bind=/a\:b:/mnt:norbind,rootidmap")[0];
        assert_eq!((mount.source.to_str(), mount.recursive, mount.idmap), (Some("/a:b"), false, MountIds::Root));
        assert_eq!(mounts("Bind=/a:/b:owneridmap")[0].idmap, MountIds::Owner);
        assert_eq!(mounts("BindReadOnly=/a:/b:idmap")[0].idmap, MountIds::Guest);
        assert_eq!(mounts("BindReadOnly=/a")[0].idmap, MountIds::None);
        assert_eq!(mounts("Bind=/a\nBind=\nBind=/b").len(), 1);
        for none in ["+/a:/b", "a:/b", ":/b", "/a:/b:shiny", "/a:/b:rbind:x", "/a:/proc", "/sys:/mnt", "/dev/no-such"] {
            assert!(mounts(&format!("Bind={none}")).is_empty(), "{none}");
        }
        let device = super::super::device_nodes::some_device().unwrap_or("/dev/null".into());
        let made = translated(&format!("[Files]\nBind={}\nBind=/dev/fuse\n", device.display()));
        let given = usize::from(device.as_path() != Path::new("/dev/null"));
        assert_eq!((made.config.device.len(), made.config.mount.len()), (given, 0));
    }

    #[test]
    fn it_is_as_isolated_as_it_was() {
        let network = |text: &str| {
            let made = translated(&format!("[Network]\n{text}"));
            assert!(made.says_network, "{text}");
            let networks = made.config.network.iter();
            let seen = networks.map(|(name, network)| {
                let at = network.bridge.as_ref().or(network.parent.as_ref()).map_or("-", String::as_str);
                format!("{name} {:?} {at}", network.kind)
            });
            (seen.collect::<Vec<_>>().join(", "), made.notes.len())
        };
        for (text, seen, notes) in [
            ("Private=yes", "eth0 None -", 0),
            ("VirtualEthernet=no", "eth0 None -", 1),
            ("Private=no", "eth0 Host -", 0),
            ("Private=nonsense", "eth0 None -", 2),
            ("Private=no\nVirtualEthernet=no", "eth0 Host -", 0),
            ("Private=no\nVirtualEthernet=yes", "host0 Veth -", 0),
            ("VirtualEthernet=yes\nPrivate=no", "host0 Veth -", 0),
            ("Private=no\nBridge=br1", "host0 Veth br1", 0),
            ("VirtualEthernet=no\nZone=x", "host0 Veth vz-x", 0),
            ("MACVLAN=eth7\nMACVLAN=eth8:lan0", "lan0 Macvlan eth8, mv-eth7 Macvlan eth7", 0),
            ("IPVLAN=eth7 eth8", "iv-eth7 Ipvlan eth7, iv-eth8 Ipvlan eth8", 0),
            ("Interface=eth7\nPort=80", "eth7 Physical eth7", 1),
            ("Interface=eth7:lan0\nVirtualEthernet=yes\nPort=80", "host0 Veth -, lan0 Physical eth7", 0),
            ("VirtualEthernetExtra=a:b", "eth0 None -", 1),
            ("Bridge=a/b", "host0 Veth a/b", 0),
        ] {
            assert_eq!(network(text), (seen.to_owned(), notes), "{text}");
        }
        assert!(!translated("[Exec]\nBoot=yes\n").says_network);
        assert_eq!(translated("[Network]\nPort=80\n").config.network["host0"].publish.len(), 1);
    }
}
