//! `lxm info`: what is known of one container.

use super::json::{self, ContainerFacts};
use super::{Context, Format, NameArg, render};
use crate::container::status::{Observation, Observer};
use crate::error::Result;
use crate::ops::beside_unit;
use crate::ops::confined::Confined;
use crate::terminal;

/// Show state, addresses, usage and settings of a container
///
/// The first lines are those of lxc-info.
#[derive(Debug, clap::Args)]
pub(super) struct Info {
    #[command(flatten)]
    name: NameArg,

    #[command(flatten)]
    show: Show,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Print the state only
    #[arg(short, long)]
    state: bool,

    /// Print the PID of its init only
    #[arg(short, long)]
    pid: bool,

    /// Print the IP addresses only
    #[arg(short, long)]
    ips: bool,

    /// Print the resource usage only
    #[arg(short = 'S', long)]
    stats: bool,

    /// Print numbers in bytes and nanoseconds, and values without labels
    #[arg(short = 'H', long)]
    no_humanize: bool,
}

impl Info {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let Info { name, show } = self;
        let name = name.name;
        let observer = Observer::new(&context.layout)?;
        let seen = observer.look(&name)?;
        if let Err(e) = seen.config() {
            context.say(&format!("warning: {e}"));
        }
        match context.format {
            Format::Json => {
                // What cannot be measured is unknown, as other facts are.
                let _ = seen.usage();
                render::json(&ContainerFacts::of(&seen))?;
            }
            Format::Text => render::text(&show.lines(context, &seen))?,
        }
        Ok(0)
    }
}

impl Show {
    fn lines(&self, context: &Context, seen: &Observation) -> String {
        let all = !(self.state || self.pid || self.ips || self.stats);
        let mut lines = Lines { raw: self.no_humanize, text: String::new() };
        if all {
            lines.add("Name", &seen.name);
        }
        if all || self.state {
            lines.add("State", seen.state);
        }
        if let Some(leader) = seen.leader().filter(|_| all || self.pid) {
            lines.add("PID", leader);
        }
        if all || self.ips {
            let addresses = seen.addresses();
            addresses.ipv4.iter().for_each(|address| lines.add("IP", address));
            addresses.all_ipv6().iter().for_each(|address| lines.add("IP", address));
        }
        if (all || self.stats) && seen.record.is_some() {
            lines.usage(seen);
        }
        if all {
            lines.more(seen);
            beside_unit::limits(&context.layout, &seen.name).iter().for_each(|limit| lines.add("Unit", limit));
        }
        lines.text
    }
}

struct Lines {
    raw: bool,
    text: String,
}

impl Lines {
    /// One line: the label in 15 columns, a space, the value. LXC users' scripts rely on it.
    fn add(&mut self, label: &str, value: impl std::fmt::Display) {
        let value = value.to_string();
        let value = terminal::line(&value);
        self.text += &match self.raw {
            true => format!("{value}\n"),
            false => format!("{:15} {value}\n", if label.is_empty() { String::new() } else { format!("{label}:") }),
        };
    }

    fn bytes(&mut self, label: &str, value: Option<u64>) {
        if let Some(value) = value {
            let text = if self.raw { value.to_string() } else { json::bytes(value) };
            self.add(label, text);
        }
    }

    fn usage(&mut self, seen: &Observation) {
        let stats = seen.stats();
        if let Some(ns) = stats.cpu_ns {
            let text = if self.raw { ns.to_string() } else { format!("{:.2} seconds", ns as f64 / 1e9) };
            self.add("CPU use", text);
        }
        self.bytes("BlkIO use", stats.io_bytes);
        self.bytes("Memory use", stats.memory_bytes);
        self.bytes("KMem use", stats.kmem_bytes);
        for link in seen.links() {
            self.add("Link", link.host.as_deref().unwrap_or(&link.guest));
            let Some(traffic) = &link.traffic else { continue };
            self.bytes(" TX bytes", Some(traffic.sent));
            self.bytes(" RX bytes", Some(traffic.received));
            self.bytes(" Total bytes", Some(traffic.sent + traffic.received));
        }
    }

