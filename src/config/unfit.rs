//! Settings that a file can hold and no container can be started with.
//!
//! An earlier lxm, or somebody else, wrote them. They are read, so that they can be looked at, changed
//! and taken away; what writes one anew, and what starts a container, refuses them.

use super::{Config, KeyPath};
use crate::error::Error;

/// A setting, and why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    pub key: KeyPath,
    pub why: String,
}

impl Unfit {
    /// The setting, or the whole element of a list that it is part of and means nothing without.
    pub fn element(&self) -> KeyPath {
        self.key.element()
    }

    pub fn error(&self) -> Error {
        Error::config(format!("`{}`: {}", self.key, self.why))
    }
}

impl Config {
    /// The settings that cannot be as they are.
    pub fn unfit(&self) -> Vec<Unfit> {
        let targets = self.mount.iter().map(|mount| mount.target.refusal()).enumerate();
        let unfit = |(at, why): (usize, Option<String>)| {
            let key = KeyPath::of(["mount".to_owned(), at.to_string(), "target".to_owned()]);
            why.map(|why| Unfit { key, why })
        };
        targets.filter_map(unfit).collect()
    }

    /// What cannot be and was not so in `old`: who changes another setting need not mend it first.
    pub fn newly_unfit(&self, old: &Config) -> Option<Unfit> {
        let before = old.unfit();
        // By what is wrong: an element's place changes with those before it.
        self.unfit().into_iter().find(|unfit| before.iter().all(|before| before.why != unfit.why))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Document, KeyPath};

    const OLD: &str = "version = 1\n[[mount]]\nsource = \"/a\"\ntarget = \"/a\"\n[[mount]]\nsource = \"/b\"\ntarget = ";

    #[test]
    fn what_an_earlier_lxm_took_can_be_read_and_mended() {
        let key = |text: &str| text.parse::<KeyPath>().unwrap();
        let target = key("mount.1.target");
        for (old, written) in
            [("/run", "/run"), ("srv", "srv"), ("/proc/sys", "/proc/sys"), ("/x/../proc", "/x/../proc")]
        {
            let document = Document::parse(&format!("{OLD}\"{old}\"\n"), Path::new("f")).unwrap();
            assert_eq!(document.get(&target).unwrap().unwrap().as_str(), Some(written));
            let unfit = document.config().unfit();
            assert_eq!((unfit.len(), unfit[0].key.to_string().as_str()), (1, "mount.1.target"));
            let mut other = document.clone();
            other.set([(&key("description"), "mine")]).unwrap();
            assert_eq!(other.config().unfit(), unfit);
            let mut mended = document.clone();
            mended.set([(&target, "/srv")]).unwrap();
            assert!(mended.config().unfit().is_empty());
            let mut gone = document.clone();
            assert!(gone.unset(&key("mount.0")).unwrap() && gone.unset(&key("mount.0")).unwrap());
            assert!(gone.config().mount.is_empty());
            let refused = mended.set([(&target, "/dev")]).unwrap_err();
            assert!(refused.to_string().contains("mount.1.target") && refused.kind().exit_status() == 6, "{refused}");
            assert!(mended.config().unfit().is_empty());
        }
    }
}
