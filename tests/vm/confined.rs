//! What a whole machine adds: AppArmor, and the right to choose whom the kernel kills first.

use std::time::Duration;

use crate::machine::Machine;

/// Has the host show the label of the process `words` once it runs.
fn label_of(words: &str) -> String {
    format!(
        "timeout 60 sh -c 'while :; do for p in /proc/[0-9]*; do
        if [ \"$(tr \"\\0\" \" \" <$p/cmdline)\" = \"{words} \" ]; then cat $p/attr/current; exit; fi; done 2>/dev/null; sleep 0.2; done'"
    )
}

/// `web` runs.
pub fn by_profiles(machine: &mut Machine) {
    let check = machine.shell("lxm check | grep ' lsm '");
    assert!(check.starts_with("ok"), "{check}");
    let label = machine.shell("cat /proc/$(lxm info web -p -H)/attr/current");
    assert!(label.starts_with("lxm-container//&:lxm-") && label.ends_with(":unconfined (enforce)"), "{label}");
    assert!(machine.shell("lxm info web").contains(&label));
    // The guest sees the policy of its own namespace alone, and loads what it likes there.
    assert_eq!(machine.shell("lxm attach web -- cat /proc/1/attr/current"), "unconfined");
    let inner = "profile inner flags=(attach_disconnected) { file, deny /etc/passwd r, }";
    machine
        .shell(&format!("echo '{inner}' | apparmor_parser -QK -o /run/inner.bin && lxm push /run/inner.bin web:/run/"));
    let load = "cat /run/inner.bin >/sys/kernel/security/apparmor/.replace; cat /sys/kernel/security/apparmor/profiles";
    assert_eq!(machine.shell(&format!("lxm attach web -- sh -c '{load}'")), "inner (enforce)");
    let become_it = "echo exec inner >/proc/self/attr/apparmor/exec; exec cat /proc/self/attr/current /etc/passwd";
    let denied = machine.try_shell(&format!("lxm attach web -- sh -c '{become_it}'"), Duration::from_secs(60));
    assert_eq!(denied.stdout.trim(), "inner (enforce)", "{denied}");
    assert!(denied.stderr.contains("Permission denied"), "{denied}");
    assert_eq!(machine.shell("grep -c '^inner ' /sys/kernel/security/apparmor/profiles || true"), "0");
    a_false_proc(machine);
    privileged(machine);
}

/// A guest that puts files of its own in place of /proc is confined all the same (CVE-2025-52881).
fn a_false_proc(machine: &mut Machine) {
    machine.shell("lxm create fence -t busybox --network none; lxm start fence");
    let cover = "mount -t tmpfs x /proc; for d in self thread-self; do mkdir -p /proc/$d/attr/apparmor; \
        for f in attr/exec attr/current attr/apparmor/exec; do : >/proc/$d/$f; chmod 666 /proc/$d/$f; done; done";
    machine.shell(&format!("lxm attach fence -- sh -c '{cover}'"));
    machine.shell("nohup lxm attach fence -- sleep 91 >/dev/null 2>&1 &");
    let label = machine.shell(&label_of("sleep 91"));
    assert!(label.starts_with("lxm-container//&:lxm-"), "{label}");
    assert_eq!(machine.shell("lxm attach fence -- find /proc -type f -size +0"), "");
    // Its policy goes with it.
    let namespaces = "ls /sys/kernel/security/apparmor/policy/namespaces | wc -l";
    let before: usize = machine.shell(namespaces).parse().expect("a number");
    machine.shell("lxm destroy -f fence");
    assert_eq!(machine.shell(namespaces), (before - 1).to_string());
}

/// Root of a privileged guest finds a way around every cover; the profile is of the files themselves.
fn privileged(machine: &mut Machine) {
    machine.shell("lxm create priv -t busybox --network none --privileged; lxm start priv");
    let label = machine.shell("cat /proc/$(lxm info priv -p -H)/attr/current");
    assert_eq!(label, "lxm-container-privileged (enforce)");
    let pattern = "/proc/sys/kernel/core_pattern";
    let before = machine.shell(&format!("cat {pattern}"));
    let attack = format!("lxm attach priv -- sh -c 'mount -t proc p /mnt && echo core.lxm >/mnt{}'", &pattern[5..]);
    let refused = machine.try_shell(&attack, Duration::from_secs(60));
    assert!(refused.status != 0 && refused.stderr.contains("Permission denied"), "{refused}");
    assert_eq!(machine.shell(&format!("cat {pattern}")), before);
    // The means.
    machine.shell("lxm config set priv security.apparmor off; lxm restart priv");
    machine.shell(&attack);
    assert_eq!(machine.shell(&format!("cat {pattern}; echo '{before}' >{pattern}")), "core.lxm");
    machine.shell("lxm destroy -f priv");
}

/// Whoever fills the memory of a guest is killed, and not its supervisor, which the same limit holds and
/// which is larger; no process of the guest is exempt, and its root exempts nothing. (A container, and some
/// machines that CI runs on, have no CAP_SYS_RESOURCE: so it is tried here.)
pub fn from_want_of_memory(machine: &mut Machine) {
    machine.shell("lxm create full -t busybox --network none; lxm config set full limits.memory 64MiB limits.swap 0");
    machine.shell("lxm start full; lxm attach full -- chmod 1777 /dev/shm");
    let processes = "systemctl show -p MainPID --value lxm@full; lxm info full -p -H";
    let before = machine.shell(processes);
    let scores = format!("for p in $({processes}); do cat /proc/$p/oom_score_adj; done");
    assert_eq!(machine.shell(&scores), "-999\n0");
    for of in ["self", "1"] {
        let file = format!("/proc/{of}/oom_score_adj");
        let lower = format!("lxm attach full -- sh -c 'cat {file}; echo -1 >{file}'");
        let refused = machine.try_shell(&lower, Duration::from_secs(60));
        assert_eq!(refused.stdout.trim(), "0", "{refused}");
        assert!(refused.status != 0 && refused.stderr.contains("Permission denied"), "{refused}");
    }
    let fill = "lxm attach full --user 1000 -- dd if=/dev/zero of=/dev/shm/fill bs=1M count=200";
    for _ in 0..3 {
        // The means: there is no more memory.
        let killed = machine.try_shell(fill, Duration::from_secs(60));
        assert_eq!(killed.status, 137, "{killed}");
        assert_eq!(machine.shell(processes), before);
    }
    machine.shell("lxm destroy -f full");
}
