//! Sets aside host ids for containers, never the same for two.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::{FileLock, Layout, Origin};
use crate::config::IdMap;
use crate::error::{Context, Error, Result};
use crate::types::{IdRange, account};

/// A range that no other process takes while this lives: until `origin.toml`, which says that it is taken,
/// has been written.
#[derive(Debug)]
pub(crate) struct ReservedIds {
    pub range: IdRange,
    _lock: FileLock,
}

/// Finds the first range that no container and no user of the host has.
///
/// Waits for whoever is choosing one.
pub(crate) fn reserve(layout: &Layout) -> Result<ReservedIds> {
    let step = || "set aside ids for the container";
    let lock = FileLock::acquire(&layout.lock_dir().join(".ids")).context(step)?;
    let mut taken = of_containers(layout).context(step)?;
    taken.extend(of_users());
    for file in ["/etc/passwd", "/etc/group"] {
        taken.extend(of_accounts(&read(Path::new(file))));
    }
    let range = first_free(&taken, first_base(layout))
        .ok_or_else(|| Error::host_lacks("every range of ids for containers is taken").step(step()))?;
    Ok(ReservedIds { range, _lock: lock })
}

/// The ranges that the host's users may give to containers of their own.
pub(crate) fn of_users() -> Vec<IdRange> {
    ["/etc/subuid", "/etc/subgid"].iter().flat_map(|file| of_sub_ids(&read(Path::new(file)))).collect()
}

/// The ranges of all containers of this root, in whatever directory, those in the making included.
fn of_containers(layout: &Layout) -> Result<Vec<IdRange>> {
    let mut taken = Vec::new();
    for layout in layout.known() {
        taken.extend(of_directory(&layout)?);
    }
    Ok(taken)
}

/// The ranges of a directory's containers, those in the making included.
///
/// The latter are looked at first: one that is finished meanwhile is among the containers then. The other
/// way round it would be in neither place, and the next one got its range.
fn of_directory(layout: &Layout) -> Result<Vec<IdRange>> {
    let staged = std::fs::read_dir(layout.staging()).into_iter().flatten().flatten();
    let staged = staged.filter_map(|entry| Some(Origin::read_file(&entry.path().join("origin.toml")).ok()?.ids));
    let mut taken: Vec<IdRange> = staged.collect();
    // Bounded, in case something is listed that never is there: a link that leads nowhere.
    for _ in 0..100 {
        if add_finished(layout, &mut taken)? {
            break;
        }
    }
    Ok(taken)
}

/// Adds those of the containers; returns whether each that was listed was still there under its name.
fn add_finished(layout: &Layout, taken: &mut Vec<IdRange>) -> Result<bool> {
    let mut all_there = true;
    for name in layout.named()? {
        // An unreadable configuration hides at most a range that its owner wrote by hand.
        if let Ok(config) = layout.config(&name)
            && let IdMap::Fixed(range) = config.security.idmap
        {
            taken.push(range);
        }
        match Origin::read(layout, &name) {
            Ok(origin) => taken.push(origin.ids),
            // Destroyed, or renamed to a name that may have been passed by already. One that has its
            // directory and no origin is of no use to wait for.
            Err(e) if e.errno() == Some(libc::ENOENT) => all_there &= layout.container(&name).exists(),
            // A container whose origin cannot be read cannot be started either, and no two that run have
            // one id in common: it must not keep others from being made.
            Err(_) => {}
        }
    }
    Ok(all_there)
}

/// The ranges of subuid(5): `NAME:FIRST:COUNT`.
fn of_sub_ids(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let [_, first, count, ..] = account::fields(line)[..] else { return None };
        Some(IdRange { base: first.trim().parse().ok()?, len: count.trim().parse().ok()? })
    };
    text.lines().filter_map(range).collect()
}

/// The ids of passwd(5) and group(5), each a range of one. What is a number there may be in use.
fn of_accounts(text: &str) -> Vec<IdRange> {
    let id = |line: &str| Some(IdRange { base: account::id(line)?.parse().ok()?, len: 1 });
    text.lines().filter_map(id).collect()
}

