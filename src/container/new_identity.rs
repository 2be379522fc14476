//! A container's configuration made that of another one: what no two may share is made anew.

use toml_edit::{DocumentMut, Item, value};

use crate::config::{self, Address, Config};
use crate::container::random;
use crate::error::{Error, Result};

/// The text of a `config.toml` with an identity of its own; comments and order stay.
///
/// Also returns the settings that were left out because only one container can have them.
pub(crate) fn renew(text: &str, file: &std::path::Path) -> Result<(String, Vec<String>)> {
    let config: Config = config::parse(text, file)?;
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| Error::config(e.to_string()))?;
    let mut left_out = Vec::new();
    document["uuid"] = value(random::uuid()?);
    if let Some(security) = document.get_mut("security").and_then(Item::as_table_like_mut)
        && let config::IdMap::Fixed(range) = config.security.idmap
    {
        security.remove("idmap");
        left_out.push(format!("`security.idmap` ({range})"));
    }
    for (name, network) in &config.network {
        let table = document.get_mut("network").and_then(|networks| networks.get_mut(name));
        let Some(table) = table.and_then(Item::as_table_like_mut) else { continue };
        if network.mac.is_some() {
            table.insert("mac", value(random::mac()?));
        }
        let fixed = |address: Address| matches!(address, Address::Reserved(_) | Address::Static(_));
        for (key, address) in [("ipv4", network.ipv4), ("ipv6", network.ipv6)] {
            if fixed(address) {
                table.remove(key);
                left_out.push(format!("`network.{name}.{key}` ({address})"));
            }
        }
        if fixed(network.ipv4) || fixed(network.ipv6) {
            table.remove("gateway");
        }
        for (key, is_set) in
            [("allow-addresses", !network.allow_addresses.is_empty()), ("allow-macs", !network.allow_macs.is_empty())]
        {
            if is_set {
                table.remove(key);
                left_out.push(format!("`network.{name}.{key}`"));
            }
        }
        if !network.publish.is_empty() {
            table.remove("publish");
            left_out.push(format!("`network.{name}.publish`"));
        }
    }
    if let Some(boot) = document.get_mut("boot").and_then(Item::as_table_like_mut) {
        // Only containers that an admin has enabled by name start at boot.
        boot.remove("autostart");
        if config.boot.autostart {
            left_out.push("`boot.autostart`".to_owned());
        }
    }
    Ok((document.to_string(), left_out))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TEXT: &str = r#"version = 1
uuid = "2f1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11"
[boot]
autostart = true
stop-timeout = "5s" # mine
[security]
idmap = "600000:65536"
[network.eth0]
bridge = "lxmbr0"
mac = "10:66:6a:00:00:01"
ipv4 = "10.0.3.7"
gateway = ["10.0.3.1"]
publish = ["8080:80"]
[network.eth1]
type = "macvlan"
parent = "eth0"
ipv6 = "none"
"#;

    #[test]
    fn claims_of_a_copy_are_new_or_left_out_and_all_else_stays() {
        let (text, left_out) = renew(TEXT, Path::new("config.toml")).unwrap();
        let (old, new): (Config, Config) = (toml::from_str(TEXT).unwrap(), toml::from_str(&text).unwrap());
        assert_ne!(old.uuid, new.uuid);
        assert!(text.contains("# mine"));
        let eth0 = &new.network["eth0"];
        assert_ne!(eth0.mac, old.network["eth0"].mac);
        assert_eq!((eth0.bridge.as_deref(), eth0.ipv4), (Some("lxmbr0"), Address::Dhcp));
        assert!(eth0.publish.is_empty() && eth0.gateway.is_empty());
        assert_eq!(new.network["eth1"], old.network["eth1"]);
        assert!(!new.boot.autostart);
        assert_eq!(new.boot.stop_timeout, old.boot.stop_timeout);
        assert_eq!(new.security.idmap, config::IdMap::Auto);
        assert_eq!(left_out.len(), 4, "{left_out:?}");
        assert!(left_out.contains(&"`boot.autostart`".to_owned()), "{left_out:?}");
    }

    #[test]
    fn inline_tables_and_missing_ones_are_no_trouble() {
        let text = "version = 1\nnetwork = { eth0 = { mac = \"10:66:6a:00:00:01\", ipv4 = \"10.0.0.2/24\" } }\n";
        let (text, _) = renew(text, Path::new("f")).unwrap();
        let new: Config = toml::from_str(&text).unwrap();
        assert_ne!(new.network["eth0"].mac.as_deref(), Some("10:66:6a:00:00:01"));
        assert_eq!(new.network["eth0"].ipv4, Address::Dhcp);
        assert!(renew("version = 1\n", Path::new("f")).unwrap().1.is_empty());
    }
}
