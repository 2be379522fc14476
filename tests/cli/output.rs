//! What is printed: tables, JSON, and where it goes.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use super::{Place, Told};
use serde_json::Value;

#[test]
fn list_prints_names_to_a_pipe_and_a_table_on_request() {
    let place = Place::furnished();
    fs::create_dir(place.path("var/lib/lxm/Not a container")).unwrap();
    for (args, wanted) in [
        (&["list"][..], "db\nweb\n"),
        (&["ls", "-1"], "db\nweb\n"),
        (&["list", "--reverse"], "web\ndb\n"),
        (&["list", "w*"], "web\n"),
        (&["list", "?b"], "db\n"),
        (&["list", "--running"], ""),
        (&["list", "--stopped", "--running"], "db\nweb\n"),
        (&["list", "--stopped", "--sort", "memory"], "db\nweb\n"),
        (&["list", "--privileged"], ""),
        (&["list", "--unprivileged", "--autostart"], ""),
        (&["list", "-c", "name,state"], "NAME STATE\ndb   STOPPED\nweb  STOPPED\n"),
        (&["list", "-F", "NAME,TEMPLATE"], "NAME TEMPLATE\ndb   debian\nweb  debian\n"),
    ] {
        assert_eq!(place.lxm(args).ok().stdout, wanted, "{args:?}");
    }
    let table = place.lxm(&["list", "-f"]).ok().stdout;
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        ["NAME", "STATE", "PID", "IPV4", "IPV6", "MEMORY", "AUTOSTART", "TEMPLATE", "PRIVILEGED"],
        "{table}"
    );
    assert_eq!(Place::new().lxm(&["list"]).ok().stdout, "");
    assert_eq!(Place::new().lxm(&["list", "--format", "json"]).ok().json(), serde_json::json!([]));
}

#[test]
fn json_has_the_documented_fields_and_no_others() {
    let place = Place::furnished();
    let info = place.lxm(&["info", "web", "--format", "json"]).ok().json();
    let fields: Vec<&str> = info.as_object().unwrap().keys().map(String::as_str).collect();
    let mut documented = vec![
        "name",
        "state",
        "pid",
        "supervisor_pid",
        "uptime_s",
        "ipv4",
        "ipv6",
        "blocked_packets",
        "blocked_addresses",
        "links",
        "memory_bytes",
        "kmem_bytes",
        "cpu_s",
        "io_bytes",
        "processes",
        "autostart",
        "boot",
        "privileged",
        "ids",
        "description",
        "uuid",
        "template",
        "release",
        "arch",
        "image",
        "storage",
        "size_bytes",
        "shared_bytes",
        "created",
        "started",
        "init",
        "last_end",
        "failure",
        "init_type",
        "cgroup",
        "confinement",
        "stages",
    ];
    documented.sort_unstable();
    let mut sorted = fields.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, documented);
    for (field, value) in [
        ("name", "web".into()),
        ("state", "stopped".into()),
        ("pid", Value::Null),
        ("memory_bytes", Value::Null),
        ("ipv4", Value::Array(Vec::new())),
        ("privileged", false.into()),
        ("template", "debian".into()),
        ("release", "trixie".into()),
        ("ids", "589824:65536".into()),
        ("uuid", "2f1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11".into()),
    ] {
        assert_eq!(info[field], value, "{field}");
    }
    // A list measures disk space only where it is asked to.
    let list = place.lxm(&["list", "-F", "size", "--format", "json"]).ok().json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(list[1], info, "`list` and `info` say the same");
}

#[test]
fn info_has_the_lines_of_lxc_info_or_one_value_where_asked() {
    let place = Place::furnished();
    let told = place.lxm(&["info", "web"]).ok();
    assert!(told.stdout.starts_with("Name:           web\nState:          STOPPED\n"), "{told}");
    assert_eq!(place.lxm(&["info", "-s", "web"]).ok().stdout, "State:          STOPPED\n");
    assert_eq!(place.lxm(&["info", "-s", "-H", "-n", "web"]).ok().stdout, "STOPPED\n");
    assert_eq!(place.lxm(&["info", "-p", "-i", "-S", "web"]).ok().stdout, "");
}

