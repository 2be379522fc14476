//! `lxm list`: the table of containers, or what scripts ask of it.

use std::cmp::Ordering;
use std::net::IpAddr;

use clap::ValueEnum;

use super::json::{self, ContainerFacts};
use super::name::completer;
use super::{Context, Format, render};
use crate::container::boot_report::BootState as Boot;
use crate::container::status::{ContainerState, Observation, Observer};
use crate::error::{Error, Result};
use crate::types::{ContainerName, NamePattern};

/// List containers
///
/// Prints names, in columns on a terminal and one per line otherwise; with -f a table. Of --running,
/// --frozen, --stopped and --active several may be given: any of these states then matches. A name that no
/// container has is an error; a pattern that matches none is not, as an empty list is an answer.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// List only containers whose name matches a pattern with `*` and `?`
    #[arg(value_name = "PATTERN", add = completer())]
    patterns: Vec<NamePattern>,

    /// Print a table
    #[arg(short, long)]
    fancy: bool,

    /// Columns of the table, separated by commas; implies --fancy
    #[arg(short, long, visible_short_alias = 'F', value_name = "COLUMNS", value_enum, value_delimiter = ',')]
    #[arg(ignore_case = true)]
    columns: Vec<Column>,

    /// Print one name per line
    #[arg(short = '1', long = "line")]
    line: bool,

    /// Sort by this column, one of those of --columns
    #[arg(
        short,
        long,
        value_name = "COLUMN",
        value_enum,
        ignore_case = true,
        default_value = "name",
        hide_possible_values = true
    )]
    sort: Column,

    /// Reverse the order
    #[arg(short, long)]
    reverse: bool,

    /// Only running containers, without frozen ones
    #[arg(long)]
    running: bool,

    /// Only frozen containers
    #[arg(long)]
    frozen: bool,

    /// Only stopped containers
    #[arg(long)]
    stopped: bool,

    /// Only running or frozen containers
    #[arg(long)]
    active: bool,

    /// Only privileged containers
    #[arg(long, conflicts_with = "unprivileged")]
    privileged: bool,

    /// Only unprivileged containers
    #[arg(long)]
    unprivileged: bool,

    /// Only containers that start at boot
    #[arg(long)]
    autostart: bool,

    /// As lxc-ls has it: all that have a configuration, which all have
    #[arg(long, hide = true)]
    defined: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
enum Column {
    Name,
    State,
    Pid,
    Ipv4,
    Ipv6,
    Memory,
    /// `true` or `false`; `failed` or `skipped` if its start at boot went wrong
    Autostart,
    Template,
    Privileged,
    Release,
    Arch,
    Uptime,
    Cpu,
    Io,
    Kmem,
    Processes,
    Storage,
    /// Disk space of this container alone
    Size,
    /// Disk space shared with images, snapshots and other containers
    Shared,
    Image,
    Ids,
    Created,
    Started,
    Init,
    Supervisor,
    Description,
}

/// What `-f` shows.
const DEFAULT: [Column; 9] = [
    Column::Name,
    Column::State,
    Column::Pid,
    Column::Ipv4,
    Column::Ipv6,
    Column::Memory,
    Column::Autostart,
    Column::Template,
    Column::Privileged,
];

