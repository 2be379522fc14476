//! Every verb answers in JSON when it is asked to: docs/JSON.md says what.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Guest, Outcome, Sandbox, Trial};

pub fn trials() -> Vec<Trial> {
    vec![
        // Images are removed in it: it has a store of its own.
        Trial::new("json::every_verb_prints_one_document", every_verb),
        Trial::new("json::several_names_give_one_list_with_their_errors", several).guest(Guest::Probe),
        Trial::new("json::every_failing_verb_prints_its_error", errors),
    ]
}

/// Verbs with what they are called with, in an order in which each of them works.
const CALLS: &[(&str, &[&str])] = &[
    ("create", &["web", "-t", "busybox", "--network", "none", "--storage", "dir"]),
    ("start", &["web", "--wait", "booted"]),
    ("list", &[]),
    ("info", &["web"]),
    ("freeze", &["web"]),
    ("unfreeze", &["web"]),
    ("push", &["/etc/hostname", "web:/root/name"]),
    ("pull", &["web:/root/name", "TMP/name"]),
    ("restart", &["web", "-k"]),
    ("stop", &["web", "-k"]),
    ("wait", &["web", "--for", "stopped"]),
    ("start", &["web"]),
    ("kill", &["web"]),
    ("rename", &["web", "www"]),
    ("copy", &["www", "web"]),
    ("config set", &["web", "limits.pids", "500"]),
    ("config get", &["web", "limits.pids"]),
    ("config unset", &["web", "limits.pids"]),
    ("config show", &["web"]),
    ("config edit", &["web"]),
    ("diff", &["web"]),
    ("mount", &["web"]),
    ("umount", &["web"]),
    ("snapshot create", &["web", "one", "-c", "a comment"]),
    ("snapshot list", &["web"]),
    ("snapshot show", &["web", "one"]),
    ("snapshot restore", &["web", "one"]),
    ("snapshot rename", &["web", "one", "two"]),
    ("snapshot delete", &["web", "two"]),
    ("snapshot tick", &[]),
    ("export", &["web", "-o", "TMP/web.tar"]),
    ("import", &["TMP/web.tar", "-n", "again"]),
    ("publish", &["web", "mine"]),
    ("image list", &[]),
    ("image available", &[]),
    ("image refresh", &["BUSYBOX"]),
    ("image rm", &["MINE"]),
    ("network up", &[]),
    ("network show", &[]),
    ("network set", &["lxmbr0", "mtu", "1400"]),
    ("network create", &["lxmbr7", "--subnet", "10.99.7.1/24"]),
    ("network delete", &["lxmbr7"]),
    ("network down", &[]),
    ("enable", &["web"]),
    ("boot-report", &[]),
    ("disable", &["web"]),
    ("autostart", &[]),
    ("adopt", &["web"]),
    ("ssh-config", &[]),
    ("gc", &[]),
    ("check", &[]),
    ("destroy", &["web", "www", "again"]),
];

/// Verbs whose standard output is not lxm's.
const STREAMS: &[&str] = &["attach", "console", "ssh", "logs"];

/// Every verb that people type, and those below it.
fn verbs() -> BTreeSet<String> {
    fn below(command: &clap::Command, path: &str, all: &mut BTreeSet<String>) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let path = format!("{path}{}", verb.get_name());
            match verb.has_subcommands() {
                true => below(verb, &format!("{path} "), all),
                false => assert!(all.insert(path)),
            }
        }
    }
    let mut all = BTreeSet::new();
    below(&lxm::command(), "", &mut all);
    // A server, which ends when its bridge does.
    all.remove("network serve");
    all
}

fn asked(sandbox: &Sandbox, verb: &str, args: &[&str]) -> Outcome {
    let dir = sandbox.path("tmp");
    std::fs::create_dir_all(&dir).unwrap();
    let mut words: Vec<String> = verb.split(' ').chain(["--format", "json"]).map(str::to_owned).collect();
    let image = |template: &str| {
        let list = sandbox.lxm(&["image", "list", "--format", "json"]).ok().json();
        let image = list.as_array().unwrap().iter().find(|image| image["template"] == template).cloned();
        image.and_then(|image| Some(image["id"].as_str()?.to_owned())).expect("it is listed")
    };
    words.extend(args.iter().map(|arg| match *arg {
        "BUSYBOX" => image("busybox"),
        "MINE" => image("mine"),
        arg => arg.replace("TMP", dir.to_str().unwrap()),
    }));
    let mut command = sandbox.command();
    command.args(words).env("EDITOR", "true");
    crate::support::command::bounded(command, b"", Duration::from_secs(60))
}