#[test]
fn a_broken_container_does_not_hide_the_others() {
    for (file, text) in [
        ("config.toml", &b"version = [\n"[..]),
        ("config.toml", b"\xff\xfe\0\0"),
        ("config.toml", b""),
        ("origin.toml", b"template = 5\n"),
        ("origin.toml", b"\0"),
    ] {
        let place = Place::furnished();
        fs::write(place.path("var/lib/lxm/db").join(file), text).unwrap();
        assert_eq!(place.lxm(&["list"]).ok().stdout, "db\nweb\n");
        let table = place.lxm(&["list", "-f"]).ok().stdout;
        assert!(table.lines().any(|line| line.starts_with("web  STOPPED")), "{file}: {table}");
        let list = place.lxm(&["list", "--format", "json"]).ok().json();
        assert_eq!(list.as_array().unwrap().len(), 2, "{file}");
        place.lxm(&["info", "db"]).ok();
    }
    let place = Place::furnished();
    fs::remove_file(place.path("var/lib/lxm/db/config.toml")).unwrap();
    place.lxm(&["list", "-f"]).ok();
    place.lxm(&["info", "db"]).ok().complains("warning: read");
    place.lxm(&["config", "show", "db"]).fails(1).complains("No such file or directory");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::furnished();
    for args in [&["check"][..], &["list", "-f"], &["info", "web"], &["--help"], &["config", "show", "web"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = place.command(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        // `check` may find that something is missing.
        assert!(matches!(status.code(), Some(0 | 5)), "{args:?}: {status} {said}");
        assert!(!said.contains("pipe"), "{args:?}: {said}");
    }
}

#[test]
fn a_full_disk_is_told_and_not_taken_for_success() {
    let place = Place::furnished();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["list"]).stdout(full).output().unwrap();
    Told::from(output).fails(1).complains("No space left on device");
}

#[test]
fn quiet_is_quiet_but_for_errors_and_data() {
    let place = Place::furnished();
    fs::write(place.path("var/lib/lxm/db/config.toml"), "x = 1\n").unwrap();
    assert_ne!(place.lxm(&["info", "db"]).ok().stderr, "");
    let quiet = place.lxm(&["info", "-q", "db"]).ok();
    assert_eq!(quiet.stderr, "");
    assert!(quiet.stdout.contains("STOPPED"));
    place.lxm(&["info", "-q", "nobody"]).fails(3);
}

#[test]
fn check_says_of_each_thing_what_it_is_and_how_to_get_it() {
    let place = Place::new();
    let told = place.lxm(&["check", "--format", "json"]);
    assert!([0, 5].contains(&told.status), "{told}");
    let checks = told.json();
    let ids: Vec<&str> = checks.as_array().unwrap().iter().map(|check| check["id"].as_str().unwrap()).collect();
    for id in
        ["version", "rights", "userns", "seccomp", "lsm", "devpts", "cgroup-layout", "idmap", "overlay", "nft", "veth"]
    {
        assert!(ids.contains(&id), "no {id} in {ids:?}");
    }
    for check in checks.as_array().unwrap() {
        let verdict = check["verdict"].as_str().unwrap();
        assert!(["ok", "lacks", "missing", "unknown"].contains(&verdict), "{check}");
        assert_eq!(check["remedy"].is_null(), verdict == "ok", "{check}");
    }
    assert!(fs::read_dir(place.0.path()).unwrap().next().is_none(), "looking has left something");
}

#[test]
fn logs_are_shown_whole_or_by_their_last_lines() {
    let place = Place::furnished();
    assert_eq!(place.lxm(&["logs", "web"]).ok().stdout, "");
    fs::create_dir_all(place.path("var/log/lxm/web")).unwrap();
    fs::write(place.path("var/log/lxm/web/console.log.1"), "one\n").unwrap();
    fs::write(place.path("var/log/lxm/web/console.log"), "two\nthree\x1b[2J\n").unwrap();
    for (args, wanted) in [
        (&["logs", "web"][..], "one\ntwo\nthree\x1b[2J\n"),
        (&["logs", "-f", "web"], "one\ntwo\nthree\x1b[2J\n"),
        (&["logs", "-l", "2", "-n", "web"], "two\nthree\x1b[2J\n"),
        (&["logs", "web", "--tail", "0"], ""),
    ] {
        assert_eq!(place.lxm(args).ok().stdout, wanted, "{args:?}");
    }
}
