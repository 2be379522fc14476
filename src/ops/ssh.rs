//! ssh into a guest as to a machine: by name, with its host keys known before the first connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::container::ssh_key;
use crate::error::{Context, Error, Result};
use crate::net::reach;
use crate::store::{BootRecord, Layout, replace_file, replace_run_file};
use crate::sys;
use crate::types::ContainerName;
use crate::types::account::{self, Passwd};

/// How long a connection waits for a guest that is still booting.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// More than any public key or account file of a sane guest.
const LIMIT: u64 = 1 << 16;
const KEY_KINDS: [&str; 4] = ["ed25519", "ecdsa", "rsa", "dsa"];

/// The guest's public host keys, as `KIND KEY` (known_hosts(5)).
///
/// Read from its files, not over a network: there is no one in the middle.
pub(crate) fn host_keys(layout: &Layout, name: &ContainerName) -> Result<Vec<String>> {
    let root = BootRecord::of_running(layout, name)?.open_root(name)?;
    let file = |kind: &&str| format!("etc/ssh/ssh_host_{kind}_key.pub");
    let texts = KEY_KINDS.iter().filter_map(|kind| sys::fs::read_in_root(&root, file(kind), LIMIT).ok());
    Ok(texts.filter_map(|text| public_key(&String::from_utf8_lossy(&text))).collect())
}

/// The first two words of a public key's line, if they are what they should be: the file is the
/// guest's, and what is in it goes into a file that ssh trusts.
fn public_key(text: &str) -> Option<String> {
    let mut words = text.lines().next()?.split_ascii_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let known = kind.starts_with("ssh-") || kind.starts_with("ecdsa-sha2-");
    let plain = |text: &str, more: &[u8]| text.bytes().all(|c| c.is_ascii_alphanumeric() || more.contains(&c));
    (known && plain(kind, b"-") && key.starts_with("AAAA") && plain(key, b"+/=")).then(|| format!("{kind} {key}"))
}

/// Who logs in, and the key of ours that lets him in.
#[derive(Debug, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub identity: Option<PathBuf>,
}

/// Whoever is asked for; else the first account of a person that has keys, else root.
pub fn login(layout: &Layout, name: &ContainerName, asked: Option<String>) -> Result<Login> {
    let root = BootRecord::of_running(layout, name).and_then(|record| record.open_root(name))?;
    let read =
        |file: &Path| sys::fs::read_in_root(&root, file, LIMIT).map(|text| String::from_utf8_lossy(&text).into());
    let keys_in = |home: &str| -> Option<String> {
        let keys: String = read(&Path::new(home).join(".ssh/authorized_keys")).ok()?;
        (!keys.is_empty()).then_some(keys)
    };
    let accounts: Result<String> = read(Path::new("etc/passwd"));
    let (user, keys) = match asked {
        Some(user) => {
            // He may be in a directory of accounts elsewhere: then no key of ours is known of him.
            let keys = accounts.ok().and_then(|accounts| keys_in(home_of(&accounts, &user)?));
            (user, keys)
        }
        None => {
            let accounts = accounts?;
            let mut people = accounts.lines().filter_map(person);
            let found = people.find_map(|(user, home)| Some((user.to_owned(), keys_in(home)?)));
            found.map_or_else(|| ("root".to_owned(), None), |(user, keys)| (user, Some(keys)))
        }
    };
    Ok(Login { user, identity: keys.and_then(|keys| ssh_key::that_opens(layout, &keys)) })
}

/// The home of an account (passwd(5)).
fn home_of<'a>(accounts: &'a str, user: &str) -> Option<&'a str> {
    accounts.lines().filter(|line| account::name(line) == user).find_map(|line| account::fields(line).get(5).copied())
}

/// Name and home of an account that is a person's (passwd(5)): a line of seven fields, no more.
fn person(line: &str) -> Option<(&str, &str)> {
    let Passwd { name, uid, home, .. } = Passwd::parse(line).filter(|_| account::fields(line).len() == 7)?;
    let uid: u32 = uid.parse().ok()?;
    let plain = name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c)) && !name.starts_with('-');
    ((1000..60_000).contains(&uid) && plain && !name.is_empty()).then_some((name, home))
}

/// The container that a host name means: its first label.
pub(crate) fn container_of(host: &str) -> Result<ContainerName> {
    host.split('.').next().unwrap_or(host).to_ascii_lowercase().parse()
}

/// The host name by which ssh knows a guest.
pub(crate) fn host_name(layout: &Layout, name: &ContainerName) -> String {
    format!("{name}.{}", layout.host_settings().network.domain)
}

