//! The contract of the command line: what is refused and with which status, what help says, what
//! scripts may read. No container runs; state is in a directory of the test's own.

#[path = "cli/keyboard.rs"]
mod keyboard;
#[path = "cli/output.rs"]
mod output;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A state directory with nothing in it.
struct Place(tempfile::TempDir);

/// What a command said.
struct Told {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    /// One with two stopped containers, `db` and `web`.
    fn furnished() -> Self {
        let place = Place::new();
        for (n, name) in ["db", "web"].into_iter().enumerate() {
            let dir = place.path(&format!("var/lib/lxm/{name}"));
            fs::create_dir_all(dir.join("rootfs/sbin")).unwrap();
            fs::write(dir.join("rootfs/sbin/init"), "").unwrap();
            // Each has a uuid of its own; `web` has that of the text.
            let config = if name == "web" { CONFIG.to_owned() } else { CONFIG.replace("2f1b1c62", "2f1b1c63") };
            fs::write(dir.join("config.toml"), config).unwrap();
            let ids = 524_288 + n * 65_536;
            let origin = format!(
                "template = \"debian\"\nrelease = \"trixie\"\narch = \"amd64\"\nimage = \"i\"\nstorage = \"dir\"\n\
                 created = \"2026-01-01T00:00:00Z\"\nlxm = \"0.1.0\"\nids = \"{ids}:65536\"\n"
            );
            fs::write(dir.join("origin.toml"), origin).unwrap();
        }
        place
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn config(&self) -> String {
        fs::read_to_string(self.path("var/lib/lxm/web/config.toml")).unwrap()
    }

    fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lxm"));
        command.env_clear().env("LXM_ROOT", self.0.path()).env("PATH", std::env::var_os("PATH").unwrap());
        command.env("TMPDIR", self.0.path()).current_dir(self.0.path()).stdin(Stdio::null()).args(args);
        // What a shell of a Rust programmer has set must not bring a backtrace.
        command.env("RUST_BACKTRACE", "1");
        command
    }

    #[track_caller]
    fn lxm<S: AsRef<OsStr>>(&self, args: &[S]) -> Told {
        Told::from(self.command(args).output().unwrap())
    }
}

const CONFIG: &str = "\
# kept by hand
version = 1
uuid = \"2f1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11\"

[limits] # of a small one
pids = 100 # enough

[network.eth0]
type = \"none\"
";

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        Told {
            status: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}, stdout `{}`, stderr `{}`", self.status, self.stdout, self.stderr)
    }
}

impl Told {
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{self}");
        self
    }

    /// It failed as the contract says: the status, one `error:` line, no data, no backtrace.
    #[track_caller]
    fn fails(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self}");
        assert!(self.stderr.starts_with("error: "), "{self}");
        assert_eq!(self.stdout, "", "{self}");
        for word in ["backtrace", "panicked", "os error", "RUST_"] {
            assert!(!self.stderr.contains(word), "{self}");
        }
        self
    }

    #[track_caller]
    fn complains(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "no `{words}` in: {self}");
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self}"))
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Every verb by its words, hidden ones apart, `snapshot create` and the like too.
fn verbs() -> Vec<Vec<String>> {
    fn collect(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let words = [words, &[verb.get_name().to_owned()]].concat();
            collect(verb, &words, found);
            found.push(words);
        }
    }
    let mut found = Vec::new();
    collect(&lxm::command(), &[], &mut found);
    found
}

#[test]
fn the_definitions_of_all_verbs_are_sound() {
    lxm::command().debug_assert();
}

#[test]
fn every_verb_has_a_help_that_is_data_and_says_what_it_does() {
    let place = Place::new();
    let verbs = verbs();
    assert!(verbs.len() > 30, "{verbs:?}");
    for verb in verbs {
        let mut args = verb.clone();
        args.push("--help".to_owned());
        let told = place.lxm(&args).ok();
        assert_eq!(told.stderr, "", "{verb:?}");
        assert!(told.stdout.contains(&format!("Usage: lxm {}", verb[0])), "{verb:?}: {told}");
        let first = told.stdout.lines().next().unwrap();
        assert!(!first.starts_with("Usage") && first.len() > 10 && !first.ends_with('.'), "{verb:?}: `{first}`");
    }
    assert!(fs::read_dir(place.0.path()).unwrap().next().is_none(), "asking for help has left something");
}

