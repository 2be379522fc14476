//! The ids that this host can give to containers: those that systemd's docs/UIDS-GIDS.md sets aside for them, or, in
//! a container, those that its own map has beyond its users'.

use std::ops::Range;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::types::IdRange;

/// Ranges of ids, those first that are looked at first.
pub(super) struct IdPool {
    ranges: Vec<Range<u64>>,
    /// Where the search begins: another state directory (`LXM_ROOT`) of this host cannot be seen, nor from a
    /// privileged container its host's, so each begins at a place of its own.
    first: u64,
    /// One past the last id that this process knows.
    end: u64,
}

const LEN: u64 = IdRange::LEN as u64;

impl IdPool {
    /// The pool of the state directory `root`.
    pub(super) fn of_this_host(root: &Path) -> Self {
        let map = |file: &str| std::fs::read_to_string(file).map_or_else(|_| whole(), |text| mapped(&text));
        let known = common(&map("/proc/self/uid_map"), &map("/proc/self/gid_map"));
        // Of a privileged container, whose ids are the host's.
        let environment = std::fs::read("/proc/1/environ").unwrap_or_default();
        let container = container_uuid(&String::from_utf8_lossy(&environment)).to_owned();
        Self::new(&known, root, &container)
    }

    /// That of a host that is no container.
    #[cfg(test)]
    pub(super) fn of_a_host(root: &Path) -> Self {
        Self::new(&whole(), root, "")
    }

    fn new(known: &[Range<u64>], root: &Path, container: &str) -> Self {
        let usual = IdRange::ALL;
        let usual = u64::from(usual.base)..usual.end();
        let mut ranges = common(known, std::slice::from_ref(&usual));
        let is_whole = ranges == [usual.clone()];
        if !is_whole {
            // A container: below what is for containers are the accounts of its users, and room.
            ranges.extend(common(known, std::slice::from_ref(&(LEN..usual.start))));
        }
        let end = known.iter().map(|range| range.end).max().unwrap_or(0);
        // What has ids of its own shares them with nobody.
        let container = if is_whole { container } else { "" };
        let first = ranges.first().map_or(0, |range| place_of(root, container, range));
        IdPool { ranges, first, end }
    }

    /// The first range of `len` ids that overlaps none of `taken`.
    pub(super) fn first_free(&self, taken: &[IdRange], len: u32) -> Option<IdRange> {
        // A range that begins beyond its length can be shifted to in place (`storage::shift`).
        let apart = u64::from(len);
        [(self.first, apart), (0, apart), (self.first, 0), (0, 0)].into_iter().find_map(|(first, apart)| {
            self.ranges.iter().find_map(|range| free_in(range.start.max(first).max(apart)..range.end, taken, len))
        })
    }

    /// Why there is none of `len` ids.
    pub(super) fn exhausted(&self, len: u32) -> Error {
        if self.end >= IdRange::ALL.end() {
            return Error::host_lacks(format!("every range of {len} ids for containers is taken"));
        }
        let most = self.end.saturating_sub(1);
        Error::host_lacks(format!(
            "this host is a container with the ids 0 to {most}, of which no {len} are free for containers in it"
        ))
        .hint("where it was made `security.nesting` or a larger `security.id-range-size` gives it more; a `--privileged` container takes none")
    }
}

/// The first `len` ids in `within` that nobody has.
fn free_in(within: Range<u64>, taken: &[IdRange], len: u32) -> Option<IdRange> {
    let mut base = within.start.next_multiple_of(LEN);
    loop {
        if base + u64::from(len) > within.end {
            return None;
        }
        let range = IdRange { base: u32::try_from(base).ok()?, len };
        match taken.iter().filter(|other| range.overlaps(other)).map(IdRange::end).max() {
            None => return Some(range),
            Some(end) => base = end.next_multiple_of(LEN),
        }
    }
}

fn place_of(root: &Path, container: &str, range: &Range<u64>) -> u64 {
    if root == Path::new("/") && container.is_empty() {
        return range.start;
    }
    let digest = Sha256::new().chain_update(root.as_os_str().as_encoded_bytes()).chain_update(container).finalize();
    let places = ((range.end - range.start) / LEN).max(1);
    let nth = u64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])) % places;
    range.start + nth * LEN
}

/// What the environment of PID 1 says of the container that it is the init of (systemd.io/CONTAINER_INTERFACE).
fn container_uuid(environment: &str) -> &str {
    environment.split('\0').find_map(|variable| variable.strip_prefix("container_uuid=")).unwrap_or_default()
}

