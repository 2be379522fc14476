//! Commands in the guest, its console and its log.

use std::time::Duration;

use crate::support::pty::Terminal;
use crate::support::{Guest, Sandbox, Trial, eventually};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox).limit(120);
    vec![
        probe("attach::gives_the_exit_status_of_the_command", gives_the_exit_status),
        probe("attach::keeps_output_and_error_apart", keeps_output_and_error_apart),
        probe("attach::carries_what_is_piped_through_it_whole", carries_what_is_piped),
        probe("attach::sees_what_the_guest_sees", sees_what_the_guest_sees),
        probe("attach::takes_user_environment_and_directory", takes_user_environment_and_directory),
        probe("attach::is_a_terminal_on_a_terminal", is_a_terminal),
        probe("attach::ends_with_the_guest", ends_with_the_guest),
        probe("attach::does_not_hang_on_a_frozen_guest", does_not_hang_on_a_frozen_guest),
        busybox("attach::a_command_that_does_not_hear_a_signal_is_left", second_signal),
        busybox("attach::signal_before_the_news", signal_before_the_news),
        busybox("attach::two_signals_at_once_count_as_one", two_signals_at_once),
        probe("attach::users_outside_of_the_guests_range_are_named", users_outside),
        probe("attach::needs_a_running_container", needs_a_running_container),
        probe("attach::a_command_ends_with_its_terminal", a_terminal_that_is_gone),
        busybox("attach::a_command_ends_without_what_it_leaves_behind", what_is_left_behind),
        busybox("attach::streams_may_be_closed_or_full", closed_or_full),
        busybox("attach::the_end_of_input_reaches_a_terminal", end_of_input_on_a_terminal),
        busybox("attach::a_terminal_takes_all_that_is_piped_into_it", much_into_a_terminal),
        busybox("attach::a_reader_that_has_enough_ends_the_command", a_reader_that_has_enough),
        busybox("attach::an_output_that_does_not_block_loses_nothing", an_output_that_does_not_block),
        busybox("attach::what_a_command_has_not_read_is_left", unread_input_is_left),
        busybox("attach::errors_go_elsewhere_on_a_terminal", errors_elsewhere),
        busybox("attach::one_file_for_both_outputs_keeps_their_order", one_file_for_both),
        busybox("attach::users_open_their_streams_by_name", streams_by_name),
        probe("attach::console_shows_the_boot_and_can_be_left", console),
        probe("attach::console_takes_the_size_of_the_window", console_size),
        probe("attach::the_log_holds_the_console_and_can_be_followed", log),
    ]
}

fn attach(sandbox: &Sandbox, more: &[&str]) -> crate::support::Outcome {
    let args: Vec<&str> = ["attach", "p"].iter().chain(more).copied().collect();
    sandbox.lxm(&args)
}

fn gives_the_exit_status(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    for status in [0, 1, 7, 124, 255] {
        attach(sandbox, &["--", "/bin/probe", "exit", &status.to_string()]).fails(status);
    }
    for (signal, status) in [("9", 137), ("15", 143), ("6", 134)] {
        attach(sandbox, &["--", "/bin/probe", "signal", signal]).fails(status);
    }
    attach(sandbox, &["--", "/bin/missing"]).fails(127).complains("/bin/missing");
    attach(sandbox, &["--", "/etc/passwd"]).fails(126).complains("/etc/passwd");
    // Found along the guest's PATH.
    attach(sandbox, &["--", "probe", "exit", "3"]).fails(3);
    // Without a command: the login shell of the user.
    attach(sandbox, &[]).ok().says("shell -probe");
    sandbox.lxm(&["exec", "p", "--", "/bin/probe", "exit", "4"]).fails(4);
    sandbox.lxm(&["attach", "-n", "p", "--", "/bin/probe", "exit", "5"]).fails(5);
    sandbox.lxm(&["exec", "p", "/bin/probe", "exit", "6"]).fails(6);
}

fn keeps_output_and_error_apart(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let told = attach(sandbox, &["--", "/bin/probe", "both"]).ok();
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("to output\n", "to error\n"));
}

fn carries_what_is_piped(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let line = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n";
    let input: Vec<u8> = line.iter().copied().cycle().take(8 << 20).collect();
    let told = sandbox.lxm_with(&["attach", "p", "--", "/bin/probe", "cat"], &input, Duration::from_secs(30)).ok();
    assert_eq!(told.stdout.len(), input.len());
    assert!(told.stdout.as_bytes() == input, "something else came back");
}

