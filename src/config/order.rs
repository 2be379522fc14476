//! The order in which containers start: a graph of `boot.autostart-after` and `boot.requires`.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;
use crate::error::{Error, Result};
use crate::types::ContainerName;

/// What each container waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StartOrder(BTreeMap<ContainerName, Dependencies>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Dependencies {
    /// Both lists together.
    after: BTreeSet<ContainerName>,
    requires: BTreeSet<ContainerName>,
}

impl StartOrder {
    /// Adds a container, or replaces its dependencies. Names that are no container names are refused.
    pub(crate) fn insert(&mut self, name: &ContainerName, config: &Config) -> Result<()> {
        let names = |key: &str, list: &[String]| -> Result<BTreeSet<ContainerName>> {
            let parse = |text: &String| text.parse().map_err(|e: Error| Error::config(format!("`boot.{key}`: {e}")));
            list.iter().map(parse).collect()
        };
        let requires = names("requires", &config.boot.requires)?;
        let mut after = names("autostart-after", &config.boot.autostart_after)?;
        after.extend(requires.iter().cloned());
        self.0.insert(name.clone(), Dependencies { after, requires });
        Ok(())
    }

    /// Refuses an order in which a container waits for itself, naming the way round.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.keys().find_map(|name| self.cycle_from(name)) {
            None => Ok(()),
            Some(cycle) => {
                let way: Vec<String> = cycle.iter().map(|name| format!("`{name}`")).collect();
                Err(Error::config(format!("ordering cycle of containers: {}", way.join(" after ")))
                    .hint("take one of them out of `boot.autostart-after` or `boot.requires`"))
            }
        }
    }

    /// The way from `start` back to itself, if there is one.
    fn cycle_from(&self, start: &ContainerName) -> Option<Vec<ContainerName>> {
        let mut seen = BTreeSet::new();
        let mut way = vec![start.clone()];
        self.walk(start, start, &mut seen, &mut way).then_some(way)
    }

    fn walk<'a>(
        &'a self,
        at: &'a ContainerName,
        goal: &ContainerName,
        seen: &mut BTreeSet<&'a ContainerName>,
        way: &mut Vec<ContainerName>,
    ) -> bool {
        for next in self.0.get(at).into_iter().flat_map(|dependencies| &dependencies.after) {
            way.push(next.clone());
            if next == goal || seen.insert(next) && self.walk(next, goal, seen, way) {
                return true;
            }
            way.pop();
        }
        false
    }

    /// What `name` waits for, and which of those it requires.
    pub(crate) fn of(&self, name: &ContainerName) -> (BTreeSet<ContainerName>, BTreeSet<ContainerName>) {
        self.0
            .get(name)
            .map(|dependencies| (dependencies.after.clone(), dependencies.requires.clone()))
            .unwrap_or_default()
    }

    /// The plan to start `wanted` and what they require.
    pub(crate) fn start(&self, wanted: impl IntoIterator<Item = ContainerName>) -> Plan {
        let mut members = BTreeSet::new();
        let mut queue: Vec<ContainerName> = wanted.into_iter().collect();
        while let Some(name) = queue.pop() {
            queue.extend(self.of(&name).1.into_iter().filter(|required| !members.contains(required)));
            members.insert(name);
        }
        self.plan(&members)
    }

    fn plan(&self, members: &BTreeSet<ContainerName>) -> Plan {
        let dependencies = |name: &ContainerName| {
            let (mut after, requires) = self.of(name);
            after.retain(|other| members.contains(other));
            (name.clone(), Dependencies { after, requires })
        };
        Plan { waiting: members.iter().map(dependencies).collect(), ended: BTreeMap::new() }
    }

    /// What `name` cannot do without, directly or through others.
    pub(crate) fn required_by(&self, name: &ContainerName) -> BTreeSet<ContainerName> {
        let mut found = BTreeSet::new();
        let mut queue = vec![name.clone()];
        while let Some(name) = queue.pop() {
            queue.extend(self.of(&name).1.into_iter().filter(|required| found.insert(required.clone())));
        }
        found
    }

    /// Those that cannot do without one of `names`, directly or through others.
    pub(crate) fn requiring(&self, names: &[ContainerName]) -> BTreeSet<ContainerName> {
        let mut found = BTreeSet::new();
        let mut queue = names.to_vec();
        while let Some(name) = queue.pop() {
            let direct = self.0.iter().filter(|(_, dependencies)| dependencies.requires.contains(&name));
            let new: Vec<_> =
                direct.map(|(other, _)| other.clone()).filter(|other| found.insert(other.clone())).collect();
            queue.extend(new);
        }
        found
    }

    /// The plan to start `wanted` alone.
    pub(crate) fn start_only(&self, wanted: impl IntoIterator<Item = ContainerName>) -> Plan {
        let members: BTreeSet<ContainerName> = wanted.into_iter().collect();
        self.plan(&members)
    }

    /// The plan to stop `running`: each before what it was started after.
    pub(crate) fn stop(&self, running: impl IntoIterator<Item = ContainerName>) -> Plan {
        let mut waiting: BTreeMap<ContainerName, Dependencies> =
            running.into_iter().map(|name| (name, Dependencies::default())).collect();
        for (name, dependencies) in &self.0 {
            if !waiting.contains_key(name) {
                continue;
            }
            for earlier in &dependencies.after {
                if let Some(entry) = waiting.get_mut(earlier) {
                    entry.after.insert(name.clone());
                }
            }
        }
        Plan { waiting, ended: BTreeMap::new() }
    }
}