impl List {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        if context.format == Format::Text && self.is_of_names() {
            let names = context.layout.names()?;
            let mut wanted: Vec<String> =
                names.iter().filter(|name| self.wants_name(name)).map(ToString::to_string).collect();
            if self.reverse {
                wanted.reverse();
            }
            self.names(&wanted)?;
            return self.require_named(context).map(|()| 0);
        }
        let observer = Observer::new(&context.layout)?;
        let mut seen = observer.all()?;
        seen.retain(|seen| self.wants(seen));
        seen.sort_by(|a, b| {
            let order = self.sort.order(a, b).then_with(|| a.name.cmp(&b.name));
            if self.reverse { order.reverse() } else { order }
        });
        if context.format == Format::Json {
            if self.columns.iter().any(|column| matches!(column, Column::Size | Column::Shared)) {
                // What cannot be measured is unknown, as other facts are.
                for seen in &seen {
                    let _ = seen.usage();
                }
            }
            render::json(&seen.iter().map(ContainerFacts::of).collect::<Vec<_>>())?;
        } else if self.fancy || !self.columns.is_empty() {
            let columns = if self.columns.is_empty() { &DEFAULT[..] } else { &self.columns };
            let titles: Vec<String> = columns.iter().map(|column| column.title()).collect();
            let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
            render::table(&titles, seen.iter().map(|seen| columns.iter().map(|column| column.text(seen))))?;
        } else {
            let names: Vec<String> = seen.iter().map(|seen| seen.name.to_string()).collect();
            self.names(&names)?;
        }
        self.require_named(context).map(|()| 0)
    }

    /// Fails with `Kind::NotFound` for a container that was named and does not exist; patterns may
    /// match none.
    fn require_named(&self, context: &Context) -> Result<()> {
        for pattern in &self.patterns {
            let NamePattern::Name(name) = pattern else { continue };
            if name.as_str() == "json" && self.fancy && context.layout.require(name).is_err() {
                return Err(Error::usage("`-f` takes no format: it prints a table").hint("`--format json` prints JSON"));
            }
            context.layout.require(name)?;
        }
        Ok(())
    }

    fn names(&self, names: &[String]) -> Result<()> {
        if self.line {
            render::text(&names.iter().map(|name| format!("{name}\n")).collect::<String>())
        } else {
            render::names(names)
        }
    }

    /// Whether nothing but the names is asked for, so that no container need be examined.
    fn is_of_names(&self) -> bool {
        let filters =
            [self.running, self.frozen, self.stopped, self.active, self.privileged, self.unprivileged, self.autostart];
        !self.fancy && self.columns.is_empty() && self.sort == Column::Name && !filters.contains(&true)
    }

    fn wants_name(&self, name: &ContainerName) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    fn wants(&self, seen: &Observation) -> bool {
        let states = [
            (self.running, &[ContainerState::Running][..]),
            (self.frozen, &[ContainerState::Frozen]),
            (self.stopped, &[ContainerState::Stopped]),
            (self.active, &[ContainerState::Running, ContainerState::Frozen]),
        ];
        // Several of these mean any of them; none means all.
        let mut asked = states.iter().filter(|(asked, _)| *asked).peekable();
        let state = asked.peek().is_none() || asked.any(|(_, states)| states.contains(&seen.state));
        state
            && self.wants_name(&seen.name)
            && (!self.privileged || seen.privileged() == Some(true))
            && (!self.unprivileged || seen.privileged() == Some(false))
            && (!self.autostart || seen.autostart() == Some(true))
    }
}

impl Column {
    fn title(self) -> String {
        let name = self.to_possible_value().map(|value| value.get_name().to_uppercase());
        name.unwrap_or_default()
    }

