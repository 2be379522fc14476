//! The shortest way from the words of a command line to its verb.
//!
//! To parse one verb clap builds all forty, which takes longer than most of them. Verbs that
//! scripts call in loops are parsed alone first; what that does not understand, a request for help
//! and every mistake among it, goes to the whole command line, whose words are the ones to show.

use std::ffi::OsString;

use clap::{Args, Parser};

use super::{Cli, Global, Verb};

/// One verb's command line.
#[derive(Debug, Parser)]
#[command(disable_help_flag = true)]
struct Alone<V: Args> {
    #[command(flatten)]
    global: Global,

    #[command(flatten)]
    verb: V,
}

/// Parses `words` (program, verb, arguments) if they are one of the frequent verbs, and right.
pub fn parse(words: &[OsString]) -> Option<Cli> {
    match words.get(1)?.to_str()? {
        "attach" | "exec" => alone(words, Verb::Attach),
        "copy" | "clone" => alone(words, Verb::Copy),
        "create" => alone(words, Verb::Create),
        "destroy" => alone(words, Verb::Destroy),
        "info" => alone(words, Verb::Info),
        "list" | "ls" | "ps" => alone(words, Verb::List),
        "start" => alone(words, Verb::Start),
        "stop" => alone(words, Verb::Stop),
        _ => None,
    }
}

fn alone<V: Args>(words: &[OsString], verb: fn(V) -> Verb) -> Option<Cli> {
    let parsed = Alone::<V>::try_parse_from(&words[1..]).ok()?;
    Some(Cli { global: parsed.global, verb: verb(parsed.verb) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn what_is_parsed_alone_is_what_the_whole_command_line_means() {
        for line in [
            "lxm attach web -q -- sh -c true",
            "lxm exec -n web --user x -P /srv -- ls -l --format json",
            "lxm copy web web2 --snapshot s",
            "lxm clone -n web web2",
            "lxm create -t debian -n web --format json -- --init runit",
            "lxm destroy -f web",
            "lxm info web --format json",
            "lxm ls -f",
            "lxm ps --path /srv",
            "lxm start web -F",
            "lxm start web --wait booted --timeout 5s",
            "lxm stop -k web",
        ] {
            let quick = parse(&words(line)).unwrap_or_else(|| panic!("`{line}` is not parsed alone"));
            assert_eq!(format!("{quick:?}"), format!("{:?}", Cli::try_parse_from(words(line)).unwrap()), "{line}");
        }
    }

    #[test]
    fn what_has_something_to_show_goes_to_the_whole_command_line() {
        for line in ["lxm", "lxm -q start web", "lxm start", "lxm start --help", "lxm start -h", "lxm start --frob web"]
        {
            assert!(parse(&words(line)).is_none(), "{line}");
        }
    }
}
