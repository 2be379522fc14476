//! What people type who come from other programs, and several containers at a time.

use super::*;

#[test]
fn help_and_version_are_also_verbs() {
    let place = Place::new();
    for (args, same) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "start"], &["start", "--help"]),
        (&["help", "snapshot", "create"], &["snapshot", "create", "--help"]),
        (&["help", "poweroff"], &["stop", "--help"]),
        (&["help", "exec", "web", "id"], &["exec", "--help"]),
        (&["help", "exec", "web", "--", "reboot"], &["exec", "--help"]),
        (&["help", "config", "set", "web"], &["config", "set", "--help"]),
        (&["help", "version"], &["--help"]),
        (&["network", "help"], &["network", "--help"]),
        (&["network", "list"], &["network", "show"]),
        (&["-h", "start"], &["--help"]),
        (&["version"], &["--version"]),
    ] {
        assert_eq!(place.lxm(args).ok().stdout, place.lxm(same).ok().stdout, "{args:?}");
    }
    place.lxm(&["help", "frobnicate"]).fails(2).complains("unrecognized");
}

#[test]
fn words_of_other_programs_work_or_are_answered() {
    let place = Place::furnished();
    for (args, words) in [
        (&["launch", "web"][..], "`lxm create -t TEMPLATE NAME`, then `lxm start NAME`"),
        (&["file", "push", "x", "web/y"], "`lxm push NAME FILE`"),
        (&["-q", "terminate", "web"], "`lxm stop -k NAME`"),
        (&["start", "-s", "a=b", "web"], "`lxm config set NAME KEY VALUE`"),
        (&["stop", "-rn", "web"], "`lxm restart NAME`"),
        (&["snapshot", "-L", "-n", "web"], "`lxm snapshot list NAME`"),
        (&["snapshot", "-n", "web"], "`lxm snapshot create NAME`"),
        (&["list", "--filter", "web"], "`lxm list 'web-*'`"),
        (&["autostart", "-g", "onboot"], "lxm has no groups"),
    ] {
        place.lxm(args).fails(2).complains(words);
    }
    assert!(place.lxm(&["show", "web"]).ok().stdout.contains("STOPPED"));
    // A container may be called so.
    place.lxm(&["info", "launch"]).fails(3).complains("`launch`");
    for value in ["launch", "status", "rm"] {
        assert_eq!(place.lxm(&["-P", value, "list"]).ok().stdout, "");
    }
    place.lxm(&["-q"]).fails(2).complains("no command is given");
    if is_root() {
        place.lxm(&["push", "x"]).fails(2).complains("`lxm push FILE... NAME:PATH`");
    }
    if is_root() {
        for verb in ["rm", "delete", "remove", "poweroff", "shutdown", "reboot", "login"] {
            place.lxm(&[verb, "nobody"]).fails(3).complains("`nobody`");
        }
        for verb in ["shell", "enter"] {
            place.lxm(&[verb, "nobody"]).fails(125).complains("`nobody`");
        }
        place.lxm(&["start", "-d", "nobody"]).fails(3);
        place.lxm(&["exec", "-it", "nobody", "sh"]).fails(125).complains("`nobody`");
        place.lxm(&["network", "set", "nobr", "mtu=8000"]).fails(3).complains("`nobr`");
        place.lxm(&["network", "set", "nobr", "mtu"]).fails(2).complains("`mtu` has no value");
        place.lxm(&["copy", "-n", "nobody", "-N", "other"]).fails(3).complains("copy `nobody` to `other`");
    }
}

#[test]
fn what_follows_the_name_is_the_command_with_all_its_options() {
    let place = Place::new();
    if !is_root() {
        return;
    }
    for args in [
        &["exec", "nobody", "id"][..],
        &["exec", "nobody", "ls", "-l", "--name", "x", "-n", "y", "--format", "z"],
        &["exec", "-n", "nobody", "ls", "-n"],
        &["attach", "--user", "x", "nobody", "ls", "--frob"],
        &["attach", "nobody", "--user", "x", "--", "ls"],
    ] {
        place.lxm(args).fails(125).complains("container `nobody` does not exist");
    }
    place.lxm(&["ssh", "nobody", "ls", "-l"]).fails(3).complains("`nobody`");
    place.lxm(&["exec", "nobody", "--frob", "ls"]).fails(2).complains("--frob");
}

#[test]
fn a_container_that_is_named_and_missing_is_said_by_list() {
    let place = Place::furnished();
    assert_eq!(place.lxm(&["list", "w*"]).ok().stdout, "web\n");
    assert_eq!(place.lxm(&["list", "x*"]).ok().stdout, "");
    assert_eq!(place.lxm(&["list", "--defined"]).ok().stdout, "db\nweb\n");
    for args in [&["list", "web", "nope"][..], &["list", "-1", "nope"], &["list", "--format", "json", "nope"]] {
        let told = place.lxm(args);
        assert_eq!(told.status, 3, "{told}");
        told.complains("container `nope` does not exist");
    }
    let told = place.lxm(&["list", "-f", "json"]);
    assert_eq!(told.status, 2, "{told}");
    told.complains("`--format json` prints JSON");
    place.lxm(&["list", "We*"]).fails(2).complains("is not a pattern for container names");
}

#[test]
fn settings_are_given_in_either_form_side_by_side() {
    let place = Place::furnished();
    place.lxm(&["config", "set", "web", "limits.pids=7", "limits.memory", "1GiB", "description=a = b"]).ok();
    let get = |key: &str| place.lxm(&["config", "get", "web", key]).ok().stdout;
    assert_eq!((get("limits.pids"), get("limits.memory")), ("7\n".into(), "1GiB\n".into()));
    assert_eq!(get("description"), "a = b\n");
    place.lxm(&["config", "set", "web", "limits.pids=7", "limits.memory"]).fails(2).complains("`limits.memory` has no");
}

#[test]
fn patterns_and_all_are_containers_in_a_state_for_the_verb() {
    let place = Place::furnished();
    place.lxm(&["wait", "web", "d*", "--for", "stopped"]).ok();
    place.lxm(&["wait", "web", "--for", "network|stopped"]).fails(2).complains("waited for alone");
    place.lxm(&["wait", "web", "--for", "ssh", "--timeout", "50ms"]).fails(7).complains("is still stopped");
    place.lxm(&["stop", "web", "--all"]).fails(2).complains("cannot be used with");
    if !is_root() {
        return;
    }
    // None runs.
    for args in [&["stop", "--all"][..], &["stop", "*"], &["kill", "w*"], &["unfreeze", "--all"]] {
        assert_eq!(place.lxm(args).ok().stderr, "", "{args:?}");
    }
    place.lxm(&["stop", "w*", "db"]).fails(4).complains("`db`");
    place.lxm(&["stop", "x*"]).fails(3).complains("no container's name matches `x*`");
    place.lxm(&["destroy", "--all"]).fails(2).complains("--all");
    place.lxm(&["destroy", "w?b", "web"]).ok();
    assert_eq!(place.lxm(&["list"]).ok().stdout, "db\n");
}