    /// The cell; `-` where there is nothing to show, as `lxc-ls` has it.
    fn text(self, seen: &Observation) -> String {
        let record = seen.record.as_ref();
        let origin = || seen.origin().ok();
        let answer = |yes: bool| if yes { "true".to_owned() } else { "false".to_owned() };
        let text = match self {
            Column::Name => Some(seen.name.to_string()),
            Column::State => Some(seen.state.to_string()),
            Column::Pid => record.map(|record| record.leader.pid.to_string()),
            Column::Supervisor => record.map(|record| record.supervisor.pid.to_string()),
            Column::Ipv4 => Some(ipv4(seen)),
            // A link-local address is no way to it without naming a link; `info` shows it.
            Column::Ipv6 => Some(join(&seen.addresses().ipv6, seen)),
            Column::Memory => seen.memory_bytes().map(json::bytes),
            Column::Kmem => seen.stats().kmem_bytes.map(json::bytes),
            Column::Io => seen.stats().io_bytes.map(json::bytes),
            Column::Cpu => seen.stats().cpu_ns.map(|ns| format!("{:.2} s", ns as f64 / 1e9)),
            Column::Processes => seen.stats().pids.map(|pids| pids.to_string()),
            Column::Uptime => seen.uptime().map(json::duration),
            Column::Started => record.map(|record| render::time(&record.started)),
            Column::Init => record.map(|record| record.init.clone()),
            Column::Autostart => match seen.boot() {
                Some(state @ (Boot::Failed | Boot::Skipped)) if record.is_none() => Some(state.name().to_owned()),
                _ => seen.autostart().map(answer),
            },
            Column::Privileged => seen.privileged().map(answer),
            Column::Ids => seen.ids().map(|range| range.to_string()),
            Column::Description => seen.config().ok().map(|config| config.description.clone()),
            Column::Template => origin().map(|origin| origin.template.clone()),
            Column::Release => origin().map(|origin| origin.release.clone()),
            Column::Arch => origin().map(|origin| origin.arch.to_string()),
            Column::Storage => origin().map(|origin| origin.storage.clone()),
            Column::Size => seen.usage().ok().map(|usage| json::bytes(usage.own)),
            Column::Shared => seen.usage().ok().map(|usage| json::bytes(usage.shared)),
            Column::Image => origin().map(|origin| origin.image.clone()),
            Column::Created => origin().map(|origin| render::time(&origin.created)),
        };
        text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
    }

    /// Numbers by their size and the largest first, as one looks for those; texts by the alphabet.
    fn order(self, a: &Observation, b: &Observation) -> Ordering {
        match self {
            Column::Name => a.name.cmp(&b.name),
            Column::State => a.state.cmp(&b.state),
            Column::Pid | Column::Supervisor => {
                a.leader().map(|pid| pid.as_raw()).cmp(&b.leader().map(|pid| pid.as_raw()))
            }
            Column::Ipv4 => a.addresses().ipv4.cmp(&b.addresses().ipv4),
            Column::Ipv6 => a.addresses().ipv6.cmp(&b.addresses().ipv6),
            Column::Memory => b.memory_bytes().cmp(&a.memory_bytes()),
            Column::Kmem => b.stats().kmem_bytes.cmp(&a.stats().kmem_bytes),
            Column::Io => b.stats().io_bytes.cmp(&a.stats().io_bytes),
            Column::Cpu => b.stats().cpu_ns.cmp(&a.stats().cpu_ns),
            Column::Processes => b.stats().pids.cmp(&a.stats().pids),
            Column::Uptime => b.uptime().cmp(&a.uptime()),
            Column::Size => b.usage().ok().map(|usage| usage.own).cmp(&a.usage().ok().map(|usage| usage.own)),
            Column::Shared => b.usage().ok().map(|usage| usage.shared).cmp(&a.usage().ok().map(|usage| usage.shared)),
            _ => self.text(a).cmp(&self.text(b)),
        }
    }
}

fn ipv4(seen: &Observation) -> String {
    match join(&seen.addresses().ipv4, seen) {
        none if none.is_empty() && seen.without_address().is_some() => "(none free)".to_owned(),
        addresses => addresses,
    }
}

/// The addresses, with a mark on those that are not the guest's own.
fn join<T: Copy + Into<IpAddr>>(addresses: &[T], seen: &Observation) -> String {
    if addresses.is_empty() {
        return String::new();
    }
    let blocked = seen.dropped().addresses;
    let text = |address: &T| {
        let address: IpAddr = (*address).into();
        if blocked.contains(&address) { format!("{address} (blocked)") } else { address.to_string() }
    };
    addresses.iter().map(text).collect::<Vec<_>>().join(", ")
}
