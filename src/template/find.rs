//! Templates by name, in the directories that have some.

use std::path::{Path, PathBuf};

use super::model::Template;
use crate::config;
use crate::error::{Context, Error, Result};
use crate::store::Layout;
use crate::sys::fs::read_text;

/// A template and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct FoundTemplate {
    pub name: String,
    /// Its file; what it refers to is relative to this.
    pub file: PathBuf,
    /// As it was read, to tell one version of it from another.
    pub text: String,
    pub template: Template,
}

impl FoundTemplate {
    /// A path that the template names.
    pub(crate) fn beside(&self, path: &Path) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// Finds a template by name: the administrator's own before the shipped ones.
///
/// Fails with `Kind::NotFound` and the names of those there are.
pub(crate) fn find(layout: &Layout, name: &str) -> Result<FoundTemplate> {
    // The name becomes a file name; what cannot be one names no template.
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let files = layout.template_dirs().into_iter().map(|dir| dir.join(format!("{name}.toml")));
    for file in files.filter(|_| plain && !name.starts_with('.')) {
        match read_text(&file) {
            Ok(text) => {
                let template = config::parse(&text, &file)?;
                return Ok(FoundTemplate { name: name.to_owned(), file, text, template });
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).context(|| format!("read `{}`", file.display())),
        }
    }
    let known = names(layout);
    let hint = match known.is_empty() {
        false => format!("there are {}", known.join(", ")),
        true => format!("none are installed; templates are looked for in {}", places(layout)),
    };
    Err(Error::not_found(format!("template `{}` does not exist", name.escape_default())).hint(hint))
}

/// The names of all templates, sorted, each once.
pub(super) fn names(layout: &Layout) -> Vec<String> {
    let entries = layout.template_dirs().into_iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned())).collect();
    names.sort();
    names.dedup();
    names
}

fn places(layout: &Layout) -> String {
    let dirs: Vec<_> = layout.template_dirs().iter().map(|dir| format!("`{}`", dir.display())).collect();
    dirs.join(", ")
}
