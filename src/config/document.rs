//! Changing one setting in a configuration's text, which keeps its comments and its order.

mod refusal;
mod slot;

use std::fmt;

use toml_edit::{Array, DocumentMut, Item, Value};

use self::refusal::Refusal;
use self::slot::{Slot, find, put};
use super::key_path::{KeyPath, NAMES};
use super::{Config, Limits};
use crate::error::{Error, Result};

/// A container's configuration as text that is being changed. It is always valid.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    text: DocumentMut,
    config: Config,
}

impl Document {
    /// Takes a configuration's text; `file` names it in errors.
    pub(crate) fn parse(text: &str, file: &std::path::Path) -> Result<Self> {
        let config = super::parse(text, file)?;
        let mut text: DocumentMut =
            text.parse().map_err(|e: toml_edit::TomlError| Error::config(format!("{}: {e}", file.display())))?;
        // One name a setting, or the older one and the newer would meet in the file.
        if let Some(security) = text.get_mut("security").and_then(Item::as_table_like_mut)
            && let Some(decor) = security.get_key_value("seccomp").map(|(key, _)| key.leaf_decor().clone())
            && let Some(value) = security.remove("seccomp")
        {
            security.insert("syscalls", value);
            // The comments above it.
            if let Some(mut key) = security.key_mut("syscalls") {
                *key.leaf_decor_mut() = decor;
            }
        }
        Ok(Document { text, config })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Sets each key to what its value means: a TOML value, or a text, or texts separated by commas,
    /// whichever the setting takes. One may need another: a mount has a source and a target.
    pub(crate) fn set<'s>(&mut self, settings: impl IntoIterator<Item = (&'s KeyPath, &'s str)>) -> Result<()> {
        let mut text = self.text.clone();
        let mut last = None;
        for (key, value) in settings {
            text = put_meaning(&text, key, value)?;
            last = Some((key, value));
        }
        if let Some((key, value)) = last {
            let new = accept(text).map_err(|refusal| refusal.explain(key, Some(value)))?;
            if let Some(unfit) = new.config.newly_unfit(&self.config) {
                return Err(unfit.refusal());
            }
            *self = new;
        }
        Ok(())
    }

    /// Takes a setting away, so that its default is in force; returns whether it was there.
    pub(crate) fn unset(&mut self, key: &KeyPath) -> Result<bool> {
        if !self.knows(key)? {
            return Ok(false);
        }
        let mut text = self.text.clone();
        let removed = match find(text.as_table_mut(), &key.0, false) {
            Some(Slot::Key(table, name)) => table.remove(&name).is_some(),
            Some(Slot::Element(array, at)) => array.remove(at),
            None => false,
        };
        if removed {
            *self = accept(text).map_err(|refusal| refusal.explain(key, None))?;
        }
        Ok(removed)
    }

    /// Takes a setting as `other` has it; where that has none, and without `other`, its default is in
    /// force afterwards.
    pub(crate) fn take(&mut self, key: &KeyPath, other: Option<&Document>) -> Result<()> {
        let theirs = other.and_then(|other| {
            let mut text = other.text.clone();
            match find(text.as_table_mut(), &key.0, false) {
                Some(Slot::Key(table, name)) => table.get(&name).cloned(),
                _ => None,
            }
        });
        let mut text = self.text.clone();
        match (find(text.as_table_mut(), &key.0, theirs.is_some()), theirs) {
            (Some(Slot::Key(table, name)), Some(theirs)) => drop(table.insert(&name, theirs)),
            (Some(Slot::Key(table, name)), None) => drop(table.remove(&name)),
            _ => {}
        }
        *self = accept(text).map_err(|refusal| refusal.explain(key, None))?;
        Ok(())
    }

