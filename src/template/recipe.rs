//! What an image is made of, once the template, the release and the arguments are known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::FoundTemplate;
use super::model::{Builder, TemplateFile};
use crate::distro::{self, Edit, Extras};
use crate::error::{Context, Error, Result};
use crate::sys::digest::sha256;
use crate::types::{Arch, Size};

/// What is asked of a template on the command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct BuildRequest {
    pub release: Option<String>,
    pub arch: Option<Arch>,
    pub mirror: Option<String>,
    pub packages: Vec<String>,
    /// What stands after `--`.
    pub args: Vec<String>,
    /// Believes an image server whose lists are neither signed nor encrypted on their way.
    pub insecure: bool,
}

/// A template with every choice made: all that a builder needs.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub found: FoundTemplate,
    pub release: String,
    /// The release's name in the archive.
    pub suite: String,
    pub arch: Arch,
    pub mirror: Option<String>,
    pub packages: Vec<String>,
    /// The template's options with their values.
    pub options: BTreeMap<String, String>,
    pub insecure: bool,
}

impl Recipe {
    /// Makes every choice, refusing what the template or this host cannot do.
    pub(crate) fn new(found: FoundTemplate, order: &BuildRequest) -> Result<Self> {
        let template = &found.template;
        let of_template = |e: Error| e.step(format!("template `{}`", found.name));
        let release = choose_release(&found, order.release.as_deref()).map_err(of_template)?;
        let arch = order.arch.unwrap_or_else(Arch::host);
        if !Arch::host().runs(arch) {
            return Err(Error::host_lacks(format!("this host ({}) does not run programs of {arch}", Arch::host())));
        }
        let options = parse_args(&found, &order.args).map_err(of_template)?;

        let mut packages = template.packages.clone();
        let of_release = template.release.get(&release);
        packages.extend(of_release.iter().flat_map(|r| r.packages.clone()));
        for (name, value) in &options {
            packages.extend(template.option[name].value.get(value).iter().flat_map(|v| v.packages.clone()));
        }
        packages.extend(order.packages.clone());
        packages.sort();
        packages.dedup();
        if let Some(bad) = packages.iter().find(|p| !is_package_name(p)) {
            return Err(Error::usage(format!("`{}` is not a package name", bad.escape_default())));
        }
        if !order.packages.is_empty() && template.builder != Builder::Bootstrap {
            return Err(of_template(Error::usage("it takes no packages")));
        }
        let suite = of_release.and_then(|r| r.suite.clone()).unwrap_or_else(|| release.clone());
        let mirror = order.mirror.clone().or_else(|| template.bootstrap.mirror.clone());
        if let Some(bad) = mirror.iter().find(|mirror| !is_mirror(mirror)) {
            return Err(Error::usage(format!("`{}` is not the address of a mirror", bad.escape_default()))
                .hint("a URL is, such as `https://deb.debian.org/debian`"));
        }
        Ok(Recipe { release, suite, arch, mirror, packages, options, insecure: order.insecure, found })
    }

    /// What decides the result beside release, architecture and packages, as text, for the image's id.
    pub(crate) fn fingerprint(&self) -> Result<String> {
        let mut text = format!("edits={}\n{}\nmirror={:?}\n", distro::REVISION, self.found.text, self.mirror);
        for (name, value) in &self.options {
            text.push_str(&format!("{name}={value}\n"));
        }
        let sources = self.found.template.file.iter().filter_map(|file| file.source.as_ref());
        let sources = sources.chain(&self.found.template.script).map(|path| self.found.beside(path));
        for file in sources.chain(self.keyring()).chain(self.signing_keyring()).chain(self.archive()) {
            // By its name, not its place: an image is the same from a build tree and from the package.
            let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
            text.push_str(&format!("{name}={}\n", digest(&file)?));
        }
        Ok(text)
    }

    /// The file with the keys that sign the archive of builder `bootstrap`.
    pub(crate) fn keyring(&self) -> Option<PathBuf> {
        let name = self.found.template.bootstrap.keyring.as_ref()?;
        Some(self.found.beside(&Path::new("keyrings").join(name)))
    }

    /// The file with the keys that sign the lists of builder `download`'s server.
    pub(crate) fn signing_keyring(&self) -> Option<PathBuf> {
        let name = self.found.template.download.keyring.as_ref()?;
        Some(self.found.beside(&Path::new("keyrings").join(name)))
    }

