//! The lines of LXC's configurations as LXC reads them (parse_line, src/lxc/confile.c): their newest names,
//! and what of them is in force.

use std::collections::BTreeMap;

use super::rows::{NET_ROWS, ROWS};
use crate::error::{Error, Result};
use crate::ops::import::table::{Row, Setting};

/// The settings of a file. What does not begin with `lxc.` is no setting of LXC's, which reads past it.
pub(super) fn parse(text: &str) -> Result<Vec<Setting>> {
    let blank = [' ', '\t', '\r', '\n'];
    let lines = text.split('\n').map(|line| line.trim_matches(blank)).filter(|line| line.starts_with("lxc."));
    lines
        .map(|line| {
            let (key, value) = line.split_once('=').ok_or_else(|| {
                Error::config(format!("`{}` has no `=`, and LXC reads no such line", line.escape_default()))
            })?;
            let (key, value) = (key.trim_matches(blank), value.trim_matches(blank));
            Ok(Setting {
                key: key.to_owned(),
                value: unquoted(value).to_owned(),
                text: format!("{key} = {value}"),
                is_shipped: false,
            })
        })
        .collect()
}

/// Without one pair of quotes around all of it; those within are the value's.
fn unquoted(value: &str) -> &str {
    let without = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    without('"').or_else(|| without('\'')).unwrap_or(value)
}

/// Where interfaces of LXC 1 and 2 begin to be numbered: after those that are numbered by their keys.
const OLD: u32 = 1 << 30;

/// Gives settings of LXC 1 and 2 the names that they have since LXC 3.
pub(super) fn renamed(settings: Vec<Setting>) -> Vec<Setting> {
    // Interfaces are told apart by their order: each begins with its type.
    let mut old = OLD;
    settings
        .into_iter()
        .map(|setting| {
            let key = match setting.key.strip_prefix("lxc.network.") {
                Some("type") => {
                    old += 1;
                    format!("lxc.net.{old}.type")
                }
                Some(rest) => match rest.split_once('.').filter(|(number, _)| number.parse::<u32>().is_ok()) {
                    // LXC 2 lets one say which.
                    Some((number, name)) => format!("lxc.net.{number}.{}", newest(NET_ROWS, name)),
                    None => format!("lxc.net.{}.{}", old.max(OLD + 1), newest(NET_ROWS, rest)),
                },
                None => match setting.key.strip_prefix("lxc.limit.") {
                    Some(limit) => format!("lxc.prlimit.{limit}"),
                    None => newest(ROWS, &setting.key).to_owned(),
                },
            };
            Setting { key, ..setting }
        })
        .collect()
}

fn newest<'a, M>(rows: &'static [Row<M>], key: &'a str) -> &'a str {
    let row = rows.iter().find(|row| row.names().any(|name| name == key));
    row.and_then(|row| row.names().next()).unwrap_or(key)
}

/// What is said again is said in addition.
const LISTS: [&str; 11] = [
    "lxc.apparmor.raw",
    "lxc.cap.drop",
    "lxc.cap.keep",
    "lxc.cgroup.devices.",
    "lxc.cgroup2.devices.",
    "lxc.environment",
    "lxc.group",
    "lxc.hook.",
    "lxc.idmap",
    "lxc.mount.",
    "lxc.include",
];

/// Those of an interface.
const NET_LISTS: [&str; 5] =
    ["ipv4.address", "ipv6.address", "veth.ipv4.route", "veth.ipv6.route", "veth.vlan.tagged.id"];

fn is_list(key: &str) -> bool {
    match interface(key) {
        Some((_, setting)) => NET_LISTS.contains(&setting),
        None => LISTS.iter().any(|list| key.starts_with(list)),
    }
}

/// The number of the interface that a setting belongs to, and its name there.
pub(super) fn interface(key: &str) -> Option<(u32, &str)> {
    let (number, setting) = key.strip_prefix("lxc.net.")?.split_once('.')?;
    Some((number.parse().ok()?, setting))
}

