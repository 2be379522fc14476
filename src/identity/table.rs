//! The claims of all containers of this host, and who else has one.

use std::collections::BTreeMap;
use std::fmt;

use super::claims::{self, Claim, claimed_twice};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::store::{Layout, Origin};
use crate::types::{ContainerName, IdRange};

/// A container, in whatever directory.
#[derive(Debug, Clone)]
pub(crate) struct ClaimOwner {
    pub layout: Layout,
    pub name: ContainerName,
}

impl ClaimOwner {
    /// Its name in messages to who works with the containers of `layout`.
    pub(crate) fn seen_from(&self, layout: &Layout) -> String {
        if self.layout.containers() == layout.containers() {
            return format!("`{}`", self.name);
        }
        format!("`{}` in `{}`", self.name, self.layout.containers().display())
    }

    fn is(&self, layout: &Layout, name: &ContainerName) -> bool {
        self.name == *name && self.layout.containers() == layout.containers()
    }

    /// What it claims, and the ids that are set aside for it, used or not. One whose files cannot be
    /// read claims nothing: it cannot be started either.
    fn claims(&self) -> Vec<Claim> {
        let read = || -> Result<Vec<Claim>> {
            let origin = Origin::read(&self.layout, &self.name)?;
            let config = self.layout.config(&self.name).unwrap_or_default();
            let mut claims = claims::of(&self.layout, &self.name, &config, &origin)?;
            let set_aside: Vec<Claim> =
                origin.set_aside().map(Claim::Ids).filter(|claim| !claims.contains(claim)).collect();
            claims.extend(set_aside);
            Ok(claims)
        };
        read().unwrap_or_default()
    }
}

/// Something that two containers claim.
#[derive(Debug, Clone)]
pub(crate) struct Clash {
    pub claim: Claim,
    pub holder: ClaimOwner,
}

/// All containers of these directories.
fn owners(layouts: Vec<Layout>) -> Result<Vec<ClaimOwner>> {
    let mut owners = Vec::new();
    for layout in layouts {
        let names = layout.names()?;
        owners.extend(names.into_iter().map(|name| ClaimOwner { layout: layout.clone(), name }));
    }
    Ok(owners)
}

/// What others have of `claims`, the claims of the container `name`.
pub(crate) fn clashes(layout: &Layout, name: &ContainerName, claims: &[Claim]) -> Result<Vec<Clash>> {
    clashes_in(layout.known(), layout, name, claims)
}

pub(super) fn clashes_in(
    layouts: Vec<Layout>,
    layout: &Layout,
    name: &ContainerName,
    claims: &[Claim],
) -> Result<Vec<Clash>> {
    let mut found = Vec::new();
    for owner in owners(layouts)?.into_iter().filter(|owner| !owner.is(layout, name)) {
        let theirs = owner.claims();
        let both = claims.iter().filter(|claim| theirs.iter().any(|their| their.clashes(claim)));
        found.extend(both.map(|claim| Clash { claim: claim.clone(), holder: owner.clone() }));
    }
    Ok(found)
}

/// Refuses a configuration that claims what another container has, or one thing twice. What the configuration
/// `before` claims already does not count: one clash must not keep an admin from mending another.
pub(crate) fn require_free(
    layout: &Layout,
    name: &ContainerName,
    config: &Config,
    before: Option<&Config>,
) -> Result<()> {
    let origin = Origin::read(layout, name)?;
    let had = before.map_or(Ok(Vec::new()), |before| claims::of(layout, name, before, &origin))?;
    let wanted = claims::of(layout, name, config, &origin)?;
    let new: Vec<Claim> = wanted.iter().filter(|claim| !had.contains(claim)).cloned().collect();
    if new.is_empty() && wanted.len() <= had.len() {
        return Ok(());
    }
    if let Some(twice) = claimed_twice(&wanted)
        && claimed_twice(&had) != Some(twice)
    {
        return Err(Error::config(format!("`{name}` would have {twice} twice")));
    }
    match clashes(layout, name, &new)?.into_iter().next() {
        None => Ok(()),
        Some(clash) => Err(clash.refusal(layout, name, config)),
    }
}

impl Clash {
    /// The refusal for the second container that wants it, with this configuration.
    pub(crate) fn refusal(&self, layout: &Layout, name: &ContainerName, config: &Config) -> Error {
        let holder = self.holder.seen_from(layout);
        let remedy = self.claim.remedy(layout, name, config, &self.holder.name);
        Error::conflict(format!("container {holder} has {} already", self.claim)).hint(remedy)
    }
}

/// Two containers that claim one thing.
#[derive(Debug)]
pub(crate) struct Pair {
    pub claim: Claim,
    pub first: ClaimOwner,
    pub second: ClaimOwner,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let home = Layout::new(self.first.layout.root());
        write!(f, "{} and {} both have {}", self.first.seen_from(&home), self.second.seen_from(&home), self.claim)
    }
}

