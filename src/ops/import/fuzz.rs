//! What foreign containers bring, as [`crate::fuzz`] gives it to the parsers.

use std::path::Path;

use super::accept::without_unfit;
use super::foreign::Translated;
use super::isolation::{Said, exceeds, said_by_lxc, said_by_nspawn};
use super::{exported, lxc, nspawn, oci};
use crate::config::{self, Config, Document};
use crate::container::new_identity::renew;
use crate::store::Origin;

/// The `config` of a container of LXC.
pub(crate) fn lxc(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(translated) = lxc::translated(text) {
        is_right(&translated, &said_by_lxc(text));
    }
}

/// A file NAME.nspawn.
pub(crate) fn nspawn(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let made = Translated::new().expect("there is an identity to give");
    if let Ok(translated) = nspawn::translate(made, "web", text) {
        is_right(&translated, &said_by_nspawn(text));
    }
}

/// A configuration that was made is one that a start can read, and takes once what is unfit is taken away; and
/// at no time is the guest less isolated than was said.
fn is_right(translated: &Translated, said: &Said) {
    let text = translated.text().expect("it is written");
    let mut document = Document::parse(&text, Path::new("made")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(document.config(), &translated.config);
    assert_eq!(exceeds(document.config(), said), None, "{text}");
    without_unfit(&mut document, &mut Vec::new()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(exceeds(document.config(), said), None, "{document}");
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
    if let Some(translated) = oci::translated(input) {
        is_right(&translated, &Said::default());
    }
}