#[test]
fn verbs_have_the_names_that_others_give_them() {
    let place = Place::new();
    for alias in ["ls", "ps", "exec", "pause", "unpause", "clone", "unmount"] {
        place.lxm(&[alias, "--help"]).ok();
    }
    for (args, says) in [(&["--version"][..], "lxm 0."), (&["-V"], "lxm 0."), (&["--help"], "Exit status:")] {
        let told = place.lxm(args).ok();
        assert!(told.stdout.contains(says), "{told}");
    }
}

#[test]
fn wrong_arguments_are_refused_with_status_and_reason() {
    let place = Place::furnished();
    let long = "x".repeat(64);
    for (args, status, words) in [
        (&["frobnicate"][..], 2, "unrecognized subcommand"),
        (&["strat", "web"], 2, "start"),
        (&["info"], 2, "NAME"),
        (&["info", "web", "db"], 2, "unexpected argument"),
        (&["info", "web", "-n", "db"], 2, "cannot be used with"),
        (&["info", "--frob", "web"], 2, "--frob"),
        (&["info", "Web"], 2, "only lower-case letters, digits and `-` are allowed"),
        (&["info", "-n", "-web"], 2, "unexpected argument"),
        (&["info", "--name=-web"], 2, "must neither start nor end with `-`"),
        (&["info", "web-"], 2, "must neither start nor end with `-`"),
        (&["info", ""], 2, "it is empty"),
        (&["info", "../web"], 2, "is not a container name"),
        (&["info", "web/../db"], 2, "is not a container name"),
        (&["info", "."], 2, "is not a container name"),
        (&["info", "wéb"], 2, "is not a container name"),
        (&["info", &long], 2, "longer than 63 characters"),
        (&["info", "nobody"], 3, "container `nobody` does not exist"),
        (&["--format", "yaml", "list"], 2, "possible values: text, json"),
        (&["list", "--columns", "name,colour"], 2, "colour"),
        (&["list", "--sort", "colour"], 2, "colour"),
        (&["list", "--privileged", "--unprivileged"], 2, "cannot be used with"),
        (&["wait", "web"], 2, "--for"),
        (&["wait", "web", "--for", "up"], 2, "`up` is not a state"),
        (&["wait", "web", "--for", "running|up"], 2, "`up` is not a state"),
        (&["wait", "web", "--for", "running", "--timeout", "soon"], 2, "`soon` is not a duration"),
        (&["wait", "web", "--for", "running", "--timeout", "100ms"], 7, "is still stopped after 0.1 s"),
        (&["wait", "nobody", "--for", "running"], 3, "`nobody`"),
        (&["kill", "-s", "NONSENSE", "web"], 2, "is not a signal"),
        (&["kill", "-s", "65", "web"], 2, "is not a signal"),
        (&["logs", "--lines=-1", "web"], 2, "--lines"),
        (&["logs", "nobody"], 3, "`nobody`"),
        (&["rename", "web"], 2, "<NEW-NAME>"),
        (&["rename", "web", "Db"], 2, "is not a container name"),
        (&["rename", "web", "a", "b"], 2, "unexpected argument 'b'"),
        (&["config", "get", "web"], 2, "<KEY>"),
        (&["config", "get", "web", "limits.pids", "x"], 2, "unexpected argument 'x'"),
        (&["config", "get", "nobody", "limits.pids"], 3, "`nobody`"),
        (&["config", "get", "web", "limits..pids"], 2, "is not the name of a setting"),
        (&["config", "get", "web", "limits.pid"], 6, "did you mean `limits.pids`?"),
        (&["config", "set", "web", "limits.pids"], 2, "`limits.pids` has no value"),
        (&["config", "set", "web", "limits.memroy", "1GiB"], 6, "did you mean `limits.memory`?"),
        (&["config", "set", "web", "limit.memory", "1GiB"], 6, "did you mean `limits.memory`?"),
        (&["config", "set", "web", "limits.memory", "5"], 6, "has no unit"),
        (&["config", "set", "web", "limits.memory", "1GiB", "boot.ready", "soon"], 6, "`boot.ready` cannot be `soon`"),
        (&["config", "set", "web", "boot.requires", "web"], 6, "cycle"),
        (&["config", "set", "web", "network.eth0.type", "magic"], 6, "it takes one of `none`, `host`"),
        (&["config", "unset", "web"], 2, "<KEY>"),
        (&["config", "unset", "web", "limits.nothing"], 6, "there is no setting `limits.nothing`"),
        (&["config", "show", "nobody"], 3, "`nobody`"),
    ] {
        place.lxm(args).fails(status).complains(words);
    }
    assert_eq!(place.config(), CONFIG, "a refused change has changed something");
}