/// Everything that two containers claim, of all that are known.
pub(crate) fn all_clashes(layout: &Layout) -> Result<Vec<Pair>> {
    let owners = owners(layout.known())?;
    let mut buckets: BTreeMap<String, Vec<(usize, Claim)>> = BTreeMap::new();
    for (at, owner) in owners.iter().enumerate() {
        for claim in owner.claims() {
            buckets.entry(claim.bucket()).or_default().push((at, claim));
        }
    }
    let mut found = Vec::new();
    for claims in buckets.values() {
        for (nth, (a, claim)) in claims.iter().enumerate() {
            let others = claims[..nth].iter().filter(|(b, other)| a != b && claim.clashes(other));
            found.extend(others.map(|(b, _)| Pair {
                claim: claim.clone(),
                first: owners[*b].clone(),
                second: owners[*a].clone(),
            }));
        }
    }
    Ok(found)
}

/// The ids that each unprivileged container of all that are known runs with.
pub(crate) fn ids_of_all(layout: &Layout) -> Result<Vec<(ClaimOwner, IdRange)>> {
    let used = |owner: ClaimOwner| {
        let origin = Origin::read(&owner.layout, &owner.name).ok()?;
        let range = owner.layout.config(&owner.name).ok()?.security.ids(origin.range())?;
        Some((owner, range))
    };
    Ok(owners(layout.known())?.into_iter().filter_map(used).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Network;

    fn make(layout: &Layout, name: &str, nth: u32, change: impl FnOnce(&mut Config)) -> (ContainerName, Config) {
        let name: ContainerName = name.parse().unwrap();
        std::fs::create_dir_all(layout.container(&name)).unwrap();
        let origin = Origin::of_ids(IdRange::new(IdRange::FIRST_BASE + nth * IdRange::LEN));
        origin.write_file(&layout.origin_file(&name)).unwrap();
        let mut config = Config { uuid: format!("u{nth}"), ..Config::default() };
        config.network.insert("eth0".into(), Network::default());
        change(&mut config);
        std::fs::write(layout.config_file(&name), toml::to_string(&config).unwrap()).unwrap();
        (name, config)
    }

    fn eth0(config: &mut Config) -> &mut Network {
        config.network.get_mut("eth0").unwrap()
    }

    #[test]
    fn a_second_claim_is_refused_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        make(&layout, "db", 1, |config| {
            eth0(config).mac = Some("10:66:6a:00:00:01".into());
            eth0(config).ipv4 = "10.9.8.7/24".parse().unwrap();
            eth0(config).publish = vec!["8080:80".parse().unwrap()];
        });
        let (web, before) = make(&layout, "web", 2, |_| ());
        assert!(require_free(&layout, &web, &before, None).is_ok());
        type Change = fn(&mut Config);
        let changes: [(&str, Change); 6] = [
            ("the MAC address 10:66:6a:00:00:01", |c| eth0(c).mac = Some("10:66:6A:00:00:01".into())),
            ("the address 10.9.8.7 on `lxmbr0`", |c| eth0(c).ipv4 = "10.9.8.7".parse().unwrap()),
            ("the published port 8080/tcp of 127.0.0.1", |c| {
                eth0(c).publish = vec!["127.0.0.1:8080:1".parse().unwrap()]
            }),
            ("ids of 590000:10", |c| c.security.idmap = "590000:10".parse().unwrap()),
            ("the uuid u1", |c| c.uuid = "U1".into()),
            // The MAC address of one without `mac` is made of its uuid.
            ("the uuid u1", |c| c.uuid = "u1".into()),
        ];
        for (what, change) in changes {
            let mut config = before.clone();
            change(&mut config);
            let e = require_free(&layout, &web, &config, Some(&before)).unwrap_err();
            assert_eq!(e.to_string(), format!("container `db` has {what} already"));
            assert!(e.kind().exit_status() == 4 && e.hint_text().is_some());
            // A container that claimed it before can still change other settings.
            assert!(require_free(&layout, &web, &config, Some(&config)).is_ok());
        }
        let mut twice = before.clone();
        eth0(&mut twice).publish = vec!["90:80".parse().unwrap(), "90:81".parse().unwrap()];
        assert_eq!(require_free(&layout, &web, &twice, Some(&before)).unwrap_err().kind().exit_status(), 6);
        assert!(all_clashes(&layout).unwrap().is_empty());
        make(&layout, "third", 1, |_| ());
        let pairs: Vec<_> = all_clashes(&layout).unwrap().iter().map(ToString::to_string).collect();
        assert!(pairs.contains(&"`db` and `third` both have the uuid u1".to_owned()), "{pairs:?}");
        assert!(pairs.contains(&"`db` and `third` both have ids of 589824:65536".to_owned()), "{pairs:?}");
    }

    #[test]
    fn other_directories_count_and_broken_neighbours_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let elsewhere = layout.clone().with_containers(dir.path().join("srv"));
        make(&elsewhere, "web", 1, |_| ());
        std::fs::create_dir_all(layout.containers().join("broken")).unwrap();
        std::fs::write(layout.containers().join("broken/origin.toml"), "?").unwrap();
        let (web, config) = make(&layout, "web", 1, |_| ());
        assert!(require_free(&layout, &web, &config, None).is_ok(), "the other directory is not known");
        elsewhere.note().unwrap();
        elsewhere.note().unwrap();
        let e = require_free(&layout, &web, &config, None).unwrap_err();
        assert!(e.to_string().contains(&format!("`web` in `{}`", elsewhere.containers().display())), "{e}");
    }
}
