//! lxm: system containers on one Linux host, treated like small virtual machines.
//!
//! The crate is one program: `main` calls [`cli::main`]. Its folders and files are *rooms*, from top to
//! bottom; a room names only those on lines of lower ranks (`tests/project/rooms.rs`). `docs/ARCHITECTURE.md`
//! has the ranks, the words and the invariants.
//!
//! | room | what it is |
//! |---|---|
//! | [`cli`] | one file a verb: flags become a request, `ops` does it, `render.rs` alone writes to standard output; `verbs.rs` is the table of all |
//! | [`ops`] | one file a verb: its steps in order, each with its undo; neither parses nor prints |
//! | [`container`] | what verbs share about one container: its status, its guest's files, quiescing it, giving a copy its own identity, removing what is left over |
//! | [`attach`] | the command line's side of `attach` and `console`: bytes between the streams here and those of a guest |
//! | [`host`] | trait `ServiceManager`: what keeps supervisors alive, systemd or, on a *bare* host, the command that starts them |
//! | [`supervisor`] | the parent of a guest's init: the boot sequence, the event loop, the console, the stop stages |
//! | [`identity`] | what only one container may have: the table of all, and the locks of running containers |
//! | [`net`] | links and bridges over rtnetlink, the firewall's rules, published ports, starting a bridge's server |
//! | [`storage`] | where a container's root file system lives: trait `Backend` (dir, overlay, btrfs) |
//! | [`template`] | how a root file system is made: bootstrap, download, archive, script |
//! | [`client`] | requests to a running supervisor over its control socket |
//! | [`image`] | root file systems: unpacked, packed, copied, kept as images |
//! | [`netserver`] | the lease, router and name server of a bridge: one process each, which names nothing of `net` |
//! | [`systemd`] | systemd and its daemons over D-Bus and sockets, as blocking calls; knows nothing of a container's life |
//! | [`cgroup`] | where the hierarchies are (v1, v2, hybrid), placing, freezing, killing, limits, devices, reading |
//! | [`distro`] | what a root file system is, and the edits that make it a guest |
//! | [`inside`] | what runs between clone and exec of init |
//! | [`store`] | where everything is on disk, locks, atomic writes, records |
//! | [`config`] | `config.toml`, `lxm.toml`, `network.toml` as types; no input or output |
//! | [`proto`] | messages between processes; no input or output |
//! | [`sys`] | safe wrappers of the system calls that no crate has; the only `unsafe` code |
//! | [`types`] | names, sizes, ids, addresses: right once they exist |
//! | [`error`] | the one error type: steps, errno, hint, exit status |
//! | [`progress`] | what is being done and how far it is, for the user who waits |
//! | [`terminal`] | text without control characters for a terminal, words quoted for a shell; the only writer of standard error |
//!
//! Where to start reading: a start is `ops::start`, then [`host`], then `supervisor::run`, `supervisor::boot`
//! and `inside::init`; an attach is `attach::command`, then `supervisor::attach`; the network of a guest
//! is `net::connect`; an image is `template`, then `image::cache`; a configuration key is `config::container`.

// Modules that nothing outside names are private, so that the compiler finds dead code in them.
#![warn(unreachable_pub)]

mod attach;
mod cgroup;
mod cli;
mod client;
mod config;
mod container;
mod distro;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod host;
mod identity;
mod image;
mod inside;
mod net;
mod netserver;
mod ops;
mod progress;
mod proto;
mod storage;
mod store;
mod supervisor;
mod sys;
mod systemd;
mod template;
mod terminal;
#[doc(hidden)]
pub mod testing;
mod types;

pub use cli::{command, main};
