//! What each setting takes, in words and with an example, and what serde says, in words that an admin knows.

use super::KeyPath;

/// Every setting and what it takes; `*` stands for the name or the place of what it belongs to.
const SETTINGS: &[(&str, &str)] = &[
    ("version", "1, the only format there is"),
    ("description", "a text, such as `web server`"),
    ("uuid", "a UUID, such as `2f1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11`"),
    ("boot.autostart", "`true` or `false`"),
    ("boot.autostart-after", "names of containers with commas between, such as `db,cache`"),
    ("boot.requires", "names of containers with commas between, such as `db,cache`"),
    ("boot.ready", "`started` or `booted`"),
    ("boot.stop-timeout", "a duration, such as `60s` or `2m30s`; without a unit it is in seconds"),
    ("boot.wait-timeout", "a duration, such as `60s` or `2m30s`; without a unit it is in seconds"),
    ("boot.init", "an absolute path in the container, such as `/sbin/init`"),
    (
        "boot.init-type",
        "one of `auto`, `systemd`, `sysvinit`, `busybox`, `openrc`, `runit`, `procd`, `s6`, `dinit`, `finit` and `other`",
    ),
    ("boot.stop-signal", "a signal, such as `TERM`, `15` or `RTMIN+3`"),
    ("security.privileged", "`true` or `false`"),
    ("security.nesting", "`true` or `false`"),
    ("security.idmap", "`auto`, or the first host id and how many, such as `1000000:65536`"),
    ("security.id-range-size", "a number of ids from 65536 to 1878523904, such as `1048576`"),
    ("security.capabilities-add", "names of capabilities with commas between, such as `sys_time,net_raw`"),
    ("security.capabilities-drop", "names of capabilities with commas between, such as `sys_time,net_raw`"),
    ("security.syscalls", "`default`, `reduced` or `off`"),
    ("security.syscalls-allow", "names of groups with commas between, such as `io-uring,bpf`"),
    ("security.address-families", "names of address families with commas between, such as `default,CAN`"),
    ("security.apparmor", "`default`, `unconfined`, or the name of a loaded profile, such as `my-profile`"),
    ("security.selinux-label", "an SELinux label, such as `system_u:system_r:container_t:s0`"),
    ("limits.memory", "a size with its unit, such as `512MiB` or `2GiB`"),
    ("limits.memory-high", "a size with its unit, such as `512MiB` or `2GiB`"),
    ("limits.swap", "a size with its unit, such as `512MiB`, or `0`"),
    ("limits.cpus", "a number of processors from 0.01 to 8192, such as `1.5`"),
    ("limits.cpu-weight", "a whole number from 1 to 10000, such as `100`, which is the default"),
    ("limits.cpuset", "a list of processors, such as `0-3,8`"),
    ("limits.pids", "a number of processes from 1 to 4194303, such as `500`"),
    ("limits.io-weight", "a whole number from 1 to 10000, such as `100`, which is the default"),
    ("storage.size", "a size with its unit, such as `10GiB`"),
    ("snapshots.schedule", "`hourly`, `daily`, `weekly` or `monthly`"),
    ("snapshots.keep", "how many snapshots to keep, such as `7`"),
    ("network.*.type", "one of `none`, `host`, `veth`, `macvlan`, `ipvlan` and `physical`"),
    ("network.*.bridge", "the name of a bridge, such as `lxmbr0`"),
    ("network.*.parent", "the name of a link of the host, such as `eno1`"),
    ("network.*.mac", "a unicast MAC address, such as `02:6c:78:00:00:01`"),
    ("network.*.ipv4", "`dhcp`, `none`, or an address, such as `10.1.2.3` (a reservation) or `10.1.2.3/24`"),
    ("network.*.managed", "one of `auto`, `host` and `guest`"),
    ("network.*.ipv6", "`auto`, `none`, or an address, such as `fd00::5/64`"),
    ("network.*.gateway", "addresses with commas between, such as `10.1.2.1,fd00::1`"),
    ("network.*.mtu", "a number of bytes from 68 to 65535, such as `1500`"),
    ("network.*.vlan", "the number of a VLAN from 1 to 4094, such as `100`"),
    ("network.*.publish", "ports of the host and the container, such as `8080:80` or `127.0.0.1:2222:22/tcp`"),
    ("network.*.isolated", "`true` or `false`"),
    (
        "network.*.allow-addresses",
        "addresses and networks with commas between, such as `10.0.3.50,fd00:1::/64`, or `any`",
    ),
    ("network.*.allow-macs", "MAC addresses with commas between, such as `02:6c:78:00:00:01`, or `any`"),
    ("network.*.ingress", "a rate with its unit, from `8kbit` to `10000Gbit`, such as `100Mbit`"),
    ("network.*.egress", "a rate with its unit, from `8kbit` to `10000Gbit`, such as `100Mbit`"),
    ("mount.*.name", "a name for its settings, such as `srv`: a letter, then letters, digits, `-` and `_`"),
    ("mount.*.source", "an absolute path on the host, such as `/srv/www`"),
    ("mount.*.target", "an absolute path in the container, such as `/var/www`"),
    ("mount.*.read-only", "`true` or `false`"),
    ("mount.*.optional", "`true` or `false`"),
    ("mount.*.recursive", "`true` or `false`"),
    ("mount.*.suid", "`true` or `false`"),
    ("mount.*.dev", "`true` or `false`"),
    ("mount.*.idmap", "`none`, `owner`, `root`, `guest` or UID:GUEST-UID, such as `1000:0`"),
    ("device.*.name", "a name for its settings, such as `serial`: a letter, then letters, digits, `-` and `_`"),
    ("device.*.path", "the absolute path of a device on the host, such as `/dev/ttyUSB0`"),
    ("device.*.mode", "an octal mode, such as `0660`"),
    ("environment.*", "a text, such as `C.UTF-8`"),
    ("credential.*", "a text, such as `ssh-ed25519 AAAA…`"),
];

