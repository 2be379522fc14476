//! Open files, processes and terminals of the host within a guest's reach.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::pty::Terminal;
use crate::support::{Guest, Outcome, Sandbox, Trial, command, eventually};

pub fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox).limit(180);
    vec![
        busybox("escape::descriptors::a_guest_has_no_open_file_of_the_host", no_open_file_of_the_host),
        busybox("escape::descriptors::a_redirected_output_is_out_of_reach", redirected_output),
        busybox("escape::descriptors::a_directory_as_input_shows_no_tree", directory_as_input),
        busybox("escape::descriptors::what_is_typed_next_stays_on_the_host", what_is_typed_next),
        busybox("escape::descriptors::a_frozen_group_holds_nothing_of_the_host", frozen_group),
        busybox("escape::descriptors::a_command_has_no_inheritable_capability", no_inheritable_capability),
    ]
}

/// Runs a script in the guest `p` by attach, its streams redirected by a shell of the host.
fn attached(sandbox: &Sandbox, script: &str, redirection: &str) -> Outcome {
    let line = format!("\"$LXM\" attach p -- sh -c '{script}' {redirection}");
    on_host(sandbox, &line)
}

/// The same with the descriptors themselves: what the attack needs.
fn entered(sandbox: &Sandbox, script: &str, redirection: &str) -> Outcome {
    let leader = sandbox.leader("p");
    let line = format!("nsenter -t {leader} -U -m -p -S 0 -G 0 --wd=/ /bin/sh -c '{script}' {redirection}");
    on_host(sandbox, &line)
}

fn on_host(sandbox: &Sandbox, line: &str) -> Outcome {
    let mut shell = Command::new("sh");
    sandbox.environment(&mut shell);
    shell.env("LXM", crate::support::sandbox::program()).args(["-c", line]).current_dir(sandbox.root());
    command::bounded(shell, b"", Duration::from_secs(60))
}

fn in_guest(sandbox: &Sandbox, script: &str) -> String {
    sandbox.lxm(&["attach", "p", "--", "sh", "-c", script]).ok().stdout
}

/// Notes in the guest what its three streams are.
const NOTE: &str = "seen=$(for n in 0 1 2; do readlink /proc/$$/fd/$n; done); echo \"$seen\" > /root/seen";

fn no_open_file_of_the_host(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    fs::write(sandbox.path("file"), "of the host\n").unwrap();
    let sources = ["</dev/null", "<file", "<.", "<&-"];
    let sinks = [">/dev/null 2>&1", ">>out 2>err", ">out 2>&1", ">&- 2>&-", "2>/dev/null | cat"];
    for source in sources {
        for sink in sinks {
            attached(sandbox, NOTE, &format!("{source} {sink}"));
            let seen = in_guest(sandbox, "cat /root/seen; rm /root/seen");
            assert_eq!(seen.lines().count(), 3, "{source} {sink}: {seen}");
            assert!(seen.lines().all(|line| line.starts_with("pipe:")), "{source} {sink}: {seen}");
        }
    }
    // On a terminal of the host, all of it and in part: a terminal of the guest's own, or a pipe.
    for redirection in ["", "</dev/null", "| cat", "2>err"] {
        let script = format!("\"$LXM\" attach p -- sh -c '{NOTE}; ls -l /dev/pts >> /root/seen' {redirection}");
        assert_eq!(Terminal::script(sandbox, &script).ends(), 0, "{redirection}");
        let seen = in_guest(sandbox, "cat /root/seen; rm /root/seen");
        let of_guest = |line: &str| line.starts_with("pipe:") || line.starts_with("/dev/pts/");
        assert!(seen.lines().take(3).all(of_guest), "{redirection}: {seen}");
        let terminals = seen.lines().take(3).filter(|line| line.starts_with("/dev/pts/")).count();
        assert_eq!(
            terminals,
            [("", 3), ("2>err", 2)].into_iter().find(|(r, _)| *r == redirection).map_or(0, |(_, n)| n)
        );
    }
    // The means: with the descriptors themselves a guest sees files of the host.
    entered(sandbox, NOTE, "<file >out 2>&1").ok();
    let seen = in_guest(sandbox, "cat /root/seen");
    assert!(!seen.lines().any(|line| line.starts_with("pipe:")), "{seen}");
}

/// Reads what its output held before, and empties it.
const SPOIL: &str = "cat /proc/self/fd/1 > /root/read; : > /proc/self/fd/1; truncate -s 0 /proc/self/fd/1";

fn redirected_output(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    let log = sandbox.path("log");
    fs::write(&log, "secret of the host\n").unwrap();
    // A pipe is read by the process that opens it: the attack waits for itself, and the host for none.
    attached(sandbox, &format!("timeout 2 sh -c \"{SPOIL}\"; true"), ">>log 2>/dev/null").ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), "secret of the host\n");
    assert!(!in_guest(sandbox, "cat /root/read").contains("secret"));

    fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    entered(sandbox, &format!("timeout 2 sh -c \"{SPOIL}\"; true"), ">>log 2>/dev/null").ok();
    assert_ne!(fs::read_to_string(&log).unwrap(), "secret of the host\n", "the means are not there");
}

fn directory_as_input(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    fs::write(sandbox.path("host-file"), "").unwrap();
    let look = "ls /proc/self/fd/0/ /proc/self/fd/0/../ 2>/dev/null; true";
    let seen = attached(sandbox, look, "<.");
    assert!(!seen.stdout.contains("host-file"), "{seen}");
    entered(sandbox, look, "<.").ok().says("host-file");
}

