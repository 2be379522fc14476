//! Builder `bootstrap`: Debian and what is built like it, by mmdebstrap or debootstrap.
//!
//! The mirror is the tool's own default unless one is given, and signatures are checked with the
//! template's keyring and no other key.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::command;
use super::recipe::Recipe;
use crate::distro::{Edit, View, edit};
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::sys::program::find_program;

/// How long the archive may take to give its `InRelease`, a file of some 100 kB.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn build(recipe: &Recipe, target: &Path, log: &Path, progress: &Progress) -> Result<()> {
    let keyring = keyring(recipe)?;
    if let Some(program) = find_program("mmdebstrap") {
        mmdebstrap(&program, recipe, &keyring, target, log, progress)?;
    } else if let Some(program) = find_program("debootstrap") {
        debootstrap(&program, recipe, &keyring, target, log, progress)?;
    } else {
        return Err(Error::host_lacks("neither `mmdebstrap` nor `debootstrap` is installed")
            .hint("install `mmdebstrap`: `apt-get install mmdebstrap`"));
    }
    let view = View::open(target)?;
    edit::apply(&view, &leftovers(&view))
}

fn keyring(recipe: &Recipe) -> Result<PathBuf> {
    let file = recipe.keyring().ok_or_else(|| {
        Error::config(format!("`{}` names no `bootstrap.keyring`", recipe.found.file.display()))
            .hint("what is not checked is not installed: name the file with the archive's public keys")
    })?;
    file.canonicalize().context(|| format!("find keyring `{}`", file.display()))
}

/// A directory beside the target, where whoever sweeps what a killed build left finds it too.
fn scratch(target: &Path) -> Result<tempfile::TempDir> {
    tempfile::tempdir_in(target.parent().unwrap_or(target)).context(|| "make a scratch directory")
}

fn mmdebstrap(
    program: &Path,
    recipe: &Recipe,
    keyring: &Path,
    target: &Path,
    log: &Path,
    progress: &Progress,
) -> Result<()> {
    let scratch = scratch(target)?;
    // apt trusts a file and a directory of keys: both must hold this keyring alone, or every key
    // that the host trusts could sign the guest.
    let trusted = scratch.path().join("trusted.gpg.d");
    std::fs::create_dir(&trusted)
        .and_then(|()| std::fs::copy(keyring, trusted.join("archive.gpg")))
        .context(|| "copy the keyring")?;
    let settings = AptSettings::of_host();
    let base = || {
        let bootstrap = &recipe.found.template.bootstrap;
        let mut command = Command::new(program);
        command.arg("--mode=root").arg("--format=directory").arg(format!("--variant={}", bootstrap.variant));
        command.arg(format!("--architectures={}", recipe.arch));
        command.arg(format!("--components={}", bootstrap.components.join(",")));
        command.arg(format!("--keyring={}", keyring.display())).arg(format!("--keyring={}", trusted.display()));
        command.arg("--skip=check/signed-by");
        for setting in &settings.0 {
            command.arg(format!("--aptopt={setting}"));
        }
        command
    };
    let sources = match &recipe.mirror {
        Some(mirror) => vec![mirror.clone()],
        None => default_sources(base(), recipe, scratch.path()),
    };
    let mirror = sources.first().map(|source| mirror_of(source).unwrap_or(source).to_owned());
    if let Some(mirror) = &mirror {
        progress.set_message(format!("asking {mirror}"));
        probe(mirror, &recipe.suite, scratch.path())?;
    }
    let mut command = base();
    if !recipe.packages.is_empty() {
        command.arg(format!("--include={}", recipe.packages.join(",")));
    }
    // A half-made system is thrown away whole, so nothing needs to be on the disk before its end.
    command.arg("--dpkgopt=force-unsafe-io");
    // Its packages are seen from inside while they are installed only if the mirror is mounted there.
    let mounts_mirror = Path::new("/usr/share/mmdebstrap/hooks/file-mirror-automount");
    if mirror.as_ref().is_some_and(|mirror| mirror.contains("file:")) && mounts_mirror.is_dir() {
        command.arg(format!("--hook-directory={}", mounts_mirror.display()));
    }
    command.arg(&recipe.suite).arg(target).args(&sources);
    command::run(command, log, progress).map_err(|e| about_mirror(e, recipe, mirror.as_deref()))
}