#[test]
fn a_verb_that_is_missing_brings_the_help() {
    for args in [&[][..], &["config"], &["snapshot"], &["network"], &["image"]] {
        let told = Place::new().lxm::<&str>(args);
        assert_eq!((told.status, told.stdout.as_str()), (2, ""), "{told}");
        assert!(told.stderr.contains("Usage: lxm"), "{told}");
    }
}

#[test]
fn a_name_is_taken_as_an_argument_and_as_lxc_users_give_it() {
    let place = Place::furnished();
    let missing = |args: &[&str]| {
        let told = place.lxm(args);
        // Those that change something say first that only root can.
        if is_root() { told.fails(3).complains("`nobody`") } else { told }.status
    };
    let more: &[(&str, &[&str])] = &[("wait", &["--for", "stopped"]), ("rename", &["other"]), ("copy", &["other"])];
    for verb in [
        "start", "stop", "restart", "attach", "console", "info", "logs", "freeze", "unfreeze", "kill", "destroy",
        "wait", "rename", "copy", "mount", "umount", "enable", "disable",
    ] {
        let more = more.iter().find(|(name, _)| *name == verb).map_or(&[][..], |(_, more)| more);
        let wanted = match verb {
            // Ours, not the command's.
            "attach" => continue,
            _ => 3,
        };
        for how in [&["nobody"][..], &["-n", "nobody"], &["--name", "nobody"], &["--name=nobody"]] {
            let status = missing(&[&[verb], how, more].concat());
            assert!(status == wanted || !is_root() && [3, 5].contains(&status), "{verb} {how:?}: {status}");
        }
    }
    for args in [&["config", "get", "-n", "web", "limits.pids"][..], &["config", "get", "web", "limits.pids"]] {
        assert_eq!(place.lxm(args).ok().stdout, "100\n");
    }
    assert!(!place.path("run/lxm/nobody").exists(), "a look at nothing has left something");
}

#[test]
fn failures_of_attach_are_told_from_those_of_the_command() {
    if is_root() {
        Place::new().lxm(&["attach", "nobody", "--", "true"]).fails(125).complains("`nobody`");
    }
}

#[test]
fn a_changed_setting_leaves_the_rest_of_the_file_as_it_was() {
    let place = Place::furnished();
    place.lxm(&["config", "set", "web", "limits.pids", "200"]).ok();
    assert_eq!(place.config(), CONFIG.replace("100", "200"));
    place.lxm(&["config", "set", "web", "limits.pids=100"]).ok();
    assert_eq!(place.config(), CONFIG);
    place.lxm(&["config", "set", "web", "limits.memory", "1GiB", "boot.autostart-after", "db"]).ok();
    let get = |key: &str| place.lxm(&["config", "get", "web", key]).ok().stdout;
    assert_eq!(get("limits.memory"), "1GiB\n");
    assert_eq!(get("boot.autostart-after"), "[\"db\"]\n");
    assert_eq!(get("boot.stop-timeout"), "60s\n");
    assert_eq!(get("limits.swap"), "");
    assert_eq!(place.lxm(&["config", "get", "web", "limits.swap", "--format", "json"]).ok().json(), Value::Null);
    place.lxm(&["config", "unset", "web", "limits.memory", "boot.autostart-after"]).ok();
    assert_eq!(get("limits.memory"), "");
    let shown = place.lxm(&["config", "show", "web", "--format", "json"]).ok().json();
    assert_eq!(shown["limits"]["pids"], 100);
    assert_eq!(shown["boot"]["stop-timeout"], "60s");
    assert_eq!(place.lxm(&["config", "show", "web"]).ok().stdout, place.config());
}

#[test]
fn what_an_editor_makes_is_taken_only_if_it_is_right() {
    let place = Place::furnished();
    let edit = |editor: &str| {
        let mut command = place.command(&["config", "edit", "web"]);
        Told::from(command.env("EDITOR", editor).output().unwrap())
    };
    edit("true").ok().complains("nothing was changed");
    edit("false").fails(1).complains("the editor `false` failed");
    edit("no-such-editor-here --wait").fails(5).complains("`no-such-editor-here` is not installed");
    let told = edit("sed -i s/pids/pidds/").fails(6).complains("did you mean `pids`?");
    assert_eq!(place.config(), CONFIG);
    let kept = told.stderr.split('`').nth(1).unwrap();
    assert_eq!(fs::read_to_string(kept).unwrap(), CONFIG.replace("pids", "pidds"), "what was typed is lost");
    edit("sed -i s/100/300/").ok();
    assert_eq!(place.config(), CONFIG.replace("100", "300"));
    // What is broken can be mended.
    fs::write(place.path("var/lib/lxm/web/config.toml"), CONFIG.replace("pids", "pidds")).unwrap();
    edit("sed -i s/pidds/pids/").ok();
    assert_eq!(place.config(), CONFIG);
}

