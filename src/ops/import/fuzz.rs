//! What foreign containers bring, as [`crate::fuzz`] gives it to the parsers.

use std::path::Path;

use super::foreign::Translated;
use super::{exported, lxc, nspawn, oci};
use crate::config::{self, Config};
use crate::container::new_identity::renew;
use crate::store::Origin;

/// The `config` of a container of LXC.
pub(crate) fn lxc(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(translated) = lxc::translate(&lxc::parse(text)) {
        reads_back(&translated);
    }
}

/// A file NAME.nspawn.
pub(crate) fn nspawn(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut translated = Translated::new().expect("there is an identity to give");
    if nspawn::translate(&mut translated, "web", text).is_ok() {
        reads_back(&translated);
    }
}

/// A configuration that was made is one that a start can read.
fn reads_back(translated: &Translated) {
    let text = translated.text().expect("it is written");
    let read: Config = toml::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(read, translated.config);
}

/// The beginning of an export, or one of the files of settings in it.
pub(crate) fn export(input: &[u8]) {
    let head = &input[..input.len().min(exported::HEAD)];
    if exported::is_export(head) {
        let _ = exported::read_record(head);
    }
    let (Ok(text), file) = (std::str::from_utf8(input), Path::new("fuzzed")) else { return };
    let _ = config::parse::<Origin>(text, file);
    if config::parse::<Config>(text, file).is_ok() {
        let (renewed, _) = renew(text, file).expect("what is read is given another identity");
        config::parse::<Config>(&renewed, file).expect("what was given another identity is read");
    }
}

/// Index, manifest or configuration of an image of docker or OCI.
pub(crate) fn oci(input: &[u8]) {
    oci::read_each(input);
}
