//! Words of LXC, Incus, machinectl, docker and pct that people type from habit: those that have a
//! verb of lxm with the same meaning are that verb, the others are answered with what to type.
//! docs/OTHER-COMMANDS.md is written from these tables.

/// What a word of another program's is for lxm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ours {
    /// This verb, with the arguments as they are.
    Verb(&'static str),
    /// What to type for it.
    Advice(&'static str),
}

use Ours::{Advice, Verb};

/// Verbs of other programs that lxm has under another name, or does otherwise.
pub(super) const VERBS: &[(&str, Ours)] = &[
    ("bind", Advice("`lxm config set NAME mount.0.source DIR mount.0.target DIR` shows a directory of the host")),
    ("cat", Advice("`lxm config show NAME` prints the settings")),
    ("clean", Verb("gc")),
    ("commit", Verb("publish")),
    ("copy-from", Advice("`lxm pull NAME FILE [FILE]` copies files to the host")),
    ("copy-to", Advice("`lxm push NAME FILE [FILE]` copies files into a container")),
    ("cp", Advice("`lxm push NAME FILE` and `lxm pull NAME FILE` copy files, `lxm copy NAME NEW` copies a container")),
    ("delete", Verb("destroy")),
    ("device", Advice("`lxm config set NAME KEY VALUE`, with keys such as `network.eth0.bridge` and `mount.0.source`")),
    ("enter", Verb("attach")),
    ("execute", Advice("`lxm start NAME` boots the container, `lxm exec NAME COMMAND` runs a command in it")),
    ("file", Advice("`lxm push NAME FILE` and `lxm pull NAME FILE` copy files")),
    ("images", Advice("`lxm image list`; `lxm image available` lists those that can be downloaded")),
    ("init", Advice("`lxm create -t TEMPLATE NAME`")),
    ("inspect", Verb("info")),
    ("launch", Advice("`lxm create -t TEMPLATE NAME`, then `lxm start NAME`")),
    ("list-images", Advice("`lxm image list`")),
    ("login", Verb("console")),
    ("migrate", Advice("`lxm export NAME -o - | ssh HOST lxm import -n NAME -` moves a stopped container")),
    ("monitor", Advice("`lxm wait NAME --for STATE` waits for a state, `lxm logs -f NAME` follows the console")),
    ("move", Verb("rename")),
    ("mv", Verb("rename")),
    ("poweroff", Verb("stop")),
    ("profile", Advice("lxm has no profiles; `lxm config set NAME KEY VALUE` changes one container")),
    ("pull-raw", Advice("`lxm import FILE -n NAME`")),
    ("pull-tar", Advice("`lxm import FILE -n NAME`")),
    ("reboot", Verb("restart")),
    ("remove", Verb("destroy")),
    ("restore", Advice("`lxm snapshot restore NAME SNAPSHOT`, or `lxm import FILE` for an export")),
    ("rm", Verb("destroy")),
    ("rollback", Advice("`lxm snapshot restore NAME SNAPSHOT`")),
    ("run", Advice("`lxm create -t TEMPLATE NAME`, then `lxm start NAME`")),
    ("set", Advice("`lxm config set NAME KEY VALUE`")),
    ("set-limit", Advice("`lxm config set NAME limits.memory 1GiB`")),
    ("shell", Verb("attach")),
    ("show", Verb("info")),
    ("shutdown", Verb("stop")),
    ("stats", Advice("`lxm list -c name,cpu,memory,processes`, or `lxm info -S NAME`")),
    ("status", Verb("info")),
    ("terminate", Advice("`lxm stop -k NAME` kills a container at once")),
    ("top", Advice("`lxm list -c name,cpu,memory,processes --sort memory`")),
    ("update", Advice("`lxm config set NAME KEY VALUE`")),
];

/// Options of another program's verb that lxm does not have, and what to type.
const OPTIONS: &[(&str, &[&str], &str)] = &[
    ("attach", &["-w", "--workdir"], "`lxm exec --cwd DIR NAME COMMAND`"),
    ("destroy", &["-r", "-rf"], "`lxm destroy NAME`, and `-f` for one that is running"),
    ("list", &["-a", "--all", "-l", "--long"], "all containers are listed; `lxm list -f` prints a table"),
    ("stop", &["-f", "--force"], "`lxm stop -k NAME` kills a container at once"),
    ("autostart", &["-g", "--group"], "lxm has no groups; `boot.autostart-after` and `boot.requires` order containers"),
    ("copy", &["-s", "--snapshot-only"], "copies share their files where `--storage` is overlay or btrfs"),
    ("copy", &["-e", "--ephemeral"], "`lxm copy NAME NEW`, then `lxm start --ephemeral NEW`"),
    ("list", &["-g", "--groups", "--filter"], "`lxm list 'web-*'` lists the containers whose name matches a pattern"),
    ("snapshot", &["-L", "--list"], "`lxm snapshot list NAME`"),
    ("snapshot", &["-r", "--restore"], "`lxm snapshot restore NAME SNAPSHOT`"),
    ("snapshot", &["-d", "--destroy"], "`lxm snapshot delete NAME SNAPSHOT`"),
    ("snapshot", &["-n", "--name"], "`lxm snapshot create NAME`"),
    ("start", &["-s", "--define"], "`lxm config set NAME KEY VALUE` changes a setting"),
    ("stop", &["-r", "--reboot"], "`lxm restart NAME`"),
    ("stop", &["-W", "--nowait"], "`lxm kill -s SIGNAL NAME` sends its init a signal and does not wait"),
];

/// What another program's verb is for lxm.
pub(super) fn verb(word: &str) -> Option<Ours> {
    VERBS.iter().find(|(foreign, _)| *foreign == word).map(|(_, ours)| *ours)
}

/// What to type instead of an option of another program's.
pub(super) fn option(verb: &str, option: &str) -> Option<&'static str> {
    // clap names a short option with its value.
    let is_it =
        |known: &&str| option == *known || known.len() == 2 && !option.starts_with("--") && option.starts_with(*known);
    OPTIONS.iter().find(|(of, options, _)| *of == verb && options.iter().any(is_it)).map(|(_, _, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::cli::verbs::{GROUPS, HIDDEN};

    #[test]
    fn foreign_words_are_not_ours_and_lead_to_verbs_that_exist() {
        let own: Vec<_> = GROUPS.iter().flat_map(|group| group.verbs).chain(HIDDEN).collect();
        let is_own = |word: &str| own.iter().any(|verb| verb.name == word || verb.aliases.contains(&word));
        assert!(VERBS.is_sorted_by_key(|(word, _)| *word));
        for (word, ours) in VERBS {
            assert!(!is_own(word), "{word}");
            let text = match ours {
                Verb(name) => format!("lxm {name}"),
                Advice(text) => (*text).to_owned(),
            };
            for typed in text.split("lxm ").skip(1).filter(|typed| !typed.starts_with("has ")) {
                let name = typed.split([' ', '`']).next().unwrap();
                assert!(is_own(name), "{word}: {name}");
            }
        }
        for (verb, ..) in OPTIONS {
            assert!(is_own(verb), "{verb}");
        }
    }

    #[test]
    fn other_commands_are_listed_in_one_document() {
        let mut text = "# Commands of other programs\n\n\
            What `lxm` does with the words of LXC, Incus, machinectl, docker and pct, and of their options. A test\n\
            writes this file from `src/cli/foreign.rs`.\n\n| typed | what lxm does |\n|---|---|\n"
            .to_owned();
        for (word, ours) in VERBS {
            let _ = match ours {
                Verb(name) => writeln!(text, "| `lxm {word}` | does `lxm {name}` |"),
                Advice(advice) => writeln!(text, "| `lxm {word}` | says: {advice} |"),
            };
        }
        for (verb, options, advice) in OPTIONS {
            let options: Vec<_> = options.iter().map(|option| format!("`lxm {verb} {option}`")).collect();
            let _ = writeln!(text, "| {} | says: {advice} |", options.join(", "));
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OTHER-COMMANDS.md");
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            let _ = std::fs::write(&path, text);
            panic!("docs/OTHER-COMMANDS.md was not up to date; it is now: read it, and add it to the commit");
        }
    }
}