    /// The value in force, defaults included; `None` where the setting is unset and has none.
    pub(crate) fn get(&self, key: &KeyPath) -> Result<Option<toml::Value>> {
        let mut value = toml::Value::Table(self.config.with_defaults()?);
        for part in &key.0 {
            let next = match &mut value {
                toml::Value::Table(table) => table.remove(part),
                toml::Value::Array(array) => {
                    let is_called = |element: &toml::Value| {
                        NAMES.iter().any(|key| element.get(key).and_then(toml::Value::as_str) == Some(part))
                    };
                    let at = part.parse().ok().or_else(|| array.iter().position(is_called));
                    at.filter(|at| *at < array.len()).map(|at| array.remove(at))
                }
                _ => None,
            };
            match next {
                Some(next) => value = next,
                None => return self.knows(key).map(|_| None),
            }
        }
        Ok(Some(value))
    }

    /// Fails unless `key` names a setting; returns whether it is set.
    fn knows(&self, key: &KeyPath) -> Result<bool> {
        let mut text = self.text.clone();
        let set = match find(text.as_table_mut(), &key.0, false) {
            Some(Slot::Key(table, name)) => table.contains_key(&name),
            Some(Slot::Element(array, at)) => at < array.len(),
            None => false,
        };
        if set {
            return Ok(true);
        }
        match put_at(&self.text, key, Value::from("")).and_then(accept) {
            // Whatever the value may be, the name is known.
            Err(refusal) if refusal.is_unknown_name() => Err(refusal.explain(key, None)),
            _ => Ok(false),
        }
    }
}

/// The text with what `value` means at `key`: the likeliest meaning that the setting takes.
fn put_meaning(text: &DocumentMut, key: &KeyPath, value: &str) -> Result<DocumentMut> {
    let mut refusals = Vec::new();
    for candidate in meanings(value) {
        let is_text = matches!(candidate, Value::String(_));
        if !candidate.is_inline_table() && super::words::is_section(key) {
            refusals.push((is_text, Refusal("invalid type: sequence, expected a map".to_owned())));
            continue;
        }
        match put_at(text, key, candidate).and_then(accept_half) {
            Ok(changed) => return Ok(changed),
            Err(e) => refusals.push((is_text, e)),
        }
    }
    // A text that a setting of texts refuses is the case worth explaining; else the first.
    let wrong_type = |e: &Refusal| super::words::is_of_serde(&e.0);
    let told = refusals.iter().find(|(is_text, e)| *is_text && !wrong_type(e));
    // What a list refuses of its elements says more than that it is a list.
    let told = told.or(refusals.iter().find(|(_, e)| !wrong_type(e))).or(refusals.first());
    let (_, refusal) = told.expect("a value has at least one meaning");
    Err(refusal.explain(key, Some(value)))
}