fn sees_what_the_guest_sees(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let init = crate::contract::first_report(sandbox, "p");
    let report = attach(sandbox, &["--", "/bin/probe", "report"]).ok().json();
    for key in ["uid", "gid", "uid_map", "hostname", "boot_id", "cap_bounding", "seccomp", "limits", "links"] {
        assert_eq!(report[key], init[key], "{key}");
    }
    assert_eq!(report["cwd"], "/root");
    assert_eq!(report["env"]["container"], "lxm");
    assert!(report["env"]["PATH"].as_str().is_some_and(|path| path.contains("/bin")));
    let names: Vec<&String> = report["env"].as_object().unwrap().keys().collect();
    assert!(!names.iter().any(|name| name.starts_with("LXM_")), "{names:?}");
    let open: Vec<&String> = report["descriptors"].as_object().unwrap().keys().collect();
    assert_eq!(open, ["0", "1", "2"]);
    let mounts = report["mounts"].to_string();
    assert!(!mounts.contains(sandbox.root().to_str().unwrap()), "it sees mounts of the host: {mounts}");
}

fn takes_user_environment_and_directory(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let report = |more: &[&str]| attach(sandbox, &[more, &["--", "/bin/probe", "report"]].concat()).ok().json();
    let daemon = report(&["--user", "daemon"]);
    assert_eq!(daemon["uid"], "1\t1\t1\t1");
    assert_eq!(daemon["gid"], "1\t1\t1\t1");
    assert_eq!(daemon["groups"], "1 50");
    assert_eq!(daemon["cap_effective"], "0000000000000000");
    assert_eq!(report(&["--user", "12:34"])["uid"], "12\t12\t12\t12");
    assert_eq!(report(&["--user", "12:34"])["gid"], "34\t34\t34\t34");
    assert_eq!(report(&["--env", "A=b=c", "--env", "PATH=/x"])["env"]["A"], "b=c");
    assert_eq!(report(&["--cwd", "/tmp"])["cwd"], "/tmp");
    let bare = report(&["--clear-env", "--env", "ONLY=this"]);
    assert_eq!(bare["env"]["ONLY"], "this");
    assert!(bare["env"].get("LANG").is_none());
    attach(sandbox, &["--user", "nobody-of-that-name", "--", "/bin/probe", "exit", "0"])
        .fails(125)
        .complains("nobody-of-that-name");
}

fn is_a_terminal(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let mut terminal = Terminal::open(sandbox, &["attach", "p", "--", "/bin/probe", "size"], 33, 99);
    terminal.shows("33 rows 99 cols");
    assert_eq!(terminal.ends(), 0);
    let mut terminal = Terminal::open(sandbox, &["attach", "p", "--", "/bin/probe", "talk"], 24, 80);
    terminal.shows("ready");
    terminal.types("typed\r");
    terminal.shows("typed\r\ntyped\r\n");
    // ^C reaches the command, not lxm.
    terminal.types("\x03");
    assert_eq!(terminal.ends(), 130);
    attach(sandbox, &["--", "/bin/probe", "size"]).ok().says("no terminal");
}

fn ends_with_the_guest(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let mut command = sandbox.command();
    command.args(["attach", "p", "--", "/bin/probe", "sleep", "60"]);
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    let status = crate::support::command::wait(&mut child, Duration::from_secs(5));
    let status = status.expect("attach outlives its guest").code();
    assert!([Some(125), Some(137)].contains(&status), "{status:?}");
}

fn does_not_hang_on_a_frozen_guest(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    sandbox.lxm(&["freeze", "p"]).ok();
    let told = attach(sandbox, &["--", "/bin/probe", "exit", "0"]).fails(125);
    assert!(told.took < Duration::from_secs(10), "{told}");
    assert!(told.stderr.contains("froz"), "it does not say why: {told}");
    sandbox.lxm(&["unfreeze", "p"]).ok();
    attach(sandbox, &["--", "/bin/probe", "exit", "6"]).fails(6);
}

