//! The path of each thing.

use std::path::{Path, PathBuf};

use super::layout::{APART, Layout, short_digest};
use crate::types::{Arch, ContainerName};

impl Layout {
    pub fn container(&self, name: &ContainerName) -> PathBuf {
        self.containers.join(name)
    }

    pub fn config_file(&self, name: &ContainerName) -> PathBuf {
        self.container(name).join("config.toml")
    }

    pub fn origin_file(&self, name: &ContainerName) -> PathBuf {
        self.container(name).join("origin.toml")
    }

    pub fn rootfs(&self, name: &ContainerName) -> PathBuf {
        self.container(name).join("rootfs")
    }

    /// Snapshots of a container, those in the making (`.NAME`) too.
    pub fn snapshots(&self, name: &ContainerName) -> PathBuf {
        self.container(name).join("snapshots")
    }

    /// Containers in the making, on the file system where they will be.
    pub fn staging(&self) -> PathBuf {
        self.containers.join(".staging")
    }

    /// Containers on their way out.
    pub fn trash(&self) -> PathBuf {
        self.containers.join(".trash")
    }

    pub fn images(&self) -> PathBuf {
        self.root().join("var/cache/lxm/images")
    }

    /// Images in the making and on their way out.
    pub fn image_staging(&self) -> PathBuf {
        self.images().join(".staging")
    }

    /// Downloads that were cut short, by digest.
    pub fn downloads(&self) -> PathBuf {
        self.root().join("var/cache/lxm/downloads")
    }

    pub fn log_dir(&self, name: &ContainerName) -> PathBuf {
        self.apart(self.root().join("var/log/lxm")).join(name)
    }

    pub fn console_log(&self, name: &ContainerName) -> PathBuf {
        self.log_dir(name).join("console.log")
    }

    /// What the builder of a template's image said; one file a kind of system.
    pub fn build_log(&self, template: &str, release: &str, arch: Arch) -> PathBuf {
        let kind: Vec<String> =
            [template, release, &arch.to_string()].iter().filter(|s| !s.is_empty()).map(|s| s.to_string()).collect();
        self.root().join("var/log/lxm/.images").join(format!("{}.log", kind.join("-")))
    }

    pub fn run(&self) -> PathBuf {
        self.root().join("run/lxm")
    }

    /// The directories of what runs, one for each directory of containers.
    pub fn runs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.run()).into_iter().flatten().flatten();
        let is_apart = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(APART);
        std::iter::once(self.run()).chain(entries.filter(is_apart).map(|entry| entry.path())).collect()
    }

    /// Where the running containers of this directory have theirs.
    pub fn own_run(&self) -> PathBuf {
        self.apart(self.run())
    }

    /// Locks of what all containers share, and operation locks; a name that no container can have.
    pub fn lock_dir(&self) -> PathBuf {
        self.run().join(".lock")
    }

    /// The operation locks of the containers of this directory.
    pub fn operation_locks(&self) -> PathBuf {
        self.apart(self.lock_dir())
    }

    /// The running container's own directory: alive lock, control socket, boot and failure records.
    pub fn run_dir(&self, name: &ContainerName) -> PathBuf {
        self.own_run().join(name)
    }

    pub fn control_socket(&self, name: &ContainerName) -> PathBuf {
        self.run_dir(name).join("control.sock")
    }

    pub fn boot_record(&self, name: &ContainerName) -> PathBuf {
        self.run_dir(name).join("boot.toml")
    }

    /// There while a container runs whose changes are undone when it stops.
    pub fn ephemeral_mark(&self, name: &ContainerName) -> PathBuf {
        self.run_dir(name).join("ephemeral")
    }

    /// Why the last start failed, for whoever asks after the supervisor has gone.
    pub fn failure_record(&self, name: &ContainerName) -> PathBuf {
        self.run_dir(name).join("failure.toml")
    }

    /// The container's cgroup below each hierarchy's mount point.
    ///
    /// `lxm/NAME`; a state directory of its own (`LXM_ROOT`, `--path`) has groups of its own,
    /// because two containers of one name may run.
    pub fn cgroup(&self, name: &ContainerName) -> String {
        format!("{}/{name}", self.cgroup_base())
    }

    /// The group above all containers' groups.
    pub fn cgroup_base(&self) -> String {
        if self.containers == Path::new("/var/lib/lxm") {
            return "lxm".into();
        }
        format!("lxm-{}", short_digest(&self.containers))
    }

    /// The host keys of a running guest, as ssh reads them.
    pub fn ssh_known_hosts(&self, name: &ContainerName) -> PathBuf {
        self.run_dir(name).join("ssh_known_hosts")
    }

    pub fn etc(&self) -> PathBuf {
        self.root().join("etc/lxm")
    }

    /// State of the bridges that lxm made, `network.toml`.
    pub fn network_file(&self) -> PathBuf {
        self.etc().join("network.toml")
    }

    /// One directory a bridge for what its lease and name server knows while it runs.
    pub fn network_run(&self) -> PathBuf {
        self.run().join(".network")
    }

    /// One directory a bridge for its leases, which outlive the host's reboot.
    pub fn network_state(&self) -> PathBuf {
        self.root().join("var/lib/lxm/.network")
    }

    /// Where templates are looked for, the admin's first.
    ///
    /// `LXM_TEMPLATES` comes before all, for running from a build tree.
    pub fn template_dirs(&self) -> Vec<PathBuf> {
        let from_env = std::env::var_os("LXM_TEMPLATES").map(PathBuf::from);
        let shipped = ["usr/local/share/lxm/templates", "usr/share/lxm/templates"];
        let mut dirs: Vec<PathBuf> = from_env.into_iter().collect();
        dirs.push(self.etc().join("templates"));
        dirs.extend(shipped.iter().map(|dir| self.root().join(dir)));
        // Shipped templates belong to the program, not to the state that LXM_ROOT moves.
        dirs.extend(shipped.iter().map(|dir| Path::new("/").join(dir)));
        dirs.extend(beside_the_program());
        dirs.dedup();
        dirs
    }
}

/// `templates/` of the source tree that the running program was built in, if it was.
fn beside_the_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let target = program.ancestors().find(|dir| dir.file_name().is_some_and(|name| name == "target"))?;
    Some(target.parent()?.join("templates")).filter(|dir| dir.is_dir())
}
