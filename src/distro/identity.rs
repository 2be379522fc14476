//! What makes one container differ from its siblings: its names, ids and keys.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Edit, Login, View, accounts};
use crate::error::{Context, Error, Result};

/// Who a container is, as written into its root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub hostname: String,
    /// Who logs in; `None` leaves the accounts as they are, for a clone or a rename.
    pub login: Option<Login>,
    pub keys: HostKeys,
}

/// What happens to the ssh host keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKeys {
    /// A container that did not exist before gets its own.
    Fresh,
    /// A renamed one keeps them: its peers know it by them.
    Keep,
}

/// A host key as ssh-keygen makes it.
pub(super) struct HostKey {
    /// `ssh_host_ed25519_key`
    pub name: String,
    pub private: Vec<u8>,
    pub public: Vec<u8>,
}

/// The edits that make a root file system `identity`'s.
pub(super) fn edits(view: &View, identity: &Identity, host_keys: &[HostKey]) -> Result<Vec<Edit>> {
    let name = &identity.hostname;
    let mut edits = vec![
        Edit::write("etc/hostname", format!("{name}\n")).mode(0o644),
        Edit::write("etc/hosts", with_hostname(&view.text("etc/hosts")?.unwrap_or_default(), name)).mode(0o644),
    ];
    if identity.keys == HostKeys::Fresh {
        edits.extend(no_machine_id(view));
        edits.extend(no_secrets(view));
        for key in host_keys {
            edits.push(Edit::write(format!("etc/ssh/{}", key.name), key.private.clone()).mode(0o600));
            edits.push(Edit::write(format!("etc/ssh/{}.pub", key.name), key.public.clone()).mode(0o644));
        }
    }
    if let Some(login) = &identity.login {
        edits.extend(accounts::edits(view, login)?);
    }
    Ok(edits)
}

/// An empty machine-id takes `container_uuid` at boot; a missing one would mean a first boot, with
/// its presets and questions (machine-id(5)).
pub(super) fn no_machine_id(view: &View) -> Vec<Edit> {
    let mut edits = vec![Edit::remove("var/lib/dbus/machine-id")];
    if view.exists("lib/systemd") || view.is_taken("etc/machine-id") {
        edits.push(Edit::write("etc/machine-id", "").mode(0o444));
    }
    edits
}

/// Removes what no two systems may share: keys, seeds, and what a lease server knows one by.
pub(super) fn no_secrets(view: &View) -> Vec<Edit> {
    let in_dir = |dir: &'static str, is_secret: fn(&str) -> bool| {
        view.names(dir).into_iter().filter(move |name| is_secret(name)).map(move |name| format!("{dir}/{name}"))
    };
    let others = [
        "var/lib/systemd/random-seed",
        "var/lib/systemd/credential.secret",
        "var/lib/urandom/random-seed",
        "var/lib/NetworkManager/secret_key",
        "var/lib/dhcpcd/duid",
        "etc/dhcpcd.duid",
    ];
    in_dir("etc/ssh", |name| name.starts_with("ssh_host_"))
        .chain(in_dir("var/lib/dhcp", |name| name.contains("leases")))
        .chain(in_dir("var/lib/dhcpcd", |name| name.ends_with(".lease") || name.ends_with(".lease6")))
        .chain(in_dir("var/lib/NetworkManager", |name| name.ends_with(".lease")))
        .chain(others.map(str::to_owned))
        .map(Edit::remove)
        .collect()
}

/// Names the host in hosts(5) as Debian's installer does, on a line of its own.
fn with_hostname(hosts: &str, name: &str) -> String {
    let own = format!("127.0.1.1\t{name}");
    let mut lines: Vec<&str> =
        hosts.lines().filter(|line| line.split_whitespace().next() != Some("127.0.1.1")).collect();
    let has = |lines: &[&str], address| lines.iter().any(|line| line.split_whitespace().next() == Some(address));
    if !has(&lines, "127.0.0.1") {
        lines.insert(0, "127.0.0.1\tlocalhost");
    }
    let after = lines.iter().position(|line| line.split_whitespace().next() == Some("127.0.0.1")).unwrap_or(0) + 1;
    lines.insert(after, &own);
    if !has(&lines, "::1") {
        lines.push("::1\tlocalhost ip6-localhost ip6-loopback");
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Makes ssh host keys on this host: quicker than in the guest, whose first boot would wait for it.
///
/// In a directory below `scratch`, which is where whoever sweeps what a killed command left looks.
/// None where there is no `ssh-keygen` here; the guest's own first-boot unit then makes them.
pub(super) fn make_host_keys(hostname: &str, scratch: &Path) -> Result<Vec<HostKey>> {
    let dir = tempfile::tempdir_in(scratch).context(|| "make a directory for the ssh host keys")?;
    let mut makers = Vec::new();
    // Side by side: each takes longer than all else that makes a container of an image.
    for kind in ["ed25519", "ecdsa"] {
        let name = format!("ssh_host_{kind}_key");
        let file = dir.path().join(&name);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", kind, "-N", "", "-C"]).arg(format!("root@{hostname}")).arg("-f").arg(&file);
        match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => makers.push((name, file, other.context(|| "run `ssh-keygen`")?)),
        }
    }
    let mut keys = Vec::new();
    for (name, file, maker) in makers {
        let output = maker.wait_with_output().context(|| "run `ssh-keygen`")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::failed(format!("make the ssh host keys: `ssh-keygen`: {said}")));
        }
        keys.push(HostKey { private: read(&file)?, public: read(&file.with_extension("pub"))?, name });
    }
    Ok(keys)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).context(|| format!("read `{}`", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostname_takes_the_old_ones_line_and_leaves_the_others() {
        let fresh = "127.0.0.1\tlocalhost\n127.0.1.1\tweb\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        assert_eq!(with_hostname("", "web"), fresh);
        assert_eq!(with_hostname(fresh, "web"), fresh);
        assert_eq!(with_hostname(fresh, "db"), fresh.replace("web", "db"));
        let own = "# mine\n127.0.0.1 localhost\n10.0.0.9 nas\n::1 localhost\n";
        assert_eq!(with_hostname(own, "web"), own.replace("10.0", "127.0.1.1\tweb\n10.0"));
    }
}