/// Work on several containers in their order; independent ones at the same time.
#[derive(Debug)]
pub(crate) struct Plan {
    waiting: BTreeMap<ContainerName, Dependencies>,
    /// Whether it ended well.
    ended: BTreeMap<ContainerName, bool>,
}

/// What may be done now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    Begin(ContainerName),
    /// It cannot be done without the other, which failed.
    Skip(ContainerName, ContainerName),
    /// Something that was begun must end first, or everything is done.
    Wait,
}

/// What is done at the same time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    pub begin: Vec<ContainerName>,
    /// With what it cannot be done without.
    pub skip: Vec<(ContainerName, ContainerName)>,
}

impl Plan {
    /// The next container whose turn it is; each is given once.
    pub(crate) fn take_next(&mut self) -> NextStep {
        let turn = |dependencies: &Dependencies| dependencies.after.iter().all(|other| self.ended.contains_key(other));
        let Some(name) = self.waiting.iter().find(|(_, dependencies)| turn(dependencies)).map(|(name, _)| name.clone())
        else {
            return NextStep::Wait;
        };
        let dependencies = self.waiting.remove(&name).unwrap_or_default();
        match dependencies.requires.into_iter().find(|other| self.ended.get(other) == Some(&false)) {
            Some(failed) => {
                self.ended.insert(name.clone(), false);
                NextStep::Skip(name, failed)
            }
            None => NextStep::Begin(name),
        }
    }

    /// All whose turn it is, and those that cannot be done; where the rest wait for each other, the rest.
    pub(crate) fn take_turn(&mut self) -> Turn {
        let mut turn = Turn::default();
        loop {
            match self.take_next() {
                NextStep::Begin(name) => turn.begin.push(name),
                NextStep::Skip(name, failed) => turn.skip.push((name, failed)),
                NextStep::Wait => break,
            }
        }
        if turn.begin.is_empty() && turn.skip.is_empty() {
            turn.begin.extend(std::mem::take(&mut self.waiting).into_keys());
        }
        turn
    }

    /// Notes that what was begun has ended.
    pub(crate) fn ended(&mut self, name: &ContainerName, well: bool) {
        self.ended.insert(name.clone(), well);
    }

    /// What has had no turn yet.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &ContainerName> {
        self.waiting.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContainerName {
        text.parse().unwrap()
    }

    /// `web: db cache! ` is web after db, requiring cache.
    fn order(lines: &[&str]) -> StartOrder {
        let mut order = StartOrder::default();
        for line in lines {
            let (container, others) = line.split_once(':').unwrap();
            let mut config = Config::default();
            for other in others.split_whitespace() {
                match other.strip_suffix('!') {
                    Some(required) => config.boot.requires.push(required.into()),
                    None => config.boot.autostart_after.push(other.into()),
                }
            }
            order.insert(&name(container), &config).unwrap();
        }
        order
    }

    fn begun(plan: &mut Plan) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            match plan.take_next() {
                NextStep::Begin(name) => names.push(name.to_string()),
                NextStep::Skip(name, because) => names.push(format!("{name}!{because}")),
                NextStep::Wait => return names,
            }
        }
    }

    #[test]
    fn circles_are_refused_with_the_way_round() {
        let e = order(&["a: b", "b: c!", "c: a", "d: a"]).check().unwrap_err();
        assert!(e.to_string().ends_with("`a` after `b` after `c` after `a`"), "{e}");
        assert!(order(&["a: a"]).check().is_err());
        order(&["a: b c", "b: d", "c: d", "d: missing"]).check().unwrap();
        assert!(
            order(&[])
                .insert(&name("a"), &{
                    let mut config = Config::default();
                    config.boot.requires.push("../x".into());
                    config
                })
                .is_err()
        );
    }

    #[test]
    fn independent_branches_start_at_once_and_the_rest_in_turn() {
        let order = order(&["web: db cache", "db:", "cache:", "mail: db!", "idle:"]);
        let mut plan = order.start(["web", "db", "cache", "mail"].map(name));
        assert_eq!(begun(&mut plan), ["cache", "db"]);
        plan.ended(&name("cache"), false);
        assert!(begun(&mut plan).is_empty());
        plan.ended(&name("db"), false);
        // Only what requires it is skipped; `after` is about time alone.
        assert_eq!(begun(&mut plan), ["mail!db", "web"]);
    }

    #[test]
    fn required_containers_start_too_and_others_delay_nothing() {
        let order = order(&["web: db! log", "db: disk!", "disk:", "log:"]);
        let mut plan = order.start([name("web")]);
        assert_eq!(begun(&mut plan), ["disk"]);
        assert_eq!(plan.waiting().map(ToString::to_string).collect::<Vec<_>>(), ["db", "web"]);
    }

    #[test]
    fn who_requires_it_is_found_through_others_and_in_circles() {
        let order = order(&["web: db!", "mail: web!", "log: db", "a: b!", "b: a!"]);
        let all = |name_of: &str| order.requiring(&[name(name_of)]).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            (all("db"), all("web"), all("log")),
            (vec!["mail".into(), "web".into()], vec!["mail".into()], vec![])
        );
        assert_eq!(all("a"), ["a", "b"]);
        let mut plan = order.start_only([name("a"), name("b")]);
        assert_eq!(plan.take_turn().begin, [name("a"), name("b")], "what waits for each other is done at once");
    }

    #[test]
    fn the_stop_is_the_start_backwards() {
        let order = order(&["web: db", "db: disk!", "disk:", "other:"]);
        let mut plan = order.stop(["web", "db", "disk", "other"].map(name));
        assert_eq!(begun(&mut plan), ["other", "web"]);
        plan.ended(&name("web"), false);
        assert_eq!(begun(&mut plan), ["db"]);
    }
}
