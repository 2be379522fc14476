//! Many at a time, and one for long: the scenarios of Incus' suites `concurrent` and `fdleak`.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::support::pty::Terminal;
use crate::support::sandbox::program;
use crate::support::{Guest, Outcome, Sandbox, Trial, eventually};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    vec![
        probe("many::fifty_live_at_once", fifty).limit(300),
        probe("many::of_ten_that_make_the_same_name_one_does", same_name),
        probe("many::a_supervisor_keeps_no_descriptor_of_its_clients", clients).limit(180),
        Trial::new("many::the_bridge_s_server_keeps_nothing_of_its_guests", lives).guest(Guest::Busybox).limit(180),
    ]
}

/// Runs a verb for all of them at the same time.
fn at_once(sandbox: &Sandbox, names: &[String], args: impl Fn(&str) -> Vec<String> + Sync) -> Vec<Outcome> {
    let run = |name: &String| sandbox.lxm_with(&args(name), b"", Duration::from_secs(180));
    std::thread::scope(|scope| {
        let running: Vec<_> = names.iter().map(|name| scope.spawn(move || run(name))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn words(verb: &[&str], name: &str) -> Vec<String> {
    let mut words: Vec<String> = verb.iter().map(|word| word.to_string()).collect();
    words.push(name.to_owned());
    words
}

fn create_words(name: &str) -> Vec<String> {
    [words(&["create", "--network", "none"], name), Guest::Probe.create_arguments()].concat()
}

fn fifty(sandbox: &Sandbox) {
    let names: Vec<String> = (0..50).map(|n| format!("p{n}")).collect();
    let all = |verb: &[&str]| {
        for told in at_once(sandbox, &names, |name| words(verb, name)) {
            told.ok();
        }
    };
    for told in at_once(sandbox, &names, create_words) {
        told.ok();
    }
    all(&["start"]);
    let list = sandbox.lxm(&["list", "--format", "json"]).ok().json();
    let of = |field: &str| -> BTreeSet<String> {
        let rows = list.as_array().unwrap().iter();
        rows.map(|row| row[field].to_string()).collect()
    };
    assert_eq!(of("state"), BTreeSet::from(["\"running\"".to_owned()]), "{list}");
    for field in ["pid", "supervisor_pid", "ids", "uuid"] {
        assert_eq!(of(field).len(), names.len(), "`{field}` is each one's own: {list}");
    }
    for told in
        at_once(sandbox, &names, |name| ["attach", name, "--", "/bin/probe", "exit", "7"].map(String::from).into())
    {
        told.fails(7);
    }
    all(&["restart", "-k"]);
    all(&["stop", "-k"]);
    all(&["destroy"]);
    assert_eq!(sandbox.lxm(&["list", "--format", "json"]).ok().json().as_array().unwrap().len(), 0);
    sandbox.check_leaks();
}

fn same_name(sandbox: &Sandbox) {
    let names = vec!["p".to_owned(); 10];
    let statuses = |told: Vec<Outcome>| told.iter().filter(|told| told.status == 0).count();
    assert_eq!(statuses(at_once(sandbox, &names, create_words)), 1);
    assert_eq!(statuses(at_once(sandbox, &names, |name| words(&["start"], name))), 1);
    assert_eq!(statuses(at_once(sandbox, &names, |name| words(&["stop", "-k"], name))), 1);
    // One that another has begun to destroy is finished by whoever comes first.
    let destroyed = at_once(sandbox, &names, |name| words(&["destroy"], name));
    assert!(destroyed.iter().all(|told| [0, 3].contains(&told.status)), "{destroyed:?}");
    assert!(statuses(destroyed) >= 1);
    sandbox.check_leaks();
}

/// How many descriptors a process has.
fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn clients(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let supervisor = sandbox.supervisor("p");
    let round = || {
        sandbox.lxm(&["attach", "p", "--", "/bin/probe", "exit", "7"]).fails(7);
        sandbox.lxm(&["attach", "p", "--", "/bin/missing"]).fails(127);
        let mut terminal = Terminal::open(sandbox, &["attach", "p", "--", "/bin/probe", "talk"], 24, 80);
        terminal.shows("ready");
        // Cut off, as `kill -9` does.
        drop(terminal);
        let mut console = Terminal::open(sandbox, &["console", "p"], 24, 80);
        console.shows("PROBE {");
        drop(console);
        sandbox.lxm(&["freeze", "p"]).ok();
        sandbox.lxm(&["unfreeze", "p"]).ok();
        let mut waiting = sandbox.command().args(["wait", "p", "--for", "stopped"]).spawn().unwrap();
        sandbox.lxm(&["info", "p"]).ok();
        waiting.kill().unwrap();
        waiting.wait().unwrap();
    };
    round();
    let before = descriptors(supervisor);
    assert!(before > 3, "it has {before}");
    for _ in 0..15 {
        round();
    }
    eventually("it has closed all of its clients", Duration::from_secs(10), || descriptors(supervisor) == before);
    assert_eq!(sandbox.supervisor("p"), supervisor);
}

/// Processes of lxm's but for this one's commands: how many, and with how many descriptors.
fn ours() -> (usize, usize) {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_ours = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program());
    let ours: Vec<i32> = pids.filter(is_ours).collect();
    (ours.len(), ours.iter().map(|pid| descriptors(*pid)).sum())
}

fn lives(sandbox: &Sandbox) {
    let live = || {
        crate::network::create(sandbox, "web", "publish = [\"8080:80\"]");
        crate::network::start(sandbox, "web");
        sandbox.lxm(&["destroy", "-f", "web"]).ok();
    };
    live();
    // What follows the last guest's end is done by then, and settles again each time.
    let mut before = ours();
    eventually("server and watchdog have settled", Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(500));
        let last = std::mem::replace(&mut before, ours());
        last == before
    });
    assert!(before.0 >= 1 && before.1 > 3, "{before:?}");
    for _ in 0..20 {
        live();
    }
    eventually("it has what it had", Duration::from_secs(10), || ours() == before);
}
