//! Registration with systemd-machined, so that `machinectl`, `systemctl -M` and the name service
//! know the guest.
//!
//! The caller must be the guest's supervisor itself: machined of systemd 258 and newer sends it
//! the SIGTERM of `machinectl terminate`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::Pid;
use zbus::proxy::MethodFlags;
use zbus::{Connection, OwnedVariant, Variant};
use zbus_systemd::machine1::{MachineProxy, ManagerProxy};

use crate::error::{Error, Result};
use crate::systemd::bus;
use crate::types::ContainerName;

/// How long a start waits for machined, which may have to be started itself.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// Who we are to machined.
const SERVICE: &str = "lxm";

/// A guest's entry in machined's register.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub name: &'a ContainerName,
    pub uuid: &'a str,
    pub leader: Pid,
    pub pidfd: BorrowedFd<'a>,
    /// The guest's root directory as the host can open it.
    pub root: PathBuf,
    /// Indices of the host's ends of its links.
    pub links: Vec<i32>,
}

/// Registers a guest, by the newest method that machined has. A host without machined has no register, which
/// is no failure. Waits at most for `timeout`.
pub(crate) fn register(machine: &Machine<'_>, timeout: Duration) -> Result<()> {
    let told = bus::run(timeout, async |connection| {
        let manager = proxy(connection).await?;
        match try_register(&manager, machine).await {
            Err(e) if bus::has_name(&e, "org.freedesktop.machine1.MachineExists") => {
                match service_of(connection, &manager, machine.name).await {
                    Some(service) if service != SERVICE => return Err(taken(machine.name, &service)),
                    // An earlier supervisor of this container was killed before it could unregister it.
                    Some(_) => drop(manager.unregister_machine(machine.name.to_string()).await),
                    // It is gone, or its owner is not known.
                    None => {}
                }
                try_register(&manager, machine).await
            }
            told => told,
        }
        .or_else(|e| if bus::is_missing(&e) { Ok(()) } else { Err(bus::error(e)) })
    });
    told.map_err(|e| e.step("register with systemd-machined"))
}

/// Who has registered the machine of this name; `None` where it has gone meanwhile or machined does not say.
async fn service_of(connection: &Connection, manager: &ManagerProxy<'_>, name: &ContainerName) -> Option<String> {
    let path = manager.get_machine(name.to_string()).await.ok()?;
    MachineProxy::new(connection, path).await.ok()?.service().await.ok()
}

/// The name is another manager's, whose machine would be lost to its tools.
fn taken(name: &ContainerName, service: &str) -> Error {
    let by = if service.is_empty() { "another program".to_owned() } else { format!("`{service}`") };
    Error::failed(format!("a machine `{name}` of {by} is there"))
        .hint("`machinectl` knows the guest when that one has ended, or the container has another name")
}

/// Takes a guest out of the register at once. One that is not in it is out already.
pub(crate) fn unregister(name: &ContainerName) -> Result<()> {
    let told = bus::run(TIMEOUT, async |connection| {
        let proxy = proxy(connection).await?;
        // machined is not started for it: our unit comes after machined's, so its start would wait for our
        // end. When it starts it sees for itself that the guest is gone.
        let flags = MethodFlags::NO_AUTO_START;
        match proxy.inner().call_with_flags::<_, _, ()>("UnregisterMachine", flags, &(name.as_str(),)).await {
            Err(e) if !bus::is_missing(&e) && !bus::has_name(&e, "org.freedesktop.machine1.NoSuchMachine") => {
                Err(bus::error(e))
            }
            _ => Ok(()),
        }
    });
    told.map_err(|e| e.step("unregister from systemd-machined"))
}

async fn proxy(connection: &Connection) -> Result<ManagerProxy<'_>> {
    ManagerProxy::new(connection).await.map_err(bus::error)
}

async fn try_register(manager: &ManagerProxy<'_>, machine: &Machine<'_>) -> zbus::Result<()> {
    let id = machine_id(machine.uuid).unwrap_or_default();
    let root = machine.root.to_string_lossy().into_owned();
    let name = machine.name.to_string();
    // systemd 259. A pidfd cannot come to mean another process.
    let pidfd =
        zbus::Fd::from(machine.pidfd.as_fd().try_clone_to_owned().map_err(|e| zbus::Error::Failure(e.to_string()))?);
    let properties = vec![
        property("Id", id.clone())?,
        property("Service", SERVICE)?,
        property("Class", "container")?,
        property("LeaderPIDFD", pidfd)?,
        property("RootDirectory", root.clone())?,
        property("NetworkInterfaces", machine.links.clone())?,
    ];
    match manager.register_machine_ex(name.clone(), properties).await {
        Err(e) if bus::is_unknown_method(&e) => {}
        told => return told.map(drop),
    }
    let (service, class) = (SERVICE.to_owned(), "container".to_owned());
    let leader = machine.leader.as_raw() as u32;
    let told =
        manager.register_machine_with_network(name, id, service, class, leader, root, machine.links.clone()).await;
    told.map(drop)
}

fn property<'v>(name: &str, value: impl Into<Variant<'v>>) -> zbus::Result<(String, OwnedVariant)> {
    Ok((name.to_owned(), value.into().try_into_owned()?))
}

/// The 16 bytes of a UUID.
fn machine_id(uuid: &str) -> Result<Vec<u8>> {
    let digits: Vec<u32> = uuid.chars().filter_map(|c| c.to_digit(16)).collect();
    let well_formed = digits.len() == 32 && uuid.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    if !well_formed {
        return Err(Error::config(format!("`{uuid}` is not a UUID")));
    }
    Ok(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_becomes_sixteen_bytes() {
        let id = machine_id("2f1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11").unwrap();
        assert_eq!((id.len(), id[0], id[15]), (16, 0x2f, 0x11));
        for wrong in ["", "2f1b", "zz1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11"] {
            assert!(machine_id(wrong).is_err(), "{wrong}");
        }
    }
}