/// As one that waits for a disk that is gone: it does not die of a SIGTERM. (A frozen one does, in v2 groups.)
fn second_signal(sandbox: &Sandbox) {
    use std::io::BufRead;

    use nix::sys::signal::{Signal, kill};
    sandbox.boot("p", Guest::Busybox, &[]);
    let mut command = sandbox.command();
    command.args(["attach", "p", "--", "sh", "-c", "trap '' TERM; echo ready; exec sleep 4711"]);
    let mut client = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    std::io::BufReader::new(client.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n");
    let sleeps = || {
        let is_it = |entry: std::fs::DirEntry| {
            std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.ends_with(b"sleep\x004711\0"))
        };
        std::fs::read_dir("/proc").unwrap().flatten().any(is_it)
    };
    eventually("the command runs", Duration::from_secs(20), sleeps);
    let pid = nix::unistd::Pid::from_raw(client.id() as i32);
    kill(pid, Signal::SIGTERM).unwrap();
    eventually("the first signal is passed on", Duration::from_secs(20), || has_taken_sigterm(pid));
    assert!(client.try_wait().unwrap().is_none() && sleeps(), "one signal is for the command");
    // Those within a second of it count as one; a later one ends it.
    let mut status = None;
    eventually("attach ends", Duration::from_secs(20), || {
        let _ = kill(pid, Signal::SIGTERM);
        status = crate::support::command::wait(&mut client, Duration::from_millis(300));
        status.is_some()
    });
    assert_eq!(crate::support::command::status_of(status.unwrap()), 143);
    eventually("the command is hung up on", Duration::from_secs(20), || !sleeps());
}

/// The command runs and has written, but its helper has not ended, which the supervisor waits for.
fn signal_before_the_news(sandbox: &Sandbox) {
    use std::io::{BufRead, Read};

    use nix::sys::signal::{Signal, kill};
    sandbox.create("p", Guest::Busybox, &[]);
    let mut start = sandbox.command();
    start.args(["start", "p"]).env("LXM_HELPER_LINGERS", "4000");
    crate::support::command::bounded(start, b"", Duration::from_secs(20)).ok();
    let mut command = sandbox.command();
    let script = "trap 'echo ended; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    command.args(["attach", "p", "--", "sh", "-c", script]);
    let mut client = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(client.stdout.take().unwrap());
    let mut said = String::new();
    output.read_line(&mut said).unwrap();
    kill(nix::unistd::Pid::from_raw(client.id() as i32), Signal::SIGTERM).unwrap();
    output.read_to_string(&mut said).unwrap();
    let status = crate::support::command::status_of(client.wait().unwrap());
    assert_eq!((status, said.as_str()), (5, "ready\nended\n"));
}

/// As timeout(1) sends them, to its child and then to the group that both are of: the command ends in
/// its own way.
fn two_signals_at_once(sandbox: &Sandbox) {
    use std::io::{BufRead, Read};
    use std::time::Instant;

    use nix::sys::signal::{Signal, kill};
    sandbox.boot("p", Guest::Busybox, &[]);
    let script = "trap 'until [ -e /go ]; do sleep 0.1; done; i=0; while [ $i -lt 5000 ]; do echo $i; i=$((i+1)); done; exit 5' \
                  TERM; echo ready; while :; do sleep 0.1; done";
    // On a machine so busy that a second goes by between the two, they are not at once.
    for _ in 0..10 {
        attach(sandbox, &["--", "rm", "-f", "/go"]).ok();
        let mut command = sandbox.command();
        command.args(["attach", "p", "--", "sh", "-c", script]);
        let mut client = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut output = std::io::BufReader::new(client.stdout.take().unwrap());
        let mut said = String::new();
        output.read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        let pid = nix::unistd::Pid::from_raw(client.id() as i32);
        let first = Instant::now();
        for _ in 0..2 {
            kill(pid, Signal::SIGTERM).unwrap();
            eventually("the signal is taken", Duration::from_secs(20), || has_taken_sigterm(pid));
        }
        let at_once = first.elapsed() < Duration::from_millis(900);
        let ended = client.try_wait().unwrap();
        attach(sandbox, &["--", "touch", "/go"]).ok();
        said.clear();
        output.read_to_string(&mut said).unwrap();
        let status = crate::support::command::status_of(client.wait().unwrap());
        if at_once {
            assert!(ended.is_none() && status == 5, "{ended:?}, {status}");
            assert_eq!((said.lines().count(), said.lines().last()), (5000, Some("4999")));
            return;
        }
    }
    panic!("two signals take a second each time");
}

/// Whether none waits for the process any more.
fn has_taken_sigterm(pid: nix::unistd::Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| !status.contains("ShdPnd:\t0000000000004000"))
}

fn users_outside(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    attach(sandbox, &["-u", "65535", "--", "/bin/probe", "exit", "0"]).ok();
    let told = attach(sandbox, &["-u", "65536", "--", "/bin/probe", "exit", "0"]).fails(125);
    told.complains("the user 65536 is not an id of the guest, which has 0 to 65535");
    let told = attach(sandbox, &["-u", "1:70000", "-t", "--", "/bin/probe", "exit", "0"]).fails(125);
    told.complains("the group 70000");
}