/// Where the search for a range begins: another state directory (`LXM_ROOT`) of this host cannot be
/// seen, so each begins at a place of its own.
fn first_base(layout: &Layout) -> u32 {
    if layout.root() == Path::new("/") {
        return IdRange::FIRST_BASE;
    }
    let digest = Sha256::digest(layout.root().as_os_str().as_encoded_bytes());
    let ranges = (IdRange::LAST_BASE - IdRange::FIRST_BASE) / IdRange::LEN + 1;
    let nth = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % ranges;
    IdRange::FIRST_BASE + nth * IdRange::LEN
}

/// The first range from `first` on, and then from the lowest, that overlaps none of those.
fn first_free(taken: &[IdRange], first: u32) -> Option<IdRange> {
    let step = IdRange::LEN as usize;
    let bases = (first..=IdRange::LAST_BASE).step_by(step).chain((IdRange::FIRST_BASE..first).step_by(step));
    bases.map(IdRange::new).find(|range| !taken.iter().any(|other| range.overlaps(other)))
}

fn read(file: &Path) -> String {
    std::fs::read(file).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_range_that_nobody_has_is_taken() {
        let at = |n: u32| IdRange::new(IdRange::FIRST_BASE + n * IdRange::LEN);
        let first_free = |taken: &[IdRange]| first_free(taken, IdRange::FIRST_BASE);
        assert_eq!(first_free(&[]), Some(at(0)));
        assert_eq!(first_free(&[at(0), at(2)]), Some(at(1)));
        assert_eq!(first_free(&of_sub_ids("a:100000:65536\nb:524288:65537\n# x\n")), Some(at(2)));
        assert_eq!(first_free(&of_accounts("r:x:0:0::/:\nu:x:524300:1::/:\n")), Some(at(1)));
    }

    #[test]
    fn one_that_is_finished_or_renamed_meanwhile_keeps_its_range() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        // In the order of the search, which begins at a place of the root's own.
        let ranges = (IdRange::LAST_BASE - IdRange::FIRST_BASE) / IdRange::LEN + 1;
        let first = (first_base(&layout) - IdRange::FIRST_BASE) / IdRange::LEN;
        let at = |n: u32| IdRange::new(IdRange::FIRST_BASE + (first + n) % ranges * IdRange::LEN);
        // So many that looking at all of them takes a while.
        for n in 0..200 {
            Origin::of_ids(at(n))
                .write_file(&layout.container(&format!("c{n}").parse().unwrap()).join("origin.toml"))
                .unwrap();
        }
        let (staged, first, second) =
            (layout.staging().join("new"), layout.containers().join("zz"), layout.containers().join("aa"));
        Origin::of_ids(at(200)).write_file(&staged.join("origin.toml")).unwrap();
        for round in 0..40 {
            for (from, to) in [(&staged, &first), (&first, &second)] {
                std::thread::scope(|scope| {
                    let reserving = scope.spawn(|| reserve(&layout).unwrap().range);
                    std::thread::sleep(std::time::Duration::from_micros(round * 100));
                    std::fs::rename(from, to).unwrap();
                    assert_eq!(reserving.join().unwrap(), at(201), "round {round}");
                });
            }
            std::fs::rename(&second, &staged).unwrap();
        }
    }

    #[test]
    fn the_search_goes_on_from_the_lowest_range() {
        let last = IdRange::new(IdRange::LAST_BASE);
        assert_eq!(first_free(&[], last.base), Some(last));
        assert_eq!(first_free(&[last], last.base), Some(IdRange::new(IdRange::FIRST_BASE)));
        assert_eq!(first_base(&Layout::new("/")), IdRange::FIRST_BASE);
        let other = first_base(&Layout::new("/srv/demo"));
        assert!((IdRange::FIRST_BASE..=IdRange::LAST_BASE).contains(&other));
        assert_eq!((other - IdRange::FIRST_BASE) % IdRange::LEN, 0);
    }

    #[test]
    fn two_at_once_get_different_ranges() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let ranges = std::thread::scope(|scope| {
            let reserve = |name: &'static str| {
                let layout = &layout;
                move || {
                    let reserved = reserve(layout).unwrap();
                    Origin::of_ids(reserved.range)
                        .write_file(&layout.staging().join(name).join("origin.toml"))
                        .unwrap();
                    reserved.range
                }
            };
            let both = [scope.spawn(reserve("a")), scope.spawn(reserve("b"))];
            both.map(|thread| thread.join().unwrap())
        });
        assert!(!ranges[0].overlaps(&ranges[1]), "{ranges:?}");
    }
}
