//! All verbs. A new one is a file and a line here.

use super::verb::{Group, Verb, verb};
use super::{
    adopt, attach, autostart, check, config, console, copy, create, destroy, diff, export, freeze, gc, generate, image,
    import, info, kill, list, logs, mount, network, publish, rename, restart, snapshot, ssh, start, stop, transfer,
    wait,
};

/// All verbs that people type, in the order of `lxm --help`. A new one is a file and a line here.
pub(super) const GROUPS: &[Group] = &[
    Group {
        heading: "Life cycle",
        verbs: &[
            verb!("create" => create::Create),
            verb!("start" => start::Start),
            verb!("stop" => stop::Stop),
            verb!("restart" => restart::Restart),
            verb!("freeze" | "pause" => freeze::Freeze),
            verb!("unfreeze" | "unpause" => freeze::Unfreeze),
            verb!("kill" => kill::Kill),
            verb!("wait" => wait::Wait),
            verb!("rename" => rename::Rename),
            verb!("copy" | "clone" => copy::Copy),
            verb!("destroy" => destroy::Destroy),
        ],
    },
    Group {
        heading: "Work inside a container",
        verbs: &[
            verb!("attach" | "exec" => attach::Attach),
            verb!("console" => console::Console),
            verb!("ssh" => ssh::Ssh),
            verb!("ssh-config" => ssh::SshConfig),
        ],
    },
    Group {
        heading: "Inspect and configure",
        verbs: &[
            verb!("list" | "ls" | "ps" => list::List),
            verb!("info" => info::Info),
            verb!("logs" => logs::Logs),
            verb!("diff" => diff::Diff),
            verb!("config" => config::Config),
        ],
    },
    Group {
        heading: "Files, snapshots and images",
        verbs: &[
            verb!("push" => transfer::Push),
            verb!("pull" => transfer::Pull),
            verb!("mount" => mount::Mount),
            verb!("umount" | "unmount" => mount::Umount),
            verb!("snapshot" => snapshot::Snapshot),
            verb!("export" => export::Export),
            verb!("import" => import::Import),
            verb!("publish" => publish::Publish),
            verb!("image" => image::Image),
        ],
    },
    Group { heading: "Network", verbs: &[verb!("network" => network::Network)] },
    Group {
        heading: "Host",
        verbs: &[
            verb!("enable" => autostart::Enable),
            verb!("disable" => autostart::Disable),
            verb!("autostart" => autostart::Autostart),
            verb!("boot-report" => autostart::BootReport),
            verb!("adopt" => adopt::Adopt),
            verb!("gc" => gc::Gc),
            verb!("check" => check::Check),
        ],
    },
];

/// Verbs that programs call: ssh, and what builds the package.
pub(super) const HIDDEN: &[Verb] =
    &[verb!("ssh-proxy" => ssh::SshProxy), verb!("ssh-keys" => ssh::SshKeys), verb!("generate" => generate::Generate)];

/// Verbs whose standard output is a guest's, a file's or another program's: with `--format json` their
/// errors alone are in JSON.
pub(super) const STREAMS: &[&str] =
    &["attach", "console", "ssh", "ssh-proxy", "ssh-keys", "logs", "network serve", "network publish"];