fn needs_a_running_container(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    attach(sandbox, &["--", "/bin/probe", "exit", "0"]).fails(125).complains("not run");
    sandbox.lxm(&["attach", "nobody", "--", "/bin/probe"]).fails(125).complains("nobody");
}

fn a_terminal_that_is_gone(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let terminal = Terminal::open(sandbox, &["attach", "p", "--", "/bin/probe", "sleep", "600"], 24, 80);
    let processes = || sandbox.lxm(&["attach", "p", "--", "/bin/probe", "report"]).ok().json()["processes"].clone();
    eventually("the command runs", Duration::from_secs(5), || processes().as_array().unwrap().len() == 3);
    // `kill -9` of lxm, as when a connection is cut.
    drop(terminal);
    eventually("the command has ended", Duration::from_secs(5), || processes().as_array().unwrap().len() == 2);
}

/// Runs a line of shell on the host; `$ATTACH` is `lxm attach p`.
fn on_host(sandbox: &Sandbox, line: &str, input: &[u8]) -> crate::support::Outcome {
    let mut shell = std::process::Command::new("sh");
    sandbox.environment(&mut shell);
    let program = crate::support::sandbox::program();
    shell.env("ATTACH", format!("{} attach p", program.display())).args(["-c", line]).current_dir(sandbox.root());
    crate::support::command::bounded(shell, input, Duration::from_secs(60))
}

fn what_is_left_behind(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    // `bounded` fails where something keeps the output open.
    let told = attach(sandbox, &["--", "sh", "-c", "sleep 1000 & yes & seq 20000"]).ok();
    let numbers: Vec<&str> = told.stdout.lines().filter(|line| *line != "y" && !line.is_empty()).collect();
    assert!(numbers.last().is_some_and(|last| last.ends_with("20000")), "{:?}", numbers.last());
    let mut terminal = Terminal::open(sandbox, &["attach", "p", "--", "sh", "-c", "sleep 1000 & seq 3000"], 24, 80);
    terminal.shows("3000");
    assert_eq!(terminal.ends(), 0);
}

fn closed_or_full(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "</dev/null >/dev/null", "2>/dev/full"] {
        on_host(sandbox, &format!("$ATTACH -- sh -c 'exit 3' {closed}"), b"").fails(3);
    }
    on_host(sandbox, "$ATTACH -- echo lost >/dev/full", b"").fails(125).complains("No space left on device");
    on_host(sandbox, "$ATTACH -- cat <.", b"").fails(125).complains("Is a directory");
    // What is written before a stream breaks has been carried.
    on_host(sandbox, "$ATTACH -- sh -c 'echo one; echo two >&2' 2>&-", b"").ok().says("one");
}

fn end_of_input_on_a_terminal(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    for text in ["", "abc", "abc\n", "abc\ndef"] {
        let told = on_host(sandbox, &format!("printf '{text}' | $ATTACH -t -- sh -c 'stty -echo; cat; cat'"), b"").ok();
        let carried = told.stdout.replace("\r\n", "\n");
        assert!(carried.ends_with(text), "{text:?}: {carried:?}");
    }
    let told = on_host(sandbox, "echo 'echo $((6 * 7))' | $ATTACH -t", b"").ok();
    assert!(told.stdout.contains("42"), "{told}");
}