    /// What `lxc-info` does not show.
    fn more(&mut self, seen: &Observation) {
        let dropped = seen.dropped();
        if dropped.packets > 0 {
            let from: Vec<String> = dropped.addresses.iter().map(ToString::to_string).collect();
            let from = if from.is_empty() { "addresses that are not its own".to_owned() } else { from.join(", ") };
            self.add("Blocked", format!("{} packets from {from}; see `lxm check`", dropped.packets));
        }
        seen.links().iter().flat_map(|link| &link.publish).for_each(|port| self.add("Published", port));
        for link in seen.links().iter().filter(|link| !link.manager.is_empty()) {
            self.add("Network", format!("{}, configured by {}", link.guest, link.manager));
        }
        if let Some(pids) = seen.stats().pids {
            self.add("Processes", pids);
        }
        if let Some(uptime) = seen.uptime() {
            self.add("Uptime", json::duration(uptime));
        }
        if let Some(record) = &seen.record {
            self.add("Started", &record.started);
            self.add("Init", &record.init);
            if !record.init_type.is_empty() {
                self.add(" Type", &record.init_type);
            }
        }
        self.boot(seen);
        if let Some(run) = seen.last_run() {
            self.add("Last end", format!("{}: {run}", run.ended));
            run.console.iter().for_each(|line| self.add("", line));
        }
        if let Some(failure) = seen.failure() {
            self.add("Last start", format!("failed: {failure}"));
        }
        if let Ok(origin) = seen.origin() {
            self.add("Template", &origin.template);
            if !origin.release.is_empty() {
                self.add("Release", &origin.release);
            }
            self.add("Arch", origin.arch);
            self.add("Storage", &origin.storage);
            let usage = seen.usage().ok();
            self.bytes("Size", usage.map(|usage| usage.own));
            self.bytes(" Shared", usage.map(|usage| usage.shared));
            self.add("Created", &origin.created);
        }
        if let Some(privileged) = seen.privileged() {
            self.add("Privileged", if privileged { "yes" } else { "no" });
        }
        if let Some(range) = seen.ids() {
            self.add("Ids", range);
        }
        if let Some(confined) = Confined::of(seen) {
            self.confined(&confined);
        }
        if let Some(autostart) = seen.autostart() {
            self.add("Autostart", if autostart { "yes" } else { "no" });
        }
        if let Some(config) = seen.config().ok().filter(|config| !config.description.is_empty()) {
            self.add("Description", &config.description);
        }
    }

    /// What it is confined by.
    fn confined(&mut self, confined: &Confined) {
        match confined.refused_calls.is_empty() {
            true => self.add("Syscalls", confined.syscalls),
            false => {
                self.add("Syscalls", format!("{}, without {}", confined.syscalls, confined.refused_calls.join(" ")))
            }
        }
        let none_if_empty = |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(" ") };
        self.add("Sockets", none_if_empty(&confined.address_families));
        if confined.nesting {
            self.add("Nesting", "yes");
        }
        confined.devices.iter().for_each(|device| self.add("Device", device));
        if let Some(running) = &confined.running {
            self.add("Capabilities", none_if_empty(&running.capabilities));
        }
        let changed = [("with", &confined.capabilities_added), ("without", &confined.capabilities_dropped)];
        let changed = changed.into_iter().filter(|(_, names)| !names.is_empty());
        for (how, names) in changed {
            self.add(" Changed", format!("{how} {}", names.join(" ")));
        }
        let Some(running) = &confined.running else { return };
        self.add("Masked", none_if_empty(&running.covers.masked));
        self.add("Read-only", none_if_empty(&running.covers.read_only));
        // A guest may load profiles of its own and name them.
        self.add("AppArmor", running.apparmor.as_deref().unwrap_or("none: this host has no AppArmor"));
        if let Some(label) = &running.selinux {
            self.add("SELinux", label);
        }
    }

    /// What the guest's init reports of its boot.
    fn boot(&mut self, seen: &Observation) {
        let Some(status) = seen.boot_status() else { return };
        let ready = match (status.ready, status.boot_us) {
            (Some(true), Some(us)) => format!("yes, {:.2} s after its init began", us as f64 / 1e6),
            (Some(true), None) => "yes".to_owned(),
            (Some(false), _) => "not yet".to_owned(),
            (None, _) => return,
        };
        self.add("Booted", ready);
        if !status.text.is_empty() {
            self.add("Status", &status.text);
        }
    }
}