/// The text with `value` at `key`, whatever it means there.
fn put_at(text: &DocumentMut, key: &KeyPath, value: Value) -> Result<DocumentMut, Refusal> {
    let mut text = text.clone();
    let put = match find(text.as_table_mut(), &key.0, true) {
        Some(Slot::Key(table, name)) => put(table, &name, value),
        Some(Slot::Element(array, at)) => array.put(at, value),
        None => false,
    };
    if put { Ok(text) } else { Err(Refusal(format!("unknown field `{}`", key.0.last().map_or("", String::as_str)))) }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Config {
    /// All settings that have a value, those that are not written too.
    pub fn with_defaults(&self) -> Result<toml::Table> {
        let table = |value: toml::ser::Error| Error::failed(value.to_string());
        let mut all = toml::Table::try_from(self).map_err(table)?;
        let sections = [
            ("boot", toml::Table::try_from(&self.boot)),
            ("security", toml::Table::try_from(&self.security)),
            ("limits", toml::Table::try_from::<&Limits>(&self.limits)),
            ("storage", toml::Table::try_from(&self.storage)),
            ("snapshots", toml::Table::try_from(&self.snapshots)),
        ];
        for (name, section) in sections {
            all.insert(name.to_owned(), toml::Value::Table(section.map_err(table)?));
        }
        Ok(all)
    }
}

fn accept(text: DocumentMut) -> Result<Document, Refusal> {
    match toml::from_str(&text.to_string()) {
        Ok(config) => Ok(Document { text, config }),
        Err(e) => Err(Refusal(e.message().to_owned())),
    }
}

/// Takes a text too that is wrong only in not having everything yet.
fn accept_half(text: DocumentMut) -> Result<DocumentMut, Refusal> {
    match accept(text.clone()) {
        Err(refusal) if !refusal.0.starts_with("missing field") => Err(refusal),
        _ => Ok(text),
    }
}

/// What a word of the command line may mean, the likeliest first.
fn meanings(word: &str) -> Vec<Value> {
    let mut meanings: Vec<Value> = word.parse().ok().into_iter().collect();
    meanings.push(Value::from(word));
    let parts = word.split(',').map(str::trim).filter(|part| !part.is_empty());
    meanings.push(Value::Array(parts.collect::<Array>()));
    meanings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TEXT: &str = "\
# made by hand
version = 1
uuid = \"u\"

[limits] # what it may use
memory = \"1GiB\" # enough
pids = 100

[[mount]]
source = \"/srv\"
target = \"/srv\"
";

    fn document() -> Document {
        Document::parse(TEXT, Path::new("config.toml")).unwrap()
    }

    fn set(key: &str, value: &str) -> Result<Document> {
        let mut document = document();
        document.set([(&key.parse()?, value)])?;
        Ok(document)
    }

    #[test]
    fn a_changed_setting_leaves_all_the_rest_as_it_was() {
        let text = set("limits.memory", "200MiB").unwrap().to_string();
        assert_eq!(text, TEXT.replace("1GiB", "200MiB"));
        let mut document = document();
        assert!(document.unset(&"limits.pids".parse().unwrap()).unwrap());
        assert!(!document.unset(&"limits.pids".parse().unwrap()).unwrap());
        assert_eq!(document.to_string(), TEXT.replace("pids = 100\n", ""));
    }

    #[test]
    fn a_word_means_what_the_setting_takes() {
        for (key, word, line) in [
            ("limits.pids", "4096", "pids = 4096"),
            ("limits.swap", "0", "swap = \"0\""),
            ("limits.cpus", "2", "cpus = 2"),
            ("limits.cpuset", "0", "cpuset = \"0\""),
            ("security.nesting", "true", "nesting = true"),
            ("security.address-families", "default,CAN", "address-families = [\"default\", \"CAN\"]"),
            ("security.syscalls-allow", "io-uring", "syscalls-allow = [\"io-uring\"]"),
            ("description", "true", "description = \"true\""),
            ("description", "a, b", "description = \"a, b\""),
            ("environment.N", "1", "N = \"1\""),
            ("credential.login.motd", "5", "[credential]\n\"login.motd\" = \"5\""),
            ("credential.\"login.motd\"", "a=b", "[credential]\n\"login.motd\" = \"a=b\""),
            ("boot.autostart-after", "db, web", "autostart-after = [\"db\", \"web\"]"),
            ("boot.autostart-after", "[\"db\"]", "autostart-after = [\"db\"]"),
            ("boot.autostart-after", "", "autostart-after = []"),
            ("network.eth0.type", "none", "[network.eth0]\ntype = \"none\""),
            ("network.eth0.ipv4", "10.1.2.3", "ipv4 = \"10.1.2.3\""),
            ("mount.0.read-only", "true", "target = \"/srv\"\nread-only = true"),
            ("device.0.path", "/dev/fuse", "[[device]]\npath = \"/dev/fuse\""),
        ] {
            let text = set(key, word).unwrap().to_string();
            assert!(text.contains(line), "{key} {word}: {text}");
        }
    }

    #[test]
    fn a_refusal_names_the_setting_and_the_nearest_one() {
        for (key, word, message, hint) in [
            ("limits.memroy", "1GiB", "there is no setting `limits.memroy`", Some("did you mean `limits.memory`?")),
            ("limit.memory", "1GiB", "there is no setting `limit.memory`", Some("did you mean `limits.memory`?")),
            ("limits.memory.x", "1", "there is no setting `limits.memory.x`", None),
            ("limits.memory", "5", "`limits.memory` cannot be `5`: `5` is not a size: it has no unit", None),
            ("limits.pids", "many", "`limits.pids` cannot be `many`: it takes a number of processes", None),
            ("security.address-families", "UNIX,FOO", "`security.address-families` cannot be `UNIX,FOO`: `FOO`", None),
            ("boot.ready", "soon", "`boot.ready` cannot be `soon`: it takes `started`", None),
            ("credential.a/b", "1", "`credential.a/b` cannot be `1`: `a/b` is not the name of a credential", None),
            (
                "network.publish",
                "8080:80",
                "`network.publish` cannot be `8080:80`",
                Some("settings of an interface go by its name: `network.eth0.publish`"),
            ),
            ("mount.5.source", "/", "there is no setting `mount.5.source`", None),
        ] {
            let e = set(key, word).unwrap_err();
            assert!(e.to_string().starts_with(message), "{e}");
            assert_eq!(e.kind().exit_status(), 6, "{e}");
            if hint.is_some() {
                assert_eq!(e.hint_text(), hint, "{e}");
            }
        }
        assert_eq!("a..b".parse::<KeyPath>().unwrap_err().kind().exit_status(), 2);
    }

    #[test]
    fn the_older_name_of_a_setting_is_understood_and_replaced() {
        let mut document = Document::parse("[security]\nseccomp = \"off\"\n", Path::new("config.toml")).unwrap();
        assert_eq!(document.to_string(), "[security]\nsyscalls = \"off\"\n");
        document.set([(&"security.seccomp".parse().unwrap(), "reduced")]).unwrap();
        assert_eq!(document.to_string(), "[security]\nsyscalls = \"reduced\"\n");
        let commented = "[security]\n# mine\nseccomp = \"off\" # why\n";
        let document = Document::parse(commented, Path::new("config.toml")).unwrap();
        assert_eq!(document.to_string(), commented.replace("seccomp", "syscalls"));
        let both = "[security]\nseccomp = \"off\"\nsyscalls = \"off\"\n";
        assert_eq!(Document::parse(both, Path::new("config.toml")).unwrap_err().kind().exit_status(), 6);
    }

    #[test]
    fn settings_that_need_each_other_are_set_together() {
        let mut document = document();
        let keys = ["mount.1.source", "mount.1.target", "limits.pids"].map(|key| key.parse::<KeyPath>().unwrap());
        let error = document.set([(&keys[0], "/opt")]).unwrap_err();
        assert!(error.to_string().contains("`mount.1` also needs `mount.1.target`"), "{error}");
        document.set([(&keys[0], "/opt"), (&keys[1], "/mnt"), (&keys[2], "9")]).unwrap();
        assert!(document.to_string().contains("[[mount]]\nsource = \"/opt\"\ntarget = \"/mnt\"\n"), "{document}");
        let before = document.to_string();
        assert!(document.set([(&keys[1], "/srv"), (&keys[2], "many")]).is_err());
        assert_eq!(document.to_string(), before, "all or none");
    }

    #[test]
    fn a_setting_that_is_not_written_has_its_default() {
        let get = |key: &str| document().get(&key.parse().unwrap()).map(|value| value.map(|v| v.to_string()));
        assert_eq!(get("boot.stop-timeout").unwrap().as_deref(), Some("\"60s\""));
        assert_eq!(get("mount.0.source").unwrap().as_deref(), Some("\"/srv\""));
        assert_eq!(get("limits.pids").unwrap().as_deref(), Some("100"));
        assert_eq!(get("limits.swap").unwrap(), None);
        assert_eq!(get("network.eth0.type").unwrap(), None);
        assert_eq!(get("limits.swop").unwrap_err().hint_text(), Some("did you mean `limits.swap`?"));
    }
}