    /// The archive that builder `archive` unpacks.
    pub(crate) fn archive(&self) -> Option<PathBuf> {
        let is_archive = self.found.template.builder == Builder::Archive;
        self.options.get("file").filter(|_| is_archive).map(PathBuf::from)
    }

    /// What the archive may become, where the admin says it.
    pub(crate) fn max_size(&self) -> Result<Option<Size>> {
        self.options.get("max-size").filter(|size| !size.is_empty()).map(|size| size.parse()).transpose()
    }

    /// What the template adds to the fix-ups of the guest's family.
    pub(crate) fn extras(&self) -> Result<Extras> {
        let template = &self.found.template;
        let edits = template.file.iter().map(|file| self.edit(file)).collect::<Result<Vec<_>>>();
        let edits = edits.context(|| format!("template `{}`", self.found.file.display()))?;
        Ok(Extras { enable: template.enable.clone(), mask: template.mask.clone(), edits })
    }

    fn edit(&self, file: &TemplateFile) -> Result<Edit> {
        let path = file.path.trim_start_matches('/');
        let edit = match (&file.contents, &file.source, &file.link) {
            (Some(contents), None, None) => Edit::write(path, contents.as_bytes()),
            (None, Some(source), None) => {
                let source = self.found.beside(source);
                Edit::write(path, std::fs::read(&source).context(|| format!("read `{}`", source.display()))?)
            }
            (None, None, Some(target)) => return Ok(Edit::link(path, target)),
            _ => {
                let text = format!("file `{}` needs exactly one of `contents`, `source` and `link`", file.path);
                return Err(Error::config(text));
            }
        };
        match &file.mode {
            None => Ok(edit.mode(0o644)),
            Some(text) => match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(edit.mode(mode)),
                _ => Err(Error::config(format!("file `{}`: `{text}` is not an octal mode", file.path))),
            },
        }
    }
}

/// SHA-256 of a file's contents, in hexadecimal.
fn digest(file: &Path) -> Result<String> {
    std::fs::File::open(file).and_then(sha256).context(|| format!("read `{}`", file.display()))
}

fn choose_release(found: &FoundTemplate, asked: Option<&str>) -> Result<String> {
    let template = &found.template;
    let release = asked.unwrap_or(&template.default_release);
    if template.builder == Builder::Download && template.release.is_empty() {
        // The server knows.
        return Ok(release.to_owned());
    }
    if template.release.is_empty() && asked.is_some() {
        return Err(Error::usage("it has no releases to choose from"));
    }
    if !template.release.is_empty() && !template.release.contains_key(release) {
        let known: Vec<_> = template.release.keys().map(String::as_str).collect();
        return Err(Error::usage(format!("it has no release `{}`", release.escape_default())).hint(format!(
            "it has {}; `[release.NAME]` in `{}` adds one",
            known.join(", "),
            found.file.display()
        )));
    }
    Ok(release.to_owned())
}

/// Reads `--NAME VALUE` and `--NAME=VALUE`, and fills in the defaults.
fn parse_args(found: &FoundTemplate, args: &[String]) -> Result<BTreeMap<String, String>> {
    let known = &found.template.option;
    let mut values = BTreeMap::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = arg.strip_prefix("--").filter(|name| !name.is_empty());
        let Some(name) = name else { return Err(unknown_argument(found, arg)) };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let value = args.next().ok_or_else(|| Error::usage(format!("its argument `{arg}` needs a value")))?;
                (name, value.clone())
            }
        };
        let option = known.get(name).ok_or_else(|| unknown_argument(found, arg))?;
        if !option.value.is_empty() && !option.value.contains_key(&value) {
            let valid: Vec<_> = option.value.keys().map(String::as_str).collect();
            return Err(Error::usage(format!("its argument `--{name}` cannot be `{}`", value.escape_default()))
                .hint(format!("valid values: {}", valid.join(", "))));
        }
        values.insert(name.to_owned(), value);
    }
    for (name, option) in known {
        if values.contains_key(name) {
            continue;
        }
        match &option.default {
            Some(value) => values.insert(name.clone(), value.clone()),
            None => {
                let text = format!("it needs the argument `--{name}`: {}", option.description);
                return Err(Error::usage(text).hint(format!("write `-- --{name} VALUE` at the end of the command")));
            }
        };
    }
    Ok(values)
}