fn whole() -> Vec<Range<u64>> {
    std::iter::once(0..u64::from(u32::MAX)).collect()
}

/// The ids that a map of user_namespaces(7) has: lines of the first inside, the first outside, and how many. Lines
/// that continue one another are one range.
fn mapped(text: &str) -> Vec<Range<u64>> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (inside, _, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(inside..inside + count)
    };
    let mut ranges: Vec<Range<u64>> = text.lines().filter_map(line).collect();
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, range| {
        let continues = next.start == range.end;
        if continues {
            range.end = next.end;
        }
        continues
    });
    ranges
}

/// What is in ranges of both.
fn common(a: &[Range<u64>], b: &[Range<u64>]) -> Vec<Range<u64>> {
    let both = |a: &Range<u64>, b: &Range<u64>| a.start.max(b.start)..a.end.min(b.end);
    a.iter().flat_map(|a| b.iter().map(move |b| both(a, b))).filter(|range| !range.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u32) -> IdRange {
        IdRange::new(IdRange::FIRST_BASE + n * IdRange::LEN)
    }

    fn in_a_container(map: &str) -> IdPool {
        IdPool::new(&mapped(map), Path::new("/"), "5183d25a")
    }

    #[test]
    fn the_first_range_that_nobody_has_is_taken() {
        let pool = IdPool::of_a_host(Path::new("/"));
        assert_eq!(pool.first_free(&[], IdRange::LEN), Some(at(0)));
        assert_eq!(pool.first_free(&[at(0), at(2)], IdRange::LEN), Some(at(1)));
        assert_eq!(pool.first_free(&[at(0), at(2)], 2 * IdRange::LEN).unwrap().base, at(3).base);
        // Where it can be, beyond its own length.
        let million = pool.first_free(&[], 1 << 20).unwrap();
        assert_eq!((million.base, million.len), (1 << 20, 1 << 20));
        assert_eq!(pool.first_free(&[], 1_000_000_000).unwrap().base, IdRange::FIRST_BASE);
        assert_eq!(pool.first_free(&[at(0)], IdRange::ALL.len), None);
    }

    #[test]
    fn the_search_goes_on_from_the_lowest_range() {
        let last = IdRange::new(IdRange::LAST_BASE);
        let pool = IdPool { first: u64::from(last.base), ..IdPool::of_a_host(Path::new("/")) };
        assert_eq!(pool.first_free(&[], IdRange::LEN), Some(last));
        assert_eq!(pool.first_free(&[last], IdRange::LEN), Some(at(0)));
        assert_eq!(IdPool::of_a_host(Path::new("/")).first, u64::from(IdRange::FIRST_BASE));
        let other = IdPool::of_a_host(Path::new("/srv/demo")).first;
        assert!((u64::from(IdRange::FIRST_BASE)..=u64::from(IdRange::LAST_BASE)).contains(&other));
        assert_eq!(other % LEN, 0);
        // In a privileged container.
        let inner = IdPool::new(&whole(), Path::new("/"), "5183d25a");
        assert_eq!((container_uuid("container=lxm\0container_uuid=5\0"), container_uuid("A=b")), ("5", ""));
        assert!(inner.first > u64::from(IdRange::FIRST_BASE) && inner.ranges.len() == 1);
    }

    #[test]
    fn a_container_gives_of_what_it_has() {
        let million = in_a_container("0 700000000 1048576\n");
        assert_eq!(million.first_free(&[], IdRange::LEN), Some(at(0)));
        let upper = IdRange { base: IdRange::FIRST_BASE, len: IdRange::FIRST_BASE };
        assert_eq!(million.first_free(&[upper], IdRange::LEN), Some(IdRange::new(65_536)));
        assert_eq!(million.first_free(&[upper, IdRange::new(100_000)], IdRange::LEN), Some(IdRange::new(196_608)));
        assert_eq!(million.first_free(&[], 1 << 20), None);
        // Of rootless podman's map, and of two maps that differ.
        assert_eq!(in_a_container("0 1000 1\n1 100000 65536\n").first_free(&[], IdRange::LEN), None);
        let uneven = common(&mapped("0 5 200000\n"), &mapped("0 5 150000\n150000 9 50000\n"));
        assert_eq!(uneven, std::slice::from_ref(&(0..200_000)));
        let error = in_a_container("0 700000000 65536\n").exhausted(IdRange::LEN);
        assert!(error.to_string().contains("0 to 65535") && error.hint_text().is_some(), "{error}");
    }
}