fn every_verb(sandbox: &Sandbox) {
    let called: BTreeSet<String> = CALLS.iter().map(|(verb, _)| verb.to_string()).collect();
    let streams: BTreeSet<String> = STREAMS.iter().map(|verb| verb.to_string()).collect();
    assert_eq!(verbs(), &called | &streams, "a verb is not tried here");
    for (verb, args) in CALLS {
        let outcome = asked(sandbox, verb, args);
        // That something is missing here, and that no server is reached, is said beside the result.
        let may_fail = ["check", "image available"].contains(verb);
        let outcome = if may_fail { outcome } else { outcome.ok() };
        let document = outcome.json();
        // Names of settings are data.
        if !["config show", "config get"].contains(verb) {
            keys_are_in_one_case(&document, &outcome);
        }
        if outcome.status != 0 {
            assert!(outcome.stderr.starts_with("{\n  \"error\": {"), "{outcome}");
        } else if *verb != "check" {
            assert_eq!(outcome.stderr, "", "{outcome}");
        }
        let first = document.get(0).unwrap_or(&document);
        if let Some(by) = first.get("verb") {
            assert_eq!((by.as_str(), &first["error"]), (Some(*verb), &Value::Null), "{outcome}");
            assert!(first["name"].is_string() && first["notes"].is_array(), "{outcome}");
        }
    }
}

fn keys_are_in_one_case(value: &Value, outcome: &Outcome) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let is_snake_case = key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                assert!(is_snake_case, "`{key}` in {outcome}");
                keys_are_in_one_case(value, outcome);
            }
        }
        Value::Array(array) => array.iter().for_each(|value| keys_are_in_one_case(value, outcome)),
        _ => {}
    }
}

fn several(sandbox: &Sandbox) {
    sandbox.create("a", Guest::Probe, &[]);
    sandbox.create("b", Guest::Probe, &[]);
    let outcome = asked(sandbox, "start", &["b", "nobody", "a"]).fails(3);
    let list = outcome.json();
    let named: Vec<_> = list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["b", "nobody", "a"]);
    assert_eq!((&list[0]["error"], &list[2]["error"]), (&Value::Null, &Value::Null));
    assert_eq!(list[1]["error"]["status"], 3);
    let error: Value = serde_json::from_str(&outcome.stderr).unwrap();
    assert_eq!(error["error"], list[1]["error"]);
    // What is said to people is in the entry of whom it is about, also from a process of its own.
    let stopped = asked(sandbox, "stop", &["-t", "100ms", "a", "b"]).ok().json();
    for entry in stopped.as_array().unwrap() {
        let notes = entry["notes"].to_string();
        assert!(notes.contains(&format!("`{}`", entry["name"].as_str().unwrap())), "{entry}");
        assert!(entry["killed"].is_boolean(), "{entry}");
    }
    let both = asked(sandbox, "stop", &["x", "y"]).fails(3);
    assert!(both.stderr.contains("2 of 2 failed"), "{both}");
    assert_eq!(asked(sandbox, "stop", &["--all"]).ok().json(), serde_json::json!([]));
    assert_eq!(asked(sandbox, "destroy", &["a"]).ok().json()[0]["notes"], serde_json::json!(["destroyed `a`"]));
}

fn errors(sandbox: &Sandbox) {
    for (verb, args) in CALLS {
        // With a word too many, and for nobody.
        for args in [&["--frobnicate"][..], &args.iter().map(|_| "nobody").collect::<Vec<_>>()[..]] {
            let outcome = asked(sandbox, verb, args);
            if outcome.status == 0 {
                continue;
            }
            let error: Value = serde_json::from_str(&outcome.stderr).unwrap_or_else(|e| panic!("{e}: {outcome}"));
            assert_eq!(error["error"]["status"], outcome.status, "{outcome}");
            assert!(!error["error"]["message"].as_str().unwrap().is_empty(), "{outcome}");
            keys_are_in_one_case(&error, &outcome);
        }
    }
    for (verb, args, status) in [
        ("attach", &["nobody", "--", "true"][..], 125),
        ("logs", &["nobody"], 3),
        ("console", &["nobody"], 3),
        ("export", &["nobody", "-o", "-"], 3),
        ("pull", &["nobody:/etc/passwd", "-"], 3),
    ] {
        let outcome = asked(sandbox, verb, args).fails(status);
        let error: Value = serde_json::from_str(&outcome.stderr).unwrap_or_else(|e| panic!("{e}: {outcome}"));
        assert_eq!((&error["error"]["status"], outcome.stdout.as_str()), (&status.into(), ""), "{outcome}");
    }
}