fn what_is_typed_next(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    let spy = "(cat <&3 > /root/typed 2>/dev/null & ) 3<&0; echo left";
    let next = "; echo back; cat >/dev/null; echo gone";
    let type_secret = |line: String| {
        let mut terminal = Terminal::script(sandbox, &format!("{line} > out {next}"));
        terminal.shows("back");
        terminal.types("my-root-password\rmore\r\x04\x04");
        std::thread::sleep(Duration::from_millis(300));
        drop(terminal);
        in_guest(sandbox, "cat /root/typed; rm -f /root/typed")
    };
    assert_eq!(type_secret(format!("cd {}; \"$LXM\" attach p -- sh -c '{spy}'", sandbox.root().display())), "");
    let leader = sandbox.leader("p");
    let enter = format!("nsenter -t {leader} -U -m -p -S 0 -G 0 --wd=/ /bin/sh -c '{spy}'");
    // Of two who read a terminal each line reaches one, mostly by chance.
    let mut caught = (0..10).map(|_| type_secret(format!("cd {}; {enter}", sandbox.root().display())));
    let is_caught = |line: String| line.contains("my-root-password") || line.contains("more");
    assert!(caught.any(is_caught), "the means are not there");
}

/// Freezes the group of attached commands, and notes what it can see of a process that is born there.
const WATCH: &str = r#"
    g=/sys/fs/cgroup/.lxm; mkdir -p $g; echo 1 > $g/cgroup.freeze; echo frozen >> /root/log
    known=" $(ls /proc | tr '\n' ' ')"
    while [ ! -e /root/end ]; do
        for p in $(ls /proc | grep '^[0-9]'); do
            case "$known" in *" $p "*) continue;; esac
            grep -q '/\.lxm' /proc/$p/cgroup 2>/dev/null || continue
            known="$known$p "
            { echo "caught $p"; ls /proc/$p/root/; ls -l /proc/$p/fd; grep -E 'CapEff|Seccomp:' /proc/$p/status; } >> /root/log 2>&1
        done
    done
    echo 0 > $g/cgroup.freeze; echo thawed >> /root/log
"#;

/// In the root directory of the host, and of no guest of these trials.
const HOST_ONLY: &str = "boot\n";

fn frozen_group(sandbox: &Sandbox) {
    for more in [&["--privileged"][..], &[]] {
        sandbox.boot("p", Guest::Busybox, more);
        let leader = sandbox.leader("p");
        // Not in the group that it freezes: entered from outside, as a service of the guest would be.
        let user = if more.is_empty() { "-U -S 0 -G 0" } else { "" };
        let mut watcher = Command::new("nsenter");
        watcher.args(format!("-t {leader} {user} -m -p -C --wd=/ /bin/sh -c").split_whitespace()).arg(WATCH);
        let group = fs::read_to_string(format!("/proc/{leader}/cgroup")).unwrap();
        let group = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned();
        let v2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .find(|dir| fs::exists(format!("{dir}/cgroup.procs")).unwrap_or(false));
        let payload = format!("{}{group}", v2.expect("a cgroup2 tree"));
        let payload = payload.trim_end_matches("/init").to_owned();
        fs::create_dir_all(format!("{payload}/spy")).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("echo $$ > {payload}/spy/cgroup.procs; exec \"$@\"",), "sh"]);
        shell.arg(watcher.get_program()).args(watcher.get_args());
        let mut watcher = shell.stdin(Stdio::null()).spawn().unwrap();
        let root = format!("/proc/{leader}/root/root");
        let log = || fs::read_to_string(format!("{root}/log")).unwrap_or_default();
        eventually("the guest has frozen the group", Duration::from_secs(30), || log().contains("frozen"));

        let told = sandbox.lxm(&["attach", "p", "--", "touch", "/root/ran"]).fails(125);
        assert!(told.stderr.contains("frozen"), "{told}");
        assert!(told.took < Duration::from_secs(30), "{told}");
        let seen = log();
        assert!(!seen.contains(HOST_ONLY) && !seen.contains("socket:"), "{seen}");
        assert!(!seen.contains("caught") || !seen.contains("Seccomp:\t0"), "{seen}");

        if !more.is_empty() {
            // The means: a process of the host's tree in the guest's pid namespace and the frozen group.
            let mut means =
                Command::new("nsenter").args(["-t", &leader.to_string(), "-p", "sleep", "60"]).spawn().unwrap();
            let children = format!("/proc/{0}/task/{0}/children", means.id());
            let child = || fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
            eventually("a process is entered", Duration::from_secs(10), || !child().is_empty());
            fs::write(format!("{payload}/.lxm/cgroup.procs"), child()).unwrap();
            eventually("the guest sees the host's tree", Duration::from_secs(30), || {
                let seen = log();
                seen.contains(HOST_ONLY)
            });
            let child = child();
            Command::new("kill").args(["-9", &child]).status().unwrap();
            means.kill().ok();
            means.wait().ok();
        }
        fs::write(format!("{root}/end"), "").unwrap();
        command::wait(&mut watcher, Duration::from_secs(30)).expect("the guest's script ends");
        sandbox.lxm(&["attach", "p", "--", "true"]).ok();
        assert!(!fs::exists(format!("{root}/ran")).unwrap(), "a command ran that was given up");
        sandbox.lxm(&["destroy", "-f", "p"]).ok();
    }
}

/// CVE-2022-29162.
fn no_inheritable_capability(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    let status = in_guest(sandbox, "cat /proc/self/status");
    let inheritable = status.lines().find_map(|line| line.strip_prefix("CapInh:\t"));
    assert_eq!(inheritable, Some("0000000000000000"));
}