/// Waits for the guest's keys, which a first boot may still be making, and writes them down where
/// ssh reads them.
pub(crate) fn known_hosts(layout: &Layout, name: &ContainerName) -> Result<PathBuf> {
    reach::wait_ssh(layout, name, TIMEOUT)?;
    let keys = host_keys(layout, name)?;
    if keys.is_empty() {
        return Err(Error::failed(format!("`{name}` has no ssh host keys in /etc/ssh"))
            .hint(format!("`{}` makes them", layout.command(format_args!("attach {name} -- ssh-keygen -A")))));
    }
    note(layout, name, &keys)?;
    Ok(layout.ssh_known_hosts(name))
}

/// Notes the guest's host keys for those who may not look into it, if it has any yet.
pub(crate) fn note_host_keys(layout: &Layout, name: &ContainerName) -> Result<()> {
    let keys = host_keys(layout, name)?;
    if keys.is_empty() { Ok(()) } else { note(layout, name, &keys) }
}

fn note(layout: &Layout, name: &ContainerName, keys: &[String]) -> Result<()> {
    let host = host_name(layout, name);
    let text: String = keys.iter().map(|key| format!("{host} {key}\n")).collect();
    replace_run_file(&layout.ssh_known_hosts(name), text.as_bytes(), 0o644)
}

/// The host keys that were noted when the container was started.
pub(crate) fn noted_keys(layout: &Layout, name: &ContainerName) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(layout.ssh_known_hosts(name)).ok()?;
    Some(text.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect())
}

/// What `ssh_config.d` needs for `ssh USER@NAME.DOMAIN` to work, asking nothing at the first time.
pub(crate) fn config(layout: &Layout) -> Result<String> {
    let domain = layout.host_settings().network.domain;
    let program = std::env::current_exe().context(|| "find the running program")?;
    let program = program.display();
    let key = ssh_key::file(layout);
    let key = key.display();
    // Naming a key turns the usual ones off (ssh_config(5), IdentityFile), so they are named too.
    let keys = format!(
        "Match host *.{domain} exec \"test -r '{key}'\"\n    \
         IdentityFile ~/.ssh/id_ed25519\n    \
         IdentityFile ~/.ssh/id_ecdsa\n    \
         IdentityFile ~/.ssh/id_rsa\n    \
         IdentityFile {key}\n\
         Match all\n"
    );
    Ok(format!(
        "# Written by `lxm ssh-config`: containers by name, with the host keys of their own files.\n\
         Host *.{domain}\n    \
         ProxyCommand {program} ssh-proxy %h %p\n    \
         KnownHostsCommand {program} ssh-keys %H\n    \
         UserKnownHostsFile /dev/null\n    \
         GlobalKnownHostsFile /dev/null\n    \
         StrictHostKeyChecking yes\n    \
         CheckHostIP no\n\
         {keys}"
    ))
}

/// Writes that configuration where the host's ssh reads it; returns the file.
pub(crate) fn install_config(layout: &Layout) -> Result<PathBuf> {
    let file = layout.root().join("etc/ssh/ssh_config.d/50-lxm.conf");
    replace_file(&file, config(layout)?.as_bytes(), 0o644)?;
    Ok(file)
}

/// Joins standard input and output to a port of the guest, until both directions have ended.
pub(crate) fn proxy(layout: &Layout, name: &ContainerName, port: u16) -> Result<()> {
    let stream = reach::connect(layout, name, port, TIMEOUT)?;
    crate::attach::join(stream.into()).map_err(|e| e.step(format!("carry the connection to `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_keys_of_a_guest_are_trusted() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA+/= root@web\n";
        assert_eq!(public_key(key).as_deref(), Some("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA+/="));
        for text in [
            "",
            "ssh-ed25519",
            "x AAAA",
            "ssh-ed25519 BBBB",
            "ssh-ed25519 AAAA\u{1b}[2J",
            "ssh-e,* AAAA",
            "@cert-authority * ssh-rsa AAAA",
        ] {
            assert_eq!(public_key(text), None, "{text:?}");
        }
    }

    #[test]
    fn people_are_told_from_services() {
        assert_eq!(person("debian:x:1000:1000::/home/debian:/bin/bash"), Some(("debian", "/home/debian")));
        for line in [
            "root:x:0:0:root:/root:/bin/bash",
            "nobody:x:65534:65534::/:/bin/false",
            "-o:x:1000:1000::/:/bin/sh",
            "x",
            ":x:1000:1::/:/",
        ] {
            assert_eq!(person(line), None, "{line}");
        }
    }

    #[test]
    fn a_home_is_that_of_the_whole_name() {
        let accounts = "debian2:x:1001:1001::/home/two:/bin/sh\ndebian:x:1000:1000::/home/debian:/bin/bash\n";
        assert_eq!(home_of(accounts, "debian"), Some("/home/debian"));
        assert_eq!(home_of(accounts, "deb"), None);
    }

    #[test]
    fn a_host_name_means_the_container_of_its_first_label() {
        assert_eq!(container_of("Web.lxm").unwrap().as_str(), "web");
        assert_eq!(container_of("web").unwrap().as_str(), "web");
        assert!(container_of("-x.lxm").is_err());
    }
}