/// Sections, and a setting of each to set instead.
const SECTIONS: &[(&str, &str)] = &[
    ("boot", "boot.stop-timeout"),
    ("security", "security.nesting"),
    ("limits", "limits.memory"),
    ("storage", "storage.size"),
    ("snapshots", "snapshots.schedule"),
    ("network", "network.eth0.bridge"),
    ("network.*", "network.eth0.bridge"),
    ("mount", "mount.0.source"),
    ("mount.*", "mount.0.source"),
    ("device", "device.0.path"),
    ("device.*", "device.0.path"),
    ("environment", "environment.LANG"),
    ("credential", "credential.ssh.authorized_keys.root"),
];

/// The names of all settings, `*` standing for what has a name or a place of its own.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|(name, _)| *name)
}

/// What a setting takes, in words; of an element of a list, what the list takes.
pub(super) fn takes(key: &KeyPath) -> Option<String> {
    let of = |parts: &[String]| {
        let setting = SETTINGS.iter().find(|(name, _)| is(parts, name)).map(|(_, takes)| (*takes).to_owned());
        let section = SECTIONS.iter().find(|(name, _)| is(parts, name));
        setting.or_else(|| section.map(|(_, one)| format!("settings with names of their own, such as `{one}`")))
    };
    let parts = &key.0[..];
    of(parts).or_else(|| {
        parts.split_last().filter(|(last, _)| last.parse::<usize>().is_ok()).and_then(|(_, of_list)| of(of_list))
    })
}

/// Whether it is a section, whose settings have names: serde would take a list for one, in the order of a struct.
pub(super) fn is_section(key: &KeyPath) -> bool {
    let is_list = matches!(key.parts()[..], ["mount" | "device"]);
    !is_list && SECTIONS.iter().any(|(name, _)| is(&key.0, name))
}

/// Whether these are the parts of a name of the tables above.
fn is(parts: &[String], name: &str) -> bool {
    let names: Vec<&str> = name.split('.').collect();
    names.len() == parts.len() && names.iter().zip(parts).all(|(name, part)| *name == "*" || name == part)
}

/// Whether a parser's message is about types of a program, and not about what was written.
pub(super) fn is_of_serde(message: &str) -> bool {
    ["invalid ", "unknown variant", "wanted "].iter().any(|words| message.starts_with(words)) || is_of_a_date(message)
}

/// TOML has dates, which are sections to serde.
pub(super) fn is_of_a_date(message: &str) -> bool {
    message.contains("$__toml_private_datetime")
}

/// A parser's message in words of an admin.
pub(super) fn plain(message: &str) -> String {
    let said = |prefix: &str| message.strip_prefix(prefix).and_then(|rest| rest.split_once(", expected "));
    if let Some((found, expected)) = said("invalid type: ").or_else(|| said("invalid value: ")) {
        return format!("{} is not {}", thing(found), kind(expected));
    }
    if let Some((found, expected)) = said("unknown variant ") {
        return format!("{found} is not {}", expected.replacen("one of", "one of:", 1));
    }
    if message == "wanted string or table" {
        return "it is not a text in quotes".to_owned();
    }
    if message == "invalid IP address syntax" {
        return "it is not an address such as `10.1.2.3` or `fd00::1`".to_owned();
    }
    match message.strip_prefix("missing field ") {
        Some(name) => format!("{name} is missing"),
        None => message.to_owned(),
    }
}

/// What was found, as serde names it: `string "x"`, ``integer `5` ``.
fn thing(found: &str) -> String {
    match found.split_once(' ') {
        Some(("string", text)) => format!("`{}`", text.trim_matches('"')),
        _ if found.contains('`') => found.split('`').nth(1).map(|text| format!("`{text}`")).unwrap_or_default(),
        _ => kind(found).to_owned(),
    }
}

