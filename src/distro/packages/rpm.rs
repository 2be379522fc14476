//! The packages that rpm has installed: one header each in a table of an SQLite database, as rpm 4.16
//! and newer keep them.
//!
//! The database is a guest's and may be made by an enemy: SQLite gets a copy of its bytes, opens no
//! file, and is asked for a table alone.

use std::collections::BTreeMap;

use rusqlite::{Connection, MAIN_DB};

use super::Packages;
use crate::error::{Context, Error, Result};

/// Where it is, the newer place first; distributions link one to the other.
pub(super) const DATABASES: [&str; 2] = ["usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite"];

/// Reads the whole of a database.
pub(super) fn packages(mut database: Vec<u8>) -> Result<Packages> {
    // A database with a write-ahead log cannot be opened from memory; rpm has it written back when
    // the last process closes it (bytes 18 and 19, <https://www.sqlite.org/fileformat.html>).
    if let Some(versions) = database.get_mut(18..20) {
        versions.fill(1);
    }
    let headers = || -> rusqlite::Result<Vec<Vec<u8>>> {
        let mut connection = Connection::open_in_memory()?;
        connection.deserialize_read_exact(MAIN_DB, &database[..], database.len(), true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        let is_table = "SELECT 1 FROM sqlite_schema WHERE name = 'Packages' AND type = 'table'";
        connection.query_row(is_table, (), |_| Ok(()))?;
        connection.prepare("SELECT blob FROM Packages")?.query_map((), |row| row.get(0))?.collect()
    };
    let headers = headers().map_err(|e| Error::failed(e.to_string())).context(|| "read the database of rpm")?;
    Ok(by_name(headers.iter().filter_map(|header| RpmPackage::parse(header)).collect()))
}

/// Several versions of a package may be there at a time, and the same one for several architectures.
fn by_name(mut installed: Vec<RpmPackage>) -> Packages {
    installed.sort();
    let mut names: BTreeMap<String, Vec<RpmPackage>> = BTreeMap::new();
    for package in installed {
        names.entry(package.name.clone()).or_default().push(package);
    }
    let mut found = Packages::new();
    for (name, packages) in names {
        let one_arch = packages.iter().all(|package| package.arch == packages[0].arch);
        for package in packages {
            let key = if one_arch { name.clone() } else { format!("{name}.{}", package.arch) };
            let versions: &mut String = found.entry(key).or_default();
            if !versions.is_empty() {
                versions.push_str(", ");
            }
            versions.push_str(&package.version);
        }
    }
    found
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RpmPackage {
    name: String,
    arch: String,
    /// `[EPOCH:]VERSION-RELEASE`
    version: String,
}

/// Tags of the values in a header, and their types (rpm's tags.md and header format).
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCH: u32 = 1022;
const INT32: u32 = 4;
const STRING: u32 = 6;

impl RpmPackage {
    /// A header: the numbers of entries and of bytes of data, the entries (tag, type, offset, count),
    /// the data; all numbers big-endian.
    fn parse(header: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
        let entries = usize::try_from(number(0)?).ok()?;
        let index = header.get(8..8 + entries.checked_mul(16)?)?;
        let data = header.get(8 + index.len()..)?;
        let value = |tag: u32, kind: u32| {
            let mut found = index.chunks_exact(16).filter(|entry| entry[..4] == tag.to_be_bytes());
            let entry = found.find(|entry| entry[4..8] == kind.to_be_bytes())?;
            data.get(usize::try_from(u32::from_be_bytes(entry[8..12].try_into().ok()?)).ok()?..)
        };
        let text = |tag| {
            let bytes = value(tag, STRING)?.split(|byte| *byte == 0).next()?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        let epoch = value(EPOCH, INT32).and_then(|data| Some(u32::from_be_bytes(data.get(..4)?.try_into().ok()?)));
        let epoch = epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
        let version = format!("{epoch}{}-{}", text(VERSION)?, text(RELEASE)?);
        Some(RpmPackage { name: text(NAME)?, arch: text(ARCH).unwrap_or_default(), version })
    }
}

/// A header, or a whole database.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(input: &[u8]) {
    let _ = RpmPackage::parse(input);
    if input.starts_with(b"SQLite format 3") {
        let _ = packages(input.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(entries: &[(u32, u32, u32)], data: &[u8]) -> Vec<u8> {
        let mut header: Vec<u8> =
            [entries.len() as u32, data.len() as u32].iter().flat_map(|n| n.to_be_bytes()).collect();
        for (tag, kind, offset) in entries {
            header.extend([*tag, *kind, *offset, 1].iter().flat_map(|n| n.to_be_bytes()));
        }
        header.extend(data);
        header
    }

    #[test]
    fn a_header_names_its_package_and_a_broken_one_none() {
        let data = b"bash\x005.2\x001.fc40\x00x86_64\x00\x00\x00\x00\x02";
        let entries =
            [(NAME, STRING, 0), (VERSION, STRING, 5), (RELEASE, STRING, 9), (ARCH, STRING, 16), (EPOCH, INT32, 23)];
        let whole = header(&entries, data);
        let package = RpmPackage::parse(&whole).unwrap();
        assert_eq!((&*package.name, &*package.arch, &*package.version), ("bash", "x86_64", "2:5.2-1.fc40"));
        for cut in 0..whole.len() - data.len() + 9 {
            assert_eq!(RpmPackage::parse(&whole[..cut]), None, "cut after {cut}");
        }
        assert_eq!(RpmPackage::parse(&header(&[(NAME, STRING, u32::MAX)], b"")), None);
        assert_eq!(RpmPackage::parse(&[0xff; 16]), None);
    }

    #[test]
    fn versions_beside_each_other_and_architectures_are_told_apart() {
        let package = |name: &str, arch: &str, version: &str| RpmPackage {
            name: name.into(),
            arch: arch.into(),
            version: version.into(),
        };
        let found = by_name(vec![
            package("kernel", "x86_64", "6.9-1"),
            package("glibc", "x86_64", "2.39-1"),
            package("kernel", "x86_64", "6.8-1"),
            package("glibc", "i686", "2.39-1"),
        ]);
        let found: Vec<(&str, &str)> = found.iter().map(|(name, version)| (&**name, &**version)).collect();
        assert_eq!(found, [("glibc.i686", "2.39-1"), ("glibc.x86_64", "2.39-1"), ("kernel", "6.8-1, 6.9-1")]);
    }

    #[test]
    fn what_is_no_database_of_rpm_is_an_error() {
        for bytes in [&b""[..], b"no database", &[0; 4096]] {
            assert!(packages(bytes.to_vec()).is_err());
        }
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE VIEW Packages AS SELECT 1 AS blob").unwrap();
        assert!(packages(connection.serialize(MAIN_DB).unwrap().to_vec()).is_err(), "a view is not run");
    }
}