fn much_into_a_terminal(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    let lines: Vec<u8> = (0..60_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let one_line = vec![b'x'; 350_000];
    for input in [lines, one_line] {
        // It echoes all of it, so that both directions are full.
        on_host(sandbox, "$ATTACH -t -- sh -c 'cat > /root/got'", &input).ok();
        let got = on_host(sandbox, "$ATTACH -- cat /root/got", b"").ok();
        assert_eq!(got.stdout.len(), input.len());
        assert!(got.stdout.as_bytes() == input, "something else arrived");
    }
}

fn a_reader_that_has_enough(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    for terminal in ["", "-t"] {
        let told = on_host(sandbox, &format!("$ATTACH {terminal} -- yes | head -n 1"), b"").ok();
        assert_eq!(told.stdout.trim_end(), "y");
    }
    let running = || attach(sandbox, &["--", "pidof", "yes"]).status == 0;
    eventually("no command is left", Duration::from_secs(10), || !running());
}

fn an_output_that_does_not_block(sandbox: &Sandbox) {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    sandbox.boot("p", Guest::Busybox, &[]);
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let (mut pipe, pipe_end) = std::io::pipe().unwrap();
    let pipe_end = OwnedFd::from(pipe_end);
    nix::fcntl::fcntl(&pipe_end, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    for (output, reader) in
        [(OwnedFd::from(theirs), &mut ours as &mut dyn Read), (pipe_end, &mut pipe as &mut dyn Read)]
    {
        let mut command = sandbox.command();
        command.args(["attach", "p", "--", "seq", "100000"]).stdin(std::process::Stdio::null()).stdout(output);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut got = Vec::new();
        let mut buffer = [0; 2000];
        while let Ok(length @ 1..) = reader.read(&mut buffer) {
            got.extend(&buffer[..length]);
            if got.len() % 50_000 < length {
                // A slow reader: its buffer is full most of the time.
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(child.wait().unwrap().success());
        assert_eq!((got.len(), got.ends_with(b"99999\n100000\n")), (588_895, true));
    }
}

fn unread_input_is_left(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    std::fs::write(sandbox.path("list"), "one\ntwo\nthree\n").unwrap();
    let told = on_host(sandbox, "while read name; do echo \"$name\"; $ATTACH -- true; done < list", b"").ok();
    assert_eq!(told.stdout, "one\ntwo\nthree\n");
    // A command that reads takes what it reads.
    let told = on_host(sandbox, "{ $ATTACH -- head -c 4; cat; } < list", b"").ok();
    assert!(told.stdout.starts_with("one\n"), "{told}");
}

fn errors_elsewhere(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    let errors = sandbox.path("errors").display().to_string();
    let script = format!("\"$LXM\" attach p -- sh -c 'tty; echo wrong >&2' 2> {errors}");
    let mut terminal = Terminal::script(sandbox, &script);
    assert!(!terminal.shows("/dev/pts/").contains("wrong"));
    assert_eq!(terminal.ends(), 0);
    assert_eq!(std::fs::read_to_string(errors).unwrap(), "wrong\n");
}

fn one_file_for_both(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    let script = "for n in 1 2 3 4 5; do echo $n; echo $n >&2; done";
    let told = on_host(sandbox, &format!("$ATTACH -- sh -c '{script}' > both 2>&1; cat both"), b"").ok();
    assert_eq!(told.stdout, "1\n1\n2\n2\n3\n3\n4\n4\n5\n5\n");
}

fn streams_by_name(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    let script = "cat /dev/stdin > /dev/stdout; echo wrong > /dev/stderr";
    for user in ["0", "1000"] {
        let told = on_host(sandbox, &format!("echo in | $ATTACH -u {user} -- sh -c '{script}'"), b"").ok();
        assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("in\n", "wrong\n"), "{user}");
    }
}

fn console(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let mut console = Terminal::open(sandbox, &["console", "p"], 24, 80);
    console.shows("PROBE {");
    console.types("hello there\r");
    console.shows("PROBE-HEARD hello there");
    console.types("\x01q");
    assert_eq!(console.ends(), 0);
    let mut again = Terminal::open(sandbox, &["console", "p"], 24, 80);
    again.shows("PROBE {");
    again.shows("PROBE-HEARD hello there");
    // ^] three times, as machinectl has it.
    again.types("\x1d\x1d\x1d");
    assert_eq!(again.ends(), 0);
    let mut literal = Terminal::open(sandbox, &["console", "p"], 24, 80);
    // ^a ^a is a ^a for the guest.
    literal.types("\x01\x01b\r");
    literal.shows("PROBE-HEARD \u{1}b");
    sandbox.lxm(&["stop", "p"]).ok();
    literal.ends();
    sandbox.lxm(&["console", "p"]).fails(4);
}

fn console_size(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let mut console = Terminal::open(sandbox, &["console", "p"], 43, 111);
    console.types("size\r");
    console.shows("PROBE-SIZE 43 rows 111 cols");
}

fn log(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    assert!(sandbox.console_log("p").contains("PROBE {"));
    let mut follower = Terminal::open(sandbox, &["logs", "-f", "p"], 24, 80);
    follower.shows("PROBE {");
    let mut console = Terminal::open(sandbox, &["console", "p"], 24, 80);
    console.types("into the log\r");
    follower.shows("PROBE-HEARD into the log");
    // More than any ring keeps: the end is there, and the file has a bound.
    console.types("fill 200000\r");
    console.shows("line 199999 of many");
    let log = sandbox.layout().log_dir(&"p".parse().unwrap());
    eventually("the log holds the last line", Duration::from_secs(10), || {
        sandbox.console_log("p").contains("line 199999 of many")
    });
    let size: u64 = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(size < 3 << 20, "the log has {size} bytes");
    sandbox.lxm(&["stop", "p"]).ok();
    assert!(sandbox.console_log("p").contains("PROBE-SIGNAL"), "the log is not there when it has stopped");
}