fn unknown_argument(found: &FoundTemplate, arg: &str) -> Error {
    let known: Vec<_> = found.template.option.keys().map(|name| format!("`--{name}`")).collect();
    let error = Error::usage(format!("it has no argument `{}`", arg.escape_default()));
    match known.is_empty() {
        true => error.hint("it takes none"),
        false => error.hint(format!("it takes {}", known.join(", "))),
    }
}

/// A package's name as Debian's policy 5.6.1 has it, with what apt takes behind it (`=VERSION`,
/// `/SUITE`, `:ARCH`). It becomes an argument: a leading `-` or a comma would be another one.
fn is_package_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.:=/~_".contains(&b))
}

/// An address, or a line of sources.list(5). It becomes an argument of programs that take options with commands
/// of the shell in them (CVE-2026-28384), and a line's options (`[trusted=yes]`) would take the signature's place.
fn is_mirror(text: &str) -> bool {
    let is_url = text.contains(":/") && text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains(' ');
    let is_line = text.starts_with("deb ") && !text.contains('[');
    (is_url || is_line) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_mirror_is_an_address_and_no_option() {
        for good in ["http://m", "https://m/debian", "file:///srv/m", "copy:/srv/m", "deb http://m/debian sid main"] {
            assert!(is_mirror(good), "{good}");
        }
        for bad in [
            "",
            "-",
            "--setup-hook=touch http://x",
            "/etc/x",
            "http://m/ x",
            "http://m\n",
            "deb [trusted=yes] http://m sid main",
        ] {
            assert!(!is_mirror(bad), "{bad}");
        }
    }

    fn found(text: &str) -> FoundTemplate {
        let file = "t.toml".into();
        let template = config::parse(text, std::path::Path::new("t.toml")).unwrap();
        FoundTemplate { name: "t".into(), file, text: text.into(), template }
    }

    const TEXT: &str = r#"
        builder = "bootstrap"
        default-release = "b"
        packages = ["x"]
        [release.a]
        packages = ["old"]
        [release.b]
        suite = "bee"
        [option.init]
        default = "systemd"
        [option.init.value.systemd]
        packages = ["systemd-sysv"]
        [option.init.value.runit]
        packages = ["runit-init", "x"]
    "#;

    fn order(release: Option<&str>, args: &[&str]) -> BuildRequest {
        BuildRequest {
            release: release.map(str::to_owned),
            args: args.iter().map(|a| a.to_string()).collect(),
            ..BuildRequest::default()
        }
    }

    #[test]
    fn choices_add_their_packages_each_once() {
        let recipe = |order: BuildRequest| Recipe::new(found(TEXT), &order).unwrap();
        assert_eq!(recipe(order(None, &[])).packages, ["systemd-sysv", "x"]);
        assert_eq!(recipe(order(None, &[])).suite, "bee");
        assert_eq!(recipe(order(Some("a"), &["--init", "runit"])).packages, ["old", "runit-init", "x"]);
        assert_eq!(recipe(order(Some("a"), &["--init=runit"])).suite, "a");
    }

    #[test]
    fn wrong_choices_are_usage_errors_that_name_the_right_ones() {
        let cases: [(Option<&str>, &[&str], &str); 5] = [
            (Some("z"), &[], "it has a, b"),
            (None, &["--init", "upstart"], "valid values: runit, systemd"),
            (None, &["--colour", "red"], "it takes `--init`"),
            (None, &["runit"], "it takes `--init`"),
            (None, &["--init"], ""),
        ];
        for (release, args, hint) in cases {
            let e = Recipe::new(found(TEXT), &order(release, args)).unwrap_err();
            assert_eq!(e.kind().exit_status(), 2, "{e}");
            assert!(e.hint_text().unwrap_or("").starts_with(hint), "{:?}", e.hint_text());
        }
    }

    #[test]
    fn a_package_that_would_be_an_option_is_refused() {
        for bad in ["-oAPT::x", "a,b", "", "a b", "--x"] {
            let order = BuildRequest { packages: vec![bad.into()], ..BuildRequest::default() };
            assert!(Recipe::new(found(TEXT), &order).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_changes_the_result_changes_the_fingerprint() {
        let of = |order: BuildRequest| Recipe::new(found(TEXT), &order).unwrap().fingerprint().unwrap();
        let plain = of(BuildRequest::default());
        assert_ne!(plain, of(order(None, &["--init", "runit"])));
        assert_ne!(plain, of(BuildRequest { mirror: Some("http://m".into()), ..BuildRequest::default() }));
    }
}