/// The settings in force: of a list those since it was last emptied, of everything else the last.
///
/// An empty value takes away what was said before.
pub(super) fn in_force(settings: Vec<Setting>) -> Vec<Setting> {
    let mut kept: Vec<Option<Setting>> = Vec::new();
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for setting in settings {
        let key = setting.key.clone();
        let is_empty = setting.value.is_empty();
        let below = match key.as_str() {
            // Either empties both (lxc_clear_config_caps).
            "lxc.cap.drop" | "lxc.cap.keep" if is_empty => vec!["lxc.cap."],
            "lxc.net" if is_empty => vec!["lxc.net."],
            "lxc.hook" if is_empty => vec!["lxc.hook."],
            _ => vec![],
        };
        let of_interface = format!("{key}.");
        let is_interface = is_empty && key.strip_prefix("lxc.net.").is_some_and(|rest| rest.parse::<u32>().is_ok());
        let below = below.into_iter().chain(is_interface.then_some(of_interface.as_str()));
        for beginning in below {
            let range = places.range_mut(beginning.to_owned()..);
            for (_, places) in range.take_while(|(key, _)| key.starts_with(beginning)) {
                places.drain(..).for_each(|at| kept[at] = None);
            }
        }
        let places = places.entry(key.clone()).or_default();
        if is_empty || !is_list(&key) {
            places.drain(..).for_each(|at| kept[at] = None);
        }
        if !is_empty {
            places.push(kept.len());
            kept.push(Some(setting));
        }
    }
    kept.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn force(text: &str) -> Vec<(String, String)> {
        let settings = in_force(renamed(parse(text).unwrap()));
        settings.into_iter().map(|setting| (setting.key, setting.value)).collect()
    }

    #[test]
    fn lines_are_read_as_lxc_reads_them() {
        let text = "  lxc.a=  x y \r\n#lxc.b = 1\n\tlxc.c = \"q'\"\nlxc.d = 'q'\nlxc.e = \"x\nlxc.f = \"\nother = 1\n\nlxc.g = a = b # c";
        let found: Vec<_> = parse(text).unwrap().into_iter().map(|s| (s.key, s.value)).collect();
        let expected = [
            ("lxc.a", "x y"),
            ("lxc.c", "q'"),
            ("lxc.d", "q"),
            ("lxc.e", "\"x"),
            ("lxc.f", "\""),
            ("lxc.g", "a = b # c"),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(parse("lxc.x\n").is_err());
    }

    #[test]
    fn old_names_are_the_new_ones() {
        let text = "lxc.utsname = a\nlxc.network.type = veth\nlxc.network.ipv4 = 10.0.0.1\nlxc.network.type = phys\n\
                    lxc.network.link = eth1\nlxc.limit.nofile = 5\nlxc.network.3.ipv6 = fd00::1";
        let one = OLD + 1;
        let two = OLD + 2;
        let expected = [
            ("lxc.uts.name".to_owned(), "a"),
            (format!("lxc.net.{one}.type"), "veth"),
            (format!("lxc.net.{one}.ipv4.address"), "10.0.0.1"),
            (format!("lxc.net.{two}.type"), "phys"),
            (format!("lxc.net.{two}.link"), "eth1"),
            ("lxc.prlimit.nofile".to_owned(), "5"),
            ("lxc.net.3.ipv6.address".to_owned(), "fd00::1"),
        ];
        assert_eq!(force(text), expected.map(|(key, value)| (key, value.to_owned())));
    }

    #[test]
    fn an_empty_value_takes_away_what_was_said() {
        let text = "lxc.cap.drop = a\nlxc.cap.drop = b\nlxc.cap.keep =\nlxc.cap.drop = c\nlxc.net.0.type = veth\nlxc.net =\n\
                    lxc.net.1.type = veth\nlxc.net.2.type = phys\nlxc.net.1 =\nlxc.arch = x\nlxc.arch = y\nlxc.idmap = u\nlxc.idmap =";
        let expected = [("lxc.cap.drop", "c"), ("lxc.net.2.type", "phys"), ("lxc.arch", "y")];
        assert_eq!(force(text), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(force("lxc.net.1.type = veth\nlxc.net.10.type = phys\nlxc.net.1 =\n").len(), 1);
    }
}
