//! A template's file as it is written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// A template file as written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Template {
    #[serde(default)]
    pub description: String,
    pub builder: Builder,
    /// Release of a `create` without `-r`.
    #[serde(default)]
    pub default_release: String,
    /// By the name that `-r` takes.
    #[serde(default)]
    pub release: BTreeMap<String, Release>,
    /// Packages of every release.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Who logs in; unset leaves the accounts of the root file system as they are.
    pub user: Option<String>,
    /// Units to enable beyond those that every guest of its kind gets.
    #[serde(default)]
    pub enable: Vec<String>,
    /// Units never to start.
    #[serde(default)]
    pub mask: Vec<String>,
    /// Choices that its arguments (`-- --NAME VALUE`) make.
    #[serde(default)]
    pub option: BTreeMap<String, TemplateOption>,
    /// Files and links written into the root file system.
    #[serde(default)]
    pub file: Vec<TemplateFile>,
    #[serde(default)]
    pub bootstrap: Bootstrap,
    #[serde(default)]
    pub download: Download,
    /// The executable of builder `script`, relative to the template file.
    pub script: Option<PathBuf>,
}

/// What makes the root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Builder {
    /// mmdebstrap, or debootstrap where that is missing.
    Bootstrap,
    /// A tar archive named by the argument `--file`.
    Archive,
    /// The host's static busybox with links for its applets.
    Busybox,
    /// An executable of the administrator's.
    Script,
    /// A root file system from a simplestreams server.
    Download,
    /// Nothing: `lxm publish` has made the image.
    Published,
}

/// `[release.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Release {
    /// Packages beyond the template's.
    pub packages: Vec<String>,
    /// Name in the archive where it is another one.
    pub suite: Option<String>,
}

/// `[option.NAME]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TemplateOption {
    #[serde(default)]
    pub description: String,
    /// Its value where the argument is not given; unset makes the argument mandatory.
    pub default: Option<String>,
    /// The values it may have, with what each adds; empty means any value.
    #[serde(default)]
    pub value: BTreeMap<String, OptionValue>,
}

/// `[option.NAME.value.VALUE]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct OptionValue {
    pub packages: Vec<String>,
}

/// `[[file]]`: exactly one of `contents`, `source` and `link`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TemplateFile {
    pub path: String,
    pub contents: Option<String>,
    /// A file beside the template, relative to it.
    pub source: Option<PathBuf>,
    /// Target of a symbolic link.
    pub link: Option<String>,
    /// Octal permissions.
    pub mode: Option<String>,
}

/// `[bootstrap]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Bootstrap {
    /// Keys that sign the archive: a file in `keyrings` beside the template.
    pub keyring: Option<PathBuf>,
    pub components: Vec<String>,
    pub variant: String,
    /// Mirror to use; unset means the tool's own default.
    pub mirror: Option<String>,
    /// A suite of the same archive that every version of mmdebstrap knows; it is asked for the default
    /// mirrors of that one, having Debian's for what it does not know.
    pub sibling: Option<String>,
    /// debootstrap's script for releases that it does not know yet.
    pub debootstrap_script: Option<String>,
}

/// `[download]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Download {
    /// Address of the simplestreams server: what `streams/v1/index.json` is below.
    pub server: Option<String>,
    /// The system's name on it; unset means the template's.
    pub os: Option<String>,
    /// Keys that sign its lists: a file in `keyrings` beside the template. Unset, they are not signed,
    /// and are believed by https alone.
    pub keyring: Option<PathBuf>,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Bootstrap {
            keyring: None,
            components: vec!["main".into()],
            variant: "minbase".into(),
            mirror: None,
            sibling: None,
            debootstrap_script: None,
        }
    }
}