#[test]
fn the_directory_of_containers_is_one_setting_away() {
    let place = Place::furnished();
    fs::rename(place.path("var/lib/lxm"), place.path("elsewhere")).unwrap();
    assert_eq!(place.lxm(&["list"]).ok().stdout, "");
    let elsewhere = place.path("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    assert_eq!(place.lxm(&["-P", elsewhere, "list"]).ok().stdout, "db\nweb\n");
    assert_eq!(place.lxm(&["list", "--path", "elsewhere"]).ok().stdout, "db\nweb\n");
    fs::create_dir_all(place.path("etc/lxm")).unwrap();
    fs::write(place.path("etc/lxm/lxm.toml"), format!("path = \"{elsewhere}\"\n")).unwrap();
    assert_eq!(place.lxm(&["list"]).ok().stdout, "db\nweb\n");
    fs::write(place.path("etc/lxm/lxm.toml"), "\npaht = \"/x\"\n").unwrap();
    place.lxm(&["list"]).fails(6).complains("lxm.toml:2: unknown field `paht`").complains("did you mean `path`?");
}

#[test]
fn an_odd_environment_is_refused_and_not_guessed_at() {
    let place = Place::new();
    let run = |root: &str| Told::from(place.command(&["list"]).env("LXM_ROOT", root).output().unwrap());
    run("relative").fails(2).complains("LXM_ROOT");
    run("").fails(2).complains("LXM_ROOT");
    run("/no/such/place").ok();
}

#[test]
fn a_container_goes_for_good_and_another_may_have_its_name() {
    if !is_root() {
        Place::furnished().lxm(&["destroy", "web"]).fails(5).complains("only root can");
        return;
    }
    let place = Place::furnished();
    place.lxm(&["destroy", "web"]).ok();
    place.lxm(&["info", "web"]).fails(3);
    assert_eq!(place.lxm(&["list"]).ok().stdout, "db\n");
    assert!(fs::read_dir(place.path("var/lib/lxm/.trash")).unwrap().next().is_none());
    // As one that was killed on the way has left it.
    fs::create_dir_all(place.path("var/lib/lxm/.trash/web/rootfs")).unwrap();
    fs::create_dir_all(place.path("var/lib/lxm/.staging/new/rootfs")).unwrap();
    let swept = place.lxm(&["gc", "--format", "json"]).ok().json();
    assert_eq!(swept, serde_json::json!([{"what": "staging", "which": "new"}, {"what": "trash", "which": "web"}]));
    assert_eq!(place.lxm(&["gc"]).ok().stdout, "");
    fs::create_dir_all(place.path("var/lib/lxm/.trash/web/rootfs")).unwrap();
    place.lxm(&["destroy", "web"]).ok();
    assert!(!place.path("var/lib/lxm/.trash/web").exists());
}

#[test]
fn a_shell_completes_verbs_and_the_names_of_containers() {
    let place = Place::furnished();
    let complete = |words: &[&str]| {
        let mut command = place.command(&[&["--", "lxm"], words].concat());
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_IFS", "\n");
        Told::from(command.output().unwrap()).ok().stdout
    };
    assert_eq!(complete(&["inf"]), "info");
    assert_eq!(complete(&["info", "w"]), "web");
    assert_eq!(complete(&["info", "-n", "d"]), "db");
    place.lxm(&["generate", "completions", "shells"]).ok();
    for (file, shell) in [("lxm", "bash"), ("_lxm", "zsh"), ("lxm.fish", "fish")] {
        let text = fs::read_to_string(place.path("shells").join(file)).unwrap();
        assert!(text.contains("COMPLETE") && text.contains("lxm"), "{shell}: {text}");
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let place = Place::new();
    place.lxm(&["generate", "man", "man1"]).ok();
    let page = |name: &str| fs::read_to_string(place.path("man1").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    for verb in verbs() {
        let text = page(&format!("lxm-{}.1", verb.join("-")));
        assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH DESCRIPTION"), "{verb:?}");
    }
    assert!(page("lxm.1").contains(".SH SUBCOMMANDS"));
    assert!(!Path::new(&place.path("man1/lxm-supervise.1")).exists(), "a hidden verb has a page");
}