fn kind(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "`true` or `false`",
        "a sequence" | "sequence" => "a list",
        "a map" | "map" => "a section",
        "a string" | "a borrowed string" | "path string" => "a text in quotes",
        other if other.starts_with("struct ") => "a section",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Document};

    /// What serde and its kin say, and admins do not.
    const WORDS_OF_PROGRAMS: &[&str] = &[
        "invalid type",
        "invalid value",
        "invalid length",
        "variant",
        "missing field",
        "sequence",
        "boolean",
        "integer",
        "u16",
        "u32",
        "u64",
        "f64",
        "struct",
        "floating point",
        "syntax",
    ];

    /// The names that a section takes, as its parser lists them.
    fn names_in(section: &str) -> Vec<String> {
        let text = match section {
            "" => "no-such = 1".to_owned(),
            "mount" | "device" => format!("[[{section}]]\nno-such = 1"),
            _ => format!("[{section}]\nno-such = 1"),
        };
        let error = toml::from_str::<Config>(&text).unwrap_err().message().to_owned();
        assert!(error.starts_with("unknown field `no-such`, expected"), "{section}: {error}");
        error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    fn example(name: &str) -> KeyPath {
        let first = if name.starts_with("network") { "eth0" } else { "0" };
        name.replace('*', first).parse().unwrap()
    }

    #[test]
    fn what_every_setting_takes_is_told() {
        let mut all = BTreeSet::new();
        for (section, shown) in [
            ("", ""),
            ("boot", "boot."),
            ("security", "security."),
            ("limits", "limits."),
            ("storage", "storage."),
            ("snapshots", "snapshots."),
            ("network.eth0", "network.*."),
            ("mount", "mount.*."),
            ("device", "device.*."),
        ] {
            all.extend(names_in(section).into_iter().map(|name| format!("{shown}{name}")));
        }
        // Its older name.
        all.remove("security.seccomp");
        for name in &all {
            assert!(takes(&example(name)).is_some(), "{name}");
        }
        for (name, _) in SETTINGS.iter().chain(SECTIONS) {
            let is_there = all.contains(*name) || name.ends_with(".*");
            assert!(is_there, "{name} is no setting");
        }
    }

    #[test]
    fn a_value_that_is_refused_is_told_what_is_taken() {
        let values = [
            "",
            "x",
            "x y",
            "-1",
            "0",
            "5",
            "1.5",
            "99999999999999999999",
            "999999",
            "nan",
            "true",
            "yes",
            "/",
            "../x",
            "a,,b",
            "[1]",
            "\"q\"",
            "5 parsecs",
            "60",
            "1970-01-01",
            "x:y",
            "::1",
            "ä",
            "\u{1b}",
        ];
        let mut refused = 0;
        for (name, _) in SETTINGS.iter().chain(SECTIONS) {
            for value in values {
                let mut document = Document::parse("version = 1\n", Path::new("f")).unwrap();
                let key = example(name);
                let Err(e) = document.set([(&key, value)]) else { continue };
                refused += 1;
                let told = format!("{e} {}", e.hint_text().unwrap_or_default());
                let missing = told.contains("also needs");
                assert!(missing || told.contains(&takes(&key).unwrap()), "{key} = {value}: {told}");
                assert!(told.contains(&format!("`{key}")) || missing, "{key} = {value}: {told}");
                for word in WORDS_OF_PROGRAMS {
                    assert!(!told.contains(word), "{key} = {value}: {told}");
                }
            }
        }
        assert!(refused > 500, "{refused}");
    }

    #[test]
    fn files_are_refused_in_plain_words() {
        for (text, says) in [
            ("limits.pids = 'x'", "f:1: `x` is not a whole number that is not negative"),
            ("limits.pids = -1", "f:1: `-1` is not a whole number that is not negative"),
            ("limits.cpus = 'x'", "f:1: `x` is not a number"),
            ("boot.autostart = 'yes'", "f:1: `yes` is not `true` or `false`"),
            ("boot.requires = 5", "f:1: `5` is not a list"),
            ("boot.ready = 'soon'", "f:1: `soon` is not `started` or `booted`"),
            ("network.eth0.type = 'x'", "f:1: `x` is not one of: `none`"),
            ("limits = 5", "f:1: `5` is not a section"),
            ("description = 5", "f:1: `5` is not a text in quotes"),
            ("[[mount]]\nsource = '/a'", "`target` is missing"),
        ] {
            let e = crate::config::parse::<Config>(text, Path::new("f")).unwrap_err().to_string();
            assert!(e.contains(says), "{text}: {e}");
        }
    }
}
