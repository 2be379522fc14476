//! Which packages a root file system says are installed, read from the databases of its package manager.

mod list;
mod rpm;

use std::collections::BTreeMap;

pub(crate) use self::list::Packages;
use super::View;
use crate::error::{Context, Error, Result};
use crate::sys::fs::read_in_root;

/// More than the database of any system that was ever seen.
const LIMIT: u64 = 512 << 20;

const XBPS: &str = "var/db/xbps/pkgdb-0.38.plist";

/// The installed packages, as dpkg, rpm, apk, pacman, portage and xbps keep them. `None` where none of
/// these is used.
///
/// Of rpm, the databases of 4.16 and newer that are SQLite's: openSUSE's and older ones are not read.
pub(crate) fn packages(view: &View) -> Result<Option<Packages>> {
    if view.exists("var/lib/dpkg/status") {
        return Ok(Some(of_dpkg(&read(view, "var/lib/dpkg/status")?)));
    }
    if view.exists("lib/apk/db/installed") {
        return Ok(Some(of_apk(&read(view, "lib/apk/db/installed")?)));
    }
    if let Some(database) = rpm::DATABASES.iter().find(|path| view.exists(path)) {
        return rpm::packages(read_in_root(view.fd(), database, LIMIT)?).map(Some);
    }
    if view.exists(XBPS) {
        return of_xbps(&read_in_root(view.fd(), XBPS, LIMIT)?).context(|| format!("read `{XBPS}`")).map(Some);
    }
    let pacman = view.names("var/lib/pacman/local");
    if !pacman.is_empty() {
        // NAME-VERSION-RELEASE, of which the name may have dashes too.
        let split = |dir: &String| {
            let (rest, release) = dir.rsplit_once('-')?;
            let (name, version) = rest.rsplit_once('-')?;
            Some((name.to_owned(), format!("{version}-{release}")))
        };
        return Ok(Some(pacman.iter().filter_map(split).collect()));
    }
    let categories = view.names("var/db/pkg");
    if !categories.is_empty() {
        let all = categories.iter().flat_map(|category| {
            let of_category = view.names(&format!("var/db/pkg/{category}"));
            of_category.into_iter().filter_map(move |dir| of_portage(category, &dir))
        });
        return Ok(Some(all.collect()));
    }
    Ok(None)
}

fn read(view: &View, path: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&read_in_root(view.fd(), path, LIMIT)?).into_owned())
}

/// The value of a field in a paragraph of lines.
fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn of_dpkg(status: &str) -> Packages {
    let mut found = Packages::new();
    for paragraph in status.split("\n\n") {
        let installed = field(paragraph, "Status:").is_some_and(|status| status.ends_with(" installed"));
        let (Some(name), Some(version), true) = (field(paragraph, "Package:"), field(paragraph, "Version:"), installed)
        else {
            continue;
        };
        // The same package may be there for several architectures.
        let name = match found.contains_key(name) {
            true => format!("{name}:{}", field(paragraph, "Architecture:").unwrap_or_default()),
            false => name.to_owned(),
        };
        found.insert(name, version.to_owned());
    }
    found
}

fn of_apk(installed: &str) -> Packages {
    let of_paragraph = |paragraph: &str| Some((field(paragraph, "P:")?.to_owned(), field(paragraph, "V:")?.to_owned()));
    installed.split("\n\n").filter_map(of_paragraph).collect()
}

/// `app-editors`, `nano-8.7-r1`: a version begins at the last dash with a digit behind it that no other
/// part of it is (`-r1`).
fn of_portage(category: &str, dir: &str) -> Option<(String, String)> {
    let is_revision = |part: &str| part.strip_prefix('r').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    let without = dir.rsplit_once('-').filter(|(_, last)| is_revision(last)).map_or(dir, |(rest, _)| rest);
    let (name, _) = without.rsplit_once('-')?;
    Some((format!("{category}/{name}"), dir[name.len() + 1..].to_owned()))
}

/// A property list: of each package a dictionary under its name. Others than packages are there too.
fn of_xbps(database: &[u8]) -> Result<Packages> {
    let all: BTreeMap<String, plist::Dictionary> =
        plist::from_bytes(database).map_err(|e| Error::failed(e.to_string()))?;
    let of = |(name, package): (String, plist::Dictionary)| {
        let text = |key: &str| package.get(key).and_then(plist::Value::as_string);
        let version = text("pkgver")?.strip_prefix(&name)?.strip_prefix('-')?.to_owned();
        (text("state") == Some("installed")).then_some((name, version))
    };
    Ok(all.into_iter().filter_map(of).collect())
}

/// What [`crate::fuzz`] gives to the readers of all package managers.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let _ = (of_dpkg(&text), of_apk(&text), of_xbps(input));
    let _ = text.split_once('/').map(|(category, dir)| of_portage(category, dir));
    rpm::fuzz(input);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(packages: &Packages) -> Vec<(&str, &str)> {
        packages.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect()
    }

    #[test]
    fn dpkg_packages_are_the_installed_ones_by_architecture() {
        let status = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n\n\
            Package: old\nStatus: deinstall ok config-files\nVersion: 1\n\n\
            Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36\n\n\
            Package: libc6\nStatus: hold ok installed\nArchitecture: i386\nVersion: 2.36\n";
        assert_eq!(pairs(&of_dpkg(status)), [("bash", "5.2-1"), ("libc6", "2.36"), ("libc6:i386", "2.36")]);
    }

    #[test]
    fn names_and_versions_of_others_are_taken_apart() {
        let apk = "C:Q1x=\nP:musl\nV:1.2.5-r9\nA:x86_64\n\nP:busybox\nV:1.37.0-r12\n";
        assert_eq!(pairs(&of_apk(apk)), [("busybox", "1.37.0-r12"), ("musl", "1.2.5-r9")]);
        let package = |name: &str, state: &str| {
            format!(
                "<key>{name}</key><dict><key>automatic-install</key><true/><key>pkgver</key>\
                 <string>{name}-1.2_3</string><key>run_depends</key><array><string>glibc&gt;=2_1</string></array>\
                 <key>state</key><string>{state}</string></dict>"
            )
        };
        let xbps = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><plist version=\"1.0\"><dict>\
             <key>_XBPS_ALTERNATIVES_</key><dict><key>vi</key><array><string>vim</string></array></dict>{}{}</dict></plist>",
            package("xbps-triggers", "installed"),
            package("half", "unpacked")
        );
        assert_eq!(pairs(&of_xbps(xbps.as_bytes()).unwrap()), [("xbps-triggers", "1.2_3")]);
        assert!(of_xbps(b"").is_err());
        for (dir, name, version) in
            [("nano-8.7-r1", "x/nano", "8.7-r1"), ("gtk-x-3.24", "x/gtk-x", "3.24"), ("a-1", "x/a", "1")]
        {
            assert_eq!(of_portage("x", dir), Some((name.to_owned(), version.to_owned())));
        }
    }
}
