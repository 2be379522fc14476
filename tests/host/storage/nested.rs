//! Containers of others within a guest, on every backend.

use std::time::Duration;

use crate::support::{Guest, Outcome, Sandbox, Trial};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("storage::podman_runs_in_a_guest_on_every_backend", nested).guest(Guest::Podman).limit(240),
        Trial::new("storage::docker_runs_in_a_guest", docker).guest(Guest::Docker).limit(240),
    ]
}

/// A guest `web` in which containers may be run, with a busybox of the host to make images of.
fn boot_nesting(sandbox: &Sandbox, guest: Guest, backend: &str) {
    sandbox.create("web", guest, &["--storage", backend]);
    sandbox.lxm(&["config", "set", "web", "security.nesting", "true"]).ok();
    boot_again(sandbox);
    sandbox.lxm(&["push", "/bin/busybox", "web:/root/image/bin/"]).ok();
    sh(sandbox, "cd /root/image; for name in sh ls rm sleep ip; do ln -s busybox bin/$name; done").ok();
}

fn boot_again(sandbox: &Sandbox) {
    sandbox.lxm_with(&["start", "web", "--wait", "booted"], b"", Duration::from_secs(60)).ok();
}

fn sh(sandbox: &Sandbox, script: &str) -> Outcome {
    sandbox.lxm_with(&["attach", "web", "--", "bash", "-euc", script], b"", Duration::from_secs(120))
}

/// What `ls /bin` says in an image of that busybox after `rm` has removed itself.
const WITHOUT_RM: &str = "busybox\nip\nls\nsh\nsleep\n";

fn docker(sandbox: &Sandbox) {
    boot_nesting(sandbox, Guest::Docker, "overlay");
    sh(sandbox, "tar -C /root/image -c . | docker import - one").ok();
    sh(sandbox, "docker info").ok().says("Storage Driver: overlay2").says("Cgroup Version: 2");
    // On docker's own bridge and behind its own rules, which are the guest's.
    sh(sandbox, "docker run -d --name bg one sleep 1000").ok();
    sh(sandbox, "docker exec bg ip -4 address show eth0").ok().says("inet 172.");
    sh(sandbox, "iptables -t nat -S").ok().says("-A DOCKER");
    sh(sandbox, "docker run --name kept one sh -c 'rm /bin/rm && ls /bin'").ok().says(WITHOUT_RM);
    sh(sandbox, "docker diff kept").ok().says("D /bin/rm");
    sandbox.lxm_with(&["stop", "web"], b"", Duration::from_secs(60)).ok();
    boot_again(sandbox);
    sh(sandbox, "docker start bg && docker exec bg ls /bin").ok().says("busybox");
    sandbox.lxm(&["copy", "web", "web2"]).ok().complains("`/var/lib/docker`");
    sandbox.lxm(&["destroy", "-f", "web", "web2"]).ok();
}

pub(super) fn nested(sandbox: &Sandbox) {
    for backend in ["overlay", "dir"] {
        boot_nesting(sandbox, Guest::Podman, backend);
        // There is no network to get an image from, nor controllers for cgroups of its own on every host.
        sh(sandbox, "tar -C /root/image -c . | podman import - one").ok();
        sh(sandbox, "podman info").ok().says("graphDriverName: overlay").says("Native Overlay Diff: \"true\"");
        let podman = "podman run --network none --cgroups disabled";
        sh(sandbox, &format!("{podman} --name kept one sh -c 'rm /bin/rm && ls /bin'")).ok().says(WITHOUT_RM);
        sh(sandbox, "podman diff kept").ok().says("D /bin/rm");
        sh(sandbox, "podman commit -q kept two").ok();
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        boot_again(sandbox);
        sh(sandbox, &format!("{podman} --rm two ls /bin")).ok().says(WITHOUT_RM);
        let copied = sandbox.lxm(&["copy", "web", "web2"]).ok();
        assert_eq!(copied.stderr.contains("`/var/lib/containers`"), backend == "overlay", "{copied}");
        sandbox.lxm(&["destroy", "-f", "web", "web2"]).ok();
    }
}