/// The lines of sources.list(5) that mmdebstrap itself would use; none where it does not say.
///
/// A tool that does not know a release takes Debian's mirror for it, so it is asked for a sibling
/// of the same archive that every version of it knows.
fn default_sources(mut command: Command, recipe: &Recipe, scratch: &Path) -> Vec<String> {
    let sibling = recipe.found.template.bootstrap.sibling.as_ref().unwrap_or(&recipe.suite);
    let sources = scratch.join("sources.list");
    // It is stopped as soon as it has written them.
    command.arg(format!("--setup-hook=cp \"$1/etc/apt/sources.list\" '{}'; exit 1", sources.display()));
    command.arg(sibling).arg(scratch.join("unused"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let text = command.status().and_then(|_| std::fs::read_to_string(sources)).unwrap_or_default();
    text.lines().filter(|line| mirror_of(line).is_some()).map(|line| for_suite(line, sibling, &recipe.suite)).collect()
}

/// The archive's address in a line of sources.list(5).
fn mirror_of(line: &str) -> Option<&str> {
    line.strip_prefix("deb ")?.split_whitespace().find(|word| word.contains(":/") && !word.starts_with('['))
}

/// A line of sources.list(5) with another suite: `noble-updates` for `bionic-updates`.
fn for_suite(line: &str, from: &str, to: &str) -> String {
    let word = |word: &str| match word.strip_prefix(from) {
        Some(rest) if rest.is_empty() || rest.starts_with('-') => format!("{to}{rest}"),
        _ => word.to_owned(),
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Fails within seconds where the archive cannot be reached or lacks the suite; apt itself would
/// try for minutes.
fn probe(mirror: &str, suite: &str, scratch: &Path) -> Result<()> {
    let url = format!("{}/dists/{suite}/InRelease", mirror.trim_end_matches('/'));
    let fault = |why: &str| {
        Error::failed(format!("mirror `{mirror}` does not offer `{suite}`: {why}"))
            .hint("`--mirror URL` names another mirror, `mirror.TEMPLATE` in `lxm.toml` for good")
    };
    if let Some(path) = url.strip_prefix("file://").or_else(|| url.strip_prefix("copy://")) {
        let release = Path::new(path);
        let offered = release.exists() || release.with_file_name("Release").exists();
        return if offered { Ok(()) } else { Err(fault(&format!("there is no `{path}`"))) };
    }
    // A mirror may also be a whole line of sources.list or a file; apt then tells what is wrong.
    let helper = Path::new("/usr/lib/apt/apt-helper");
    if !helper.exists() || !mirror.contains("://") || mirror.contains(' ') {
        return Ok(());
    }
    let mut command = Command::new(helper);
    // The host's own apt settings hold: proxies, certificates and the like.
    command.args(["-o", "Acquire::http::Timeout=5", "-o", "Acquire::https::Timeout=5", "-o", "Acquire::Retries=0"]);
    command.arg("download-file").arg(&url).arg(scratch.join("InRelease"));
    let (output, done) = output_within(command, PROBE_LIMIT, &scratch.join("probe.log"))?;
    match done {
        Some(true) => Ok(()),
        None => Err(fault(&format!("no answer within {} s", PROBE_LIMIT.as_secs()))),
        Some(false) => {
            let why = output.lines().find_map(|line| line.strip_prefix("E: Failed to fetch ")?.strip_prefix(&url));
            Err(fault(why.map_or("it cannot be reached", str::trim)))
        }
    }
}

/// Runs a command for at most `limit`: what it said, and whether it succeeded, if it ended.
fn output_within(mut command: Command, limit: Duration, file: &Path) -> Result<(String, Option<bool>)> {
    let step = || format!("run `{}`", command.get_program().to_string_lossy());
    let output = std::fs::File::create(file).context(step)?;
    let mut child = {
        let both = output.try_clone().context(step)?;
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(both).stderr(output).spawn()
    }
    .context(|| format!("run `{}`", command.get_program().to_string_lossy()))?;
    let deadline = Instant::now() + limit;
    let done = loop {
        if let Some(status) = child.try_wait().context(|| "wait for it")? {
            break Some(status.success());
        }
        if Instant::now() >= deadline {
            // It ended meanwhile, or ends now; either way it is waited for.
            let _ = child.kill();
            child.wait().context(|| "wait for it")?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Ok((String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned(), done))
}

fn debootstrap(
    program: &Path,
    recipe: &Recipe,
    keyring: &Path,
    target: &Path,
    log: &Path,
    progress: &Progress,
) -> Result<()> {
    let bootstrap = &recipe.found.template.bootstrap;
    let scratch = scratch(target)?;
    if let Some(mirror) = &recipe.mirror {
        probe(mirror, &recipe.suite, scratch.path())?;
    }
    // debootstrap fetches with wget, which by itself tries 20 times for 15 minutes each.
    let wgetrc = scratch.path().join("wgetrc");
    std::fs::write(&wgetrc, "connect_timeout = 5\ndns_timeout = 5\nread_timeout = 30\ntries = 2\n")
        .context(|| "write wget's settings")?;
    let mut command = Command::new(program);
    command.env("WGETRC", wgetrc);
    for (variable, setting) in [("http_proxy", "Acquire::http::Proxy"), ("https_proxy", "Acquire::https::Proxy")] {
        if let Some(proxy) = AptSettings::of_host().value(setting).filter(|_| std::env::var_os(variable).is_none()) {
            command.env(variable, proxy);
        }
    }
    command.arg(format!("--variant={}", bootstrap.variant)).arg(format!("--arch={}", recipe.arch));
    command.arg(format!("--components={}", bootstrap.components.join(",")));
    command.arg("--force-check-gpg").arg(format!("--keyring={}", keyring.display()));
    if !recipe.packages.is_empty() {
        command.arg(format!("--include={}", recipe.packages.join(",")));
    }
    command.arg(&recipe.suite).arg(target);
    let is_known = Path::new("/usr/share/debootstrap/scripts").join(&recipe.suite).exists();
    match (&recipe.mirror, &bootstrap.debootstrap_script) {
        // An empty mirror is debootstrap's way to take its script's default one.
        (mirror, Some(script)) if !is_known => {
            command.arg(mirror.as_deref().unwrap_or("")).arg(script);
        }
        (mirror, _) => {
            command.args(mirror);
        }
    }
    command::run(command, log, progress).map_err(|e| about_mirror(e, recipe, recipe.mirror.as_deref()))
}

/// Says where the packages were to come from: the most frequent cause of a failed build.
fn about_mirror(e: Error, recipe: &Recipe, mirror: Option<&str>) -> Error {
    let from = mirror.map_or("the tool's default mirror".to_owned(), |mirror| format!("`{mirror}`"));
    let log = e.hint_text().unwrap_or_default().to_owned();
    Error::new(e.kind(), e.to_string())
        .step(format!("get `{}` from {from}", recipe.suite))
        .hint(format!("{log}; `--mirror URL` names another mirror"))
}

/// What of the host's apt configuration says how archives are reached, as apt.conf(5) lines.
struct AptSettings(Vec<String>);

impl AptSettings {
    const PREFIXES: [&str; 6] = [
        "Acquire::http::",
        "Acquire::https::",
        "Acquire::Check-Valid-Until",
        "Acquire::Check-Date",
        "Acquire::ForceIPv",
        "Acquire::Retries",
    ];

    /// Reads it; nothing where there is no apt.
    fn of_host() -> Self {
        let output = Command::new("apt-config").args(["dump", "--format", "%F \"%v\";%n", "Acquire"]).output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let wanted =
            |line: &&str| Self::PREFIXES.iter().any(|prefix| line.starts_with(prefix)) && !line.ends_with(" \"\";");
        AptSettings(text.lines().filter(wanted).map(str::to_owned).collect())
    }

    fn value(&self, name: &str) -> Option<String> {
        let line = self.0.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(" \""))?;
        Some(line.trim_end_matches("\";").to_owned())
    }
}

/// Removes what the tools leave that is the host's or of the build alone.
fn leftovers(view: &View) -> Vec<Edit> {
    // Names of the host; its servers too, where the guest does not find them by itself.
    let mut edits = vec![
        Edit::write("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n").mode(0o644),
        Edit::write("etc/hostname", "localhost\n").mode(0o644),
        // Proxies and timeouts of this host, and dpkg's unsafe writing.
        Edit::remove("etc/apt/apt.conf.d/99mmdebstrap"),
        Edit::remove("etc/dpkg/dpkg.cfg.d/99mmdebstrap"),
    ];
    if !view.exists("usr/lib/systemd/systemd-resolved") {
        edits.push(Edit::remove("etc/resolv.conf"));
    }
    // Logs of the build, with its time and the host's name.
    for log in ["bootstrap.log", "dpkg.log", "alternatives.log", "apt/history.log", "apt/term.log"] {
        edits.push(Edit::remove(format!("var/log/{log}")));
    }
    // Nodes made by the tool; a guest's /dev is made at each start.
    let nodes = view.names("dev").into_iter().filter(|name| !matches!(name.as_str(), "pts" | "shm"));
    edits.extend(nodes.map(|name| Edit::remove(format!("dev/{name}"))));
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_of_a_line_of_sources_is_found() {
        let cases = [
            ("deb http://a/debian trixie main", Some("http://a/debian")),
            ("deb [signed-by=/k arch=amd64] file:///u noble main", Some("file:///u")),
            ("deb-src http://a/debian trixie main", None),
            ("# deb http://a/debian trixie main", None),
            ("", None),
        ];
        for (line, mirror) in cases {
            assert_eq!(mirror_of(line), mirror, "{line}");
        }
    }

    #[test]
    fn a_line_for_a_sibling_becomes_one_for_the_release() {
        let line = "deb http://a/bionic-x bionic-updates main bionically";
        assert_eq!(for_suite(line, "bionic", "noble"), "deb http://a/bionic-x noble-updates main bionically");
        assert_eq!(for_suite("deb http://a/u bionic main", "bionic", "noble"), "deb http://a/u noble main");
    }

    #[test]
    fn a_missing_suite_in_a_local_archive_is_named_with_the_option() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = format!("file://{}", dir.path().display());
        let e = probe(&mirror, "noble", dir.path()).unwrap_err();
        assert!(e.to_string().contains(&mirror) && e.hint_text().unwrap().contains("--mirror"), "{e}");
        std::fs::create_dir_all(dir.path().join("dists/noble")).unwrap();
        std::fs::write(dir.path().join("dists/noble/Release"), "").unwrap();
        assert!(probe(&mirror, "noble", dir.path()).is_ok());
    }

    #[test]
    fn an_unreachable_mirror_fails_within_seconds() {
        let begun = Instant::now();
        let dir = tempfile::tempdir().unwrap();
        // Port 9 of the loopback: nothing answers.
        let e = probe("http://127.0.0.1:9/debian", "trixie", dir.path());
        assert!(begun.elapsed() < PROBE_LIMIT + Duration::from_secs(1));
        if Path::new("/usr/lib/apt/apt-helper").exists() {
            assert!(e.unwrap_err().to_string().contains("127.0.0.1:9"));
        }
    }
}
