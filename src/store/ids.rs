//! Sets aside host ids for containers, never the same for two.

use std::ops::RangeInclusive;
use std::path::Path;

use super::id_pool::IdPool;
use super::{FileLock, Layout, Origin};
use crate::config::{IdMap, Security};
use crate::error::{Context, Kind, Result};
use crate::types::{ContainerName, IdRange, account};

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
    reserve_of(layout, &(IdRange::LEN..=IdRange::LEN)).context(|| "set aside ids for the container")
}

/// Finds the longest range of such a length.
fn reserve_of(layout: &Layout, count: &RangeInclusive<u32>) -> Result<ReservedIds> {
    let lock = FileLock::acquire(&layout.lock_dir().join(".ids"))?;
    let mut taken = of_containers(layout)?;
    taken.extend(of_users());
    for file in ["/etc/passwd", "/etc/group"] {
        taken.extend(of_accounts(&read(Path::new(file))));
    }
    let pool = IdPool::of_this_host(layout.root());
    let mut len = *count.end();
    loop {
        if let Some(range) = pool.first_free(&taken, len) {
            return Ok(ReservedIds { range, _lock: lock });
        }
        if len <= *count.start() {
            return Err(pool.exhausted(len));
        }
        len = (len / 2).max(*count.start());
    }
}

/// Whether a container's range is as long as its configuration asks for. One that has become longer than it
/// need be stays: files may have any of its ids.
pub(crate) fn suits(origin: &Origin, security: &Security) -> bool {
    if security.privileged || security.idmap != IdMap::Auto {
        return true;
    }
    match security.id_range_size {
        Some(size) => origin.range().len == size,
        None => !security.nesting || origin.wide_ids.is_some(),
    }
}

/// Gives a container, which does not run yet, a range as long as its configuration asks for.
pub(crate) fn suit(layout: &Layout, name: &ContainerName, security: &Security) -> Result<()> {
    let origin = Origin::read(layout, name)?;
    if suits(&origin, security) {
        return Ok(());
    }
    let count = security.id_count();
    let give = |range: Option<IdRange>| {
        Origin { wide_ids: range, ..origin.clone() }.write_file(&layout.origin_file(name)).map(drop)
    };
    if *count.end() <= origin.ids.len {
        return give(None);
    }
    let count = (*count.start()).max(origin.ids.len + 1)..=*count.end();
    match reserve_of(layout, &count) {
        Ok(reserved) => give(Some(reserved.range)),
        // It is run with what it has; its own containers have none then, and say so.
        Err(e) if e.kind() == Kind::HostLacks && security.id_range_size.is_none() => Ok(()),
        Err(e) => Err(e).context(|| format!("set aside {} ids for the container", count.end())),
    }
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
    let staged = staged.filter_map(|entry| Origin::read_file(&entry.path().join("origin.toml")).ok());
    let mut taken: Vec<IdRange> = staged.flat_map(|origin| origin.set_aside().collect::<Vec<_>>()).collect();
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
            Ok(origin) => taken.extend(origin.set_aside()),
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

fn read(file: &Path) -> String {
    std::fs::read(file).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_and_accounts_have_is_taken() {
        let at = |n: u32| IdRange::new(IdRange::FIRST_BASE + n * IdRange::LEN);
        let first_free = |taken: &[IdRange]| IdPool::of_a_host(Path::new("/")).first_free(taken, IdRange::LEN);
        assert_eq!(first_free(&of_sub_ids("a:100000:65536\nb:524288:65537\n# x\n")), Some(at(2)));
        assert_eq!(first_free(&of_accounts("r:x:0:0::/:\nu:x:524300:1::/:\n")), Some(at(1)));
    }

    #[test]
    fn one_that_is_finished_or_renamed_meanwhile_keeps_its_range() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        // In the order of the search, which begins at a place of the root's own.
        let ranges = (IdRange::LAST_BASE - IdRange::FIRST_BASE) / IdRange::LEN + 1;
        let first = (reserve(&layout).unwrap().range.base - IdRange::FIRST_BASE) / IdRange::LEN;
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
    fn a_range_grows_when_it_is_asked_for_and_shrinks_only_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let name: ContainerName = "web".parse().unwrap();
        let first = reserve(&layout).unwrap().range;
        Origin::of_ids(first).write_file(&layout.origin_file(&name)).unwrap();
        let given = |change: &dyn Fn(&mut Security)| {
            let mut security = Security::default();
            change(&mut security);
            suit(&layout, &name, &security).unwrap();
            let origin = Origin::read(&layout, &name).unwrap();
            assert!(suits(&origin, &security) && origin.ids == first);
            origin.range()
        };
        assert_eq!(given(&|_| ()), first);
        let wide = given(&|security| security.nesting = true);
        assert!(wide.len == 1 << 20 && !wide.overlaps(&first), "{wide}");
        assert_eq!((given(&|security| security.nesting = true), given(&|_| ())), (wide, wide));
        assert!(!reserve(&layout).unwrap().range.overlaps(&wide));
        // Wherever the others are, a quarter of all is free.
        let wider = given(&|security| security.id_range_size = Some(400_000_000));
        assert!(wider.len == 400_000_000 && !wider.overlaps(&wide), "{wider}");
        assert_eq!(given(&|security| security.privileged = true), wider);
        assert_eq!(given(&|security| security.idmap = IdMap::Fixed(first)), wider);
        assert_eq!(given(&|security| security.id_range_size = Some(131_072)).len, 131_072);
        assert_eq!(given(&|security| security.id_range_size = Some(65_536)), first);
        let all = Security { id_range_size: Some(IdRange::ALL.len), ..Security::default() };
        let error = suit(&layout, &name, &all).unwrap_err();
        assert_eq!((error.kind(), Origin::read(&layout, &name).unwrap().wide_ids), (Kind::HostLacks, None));
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
