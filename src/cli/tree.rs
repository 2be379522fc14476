//! The command line as clap sees it, built from the table of verbs in `cli/verbs.rs`.
//!
//! clap builds every sub command that it is given, which takes longer than most verbs run. So a
//! command line with a verb is parsed by a tree of that verb alone; anything else, the general help
//! too, by the tree of all.

use std::ffi::OsString;
use std::fmt::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Args, Command};

use super::context::Global;
use super::foreign::{self, Ours};
use super::name;
use super::verb::{Group, Verb};
use super::verbs::{GROUPS, HIDDEN};

/// The verb that is asked for, its arguments, and what all verbs take.
pub(super) struct Parsed {
    pub verb: &'static Verb,
    pub matches: ArgMatches,
    pub global: Global,
}

impl Parsed {
    /// The verb and those below it, as they are called: `snapshot create`.
    pub(super) fn path(&self) -> String {
        let mut path = self.verb.name.to_owned();
        let mut matches = &self.matches;
        while let Some((name, below)) = matches.subcommand() {
            path += &format!(" {name}");
            matches = below;
        }
        path
    }
}

/// Parses the words of a command line, the program's name first.
pub(super) fn parse(words: &[OsString]) -> clap::error::Result<Parsed> {
    let words = &as_ours(words)?[..];
    let asks_general = |at: usize| words[1..at].iter().any(|word| ["-h", "--help"].iter().any(|help| word == help));
    let verb = position_of_verb(words).filter(|at| !asks_general(*at)).and_then(|at| find(words[at].to_str()?));
    let alone =
        verb.map(|verb| matches(root().subcommand(verb.command()), words).map_err(|e| with_advice(e, verb.name)));
    let all = || {
        matches(whole(), words).map_err(|e| match e.kind() {
            // clap's own lists every verb there is in one line.
            ErrorKind::MissingSubcommand => whole().error(e.kind(), "no command is given; `lxm --help` lists them"),
            _ => e,
        })
    };
    let mut matches = alone.unwrap_or_else(all)?;
    let global = clap::FromArgMatches::from_arg_matches(&matches)?;
    let asked = matches.remove_subcommand().and_then(|(name, matches)| Some((find(&name)?, matches)));
    let (verb, matches) = asked.ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))?;
    Ok(Parsed { verb, matches, global })
}

/// Where the verb is: at the first word that is neither an option of the program nor the value of one.
fn position_of_verb(words: &[OsString]) -> Option<usize> {
    let word = |at: usize| words[at].as_encoded_bytes();
    let takes_next = |option: &[u8]| {
        let is_short = option.starts_with(b"-") && !option.starts_with(b"--");
        is_short && option.ends_with(b"P") || [&b"--path"[..], b"--format"].contains(&option)
    };
    (1..words.len()).find(|at| !word(*at).starts_with(b"-") && !takes_next(word(at - 1)))
}

/// Behind the verb and those below it: `lxm snapshot create`.
fn end_of_verb(words: &[OsString]) -> usize {
    let Some(mut end) = position_of_verb(words) else { return words.len() };
    let mut command = words[end].to_str().and_then(find).map(Verb::command);
    end += 1;
    while let (Some(verb), Some(word)) = (&command, words.get(end)) {
        command = verb.find_subcommand(word).cloned();
        end += usize::from(command.is_some());
    }
    end
}

/// The words with `help`, `version` and the verbs of other programs as lxm has them; fails with what to
/// type for a verb that it has not.
fn as_ours(words: &[OsString]) -> clap::error::Result<Vec<OsString>> {
    let mut words = words.to_vec();
    let Some(at) = position_of_verb(&words) else { return Ok(words) };
    let Some(word) = words[at].to_str().map(str::to_owned) else { return Ok(words) };
    match word.as_str() {
        "help" => {
            words.remove(at);
            // They are no verbs of the tree, and the general help has both.
            if words.get(at).is_some_and(|word| word == "version" || word == "help") {
                words.truncate(at);
            }
            let mut words = as_ours(&words)?;
            let end = end_of_verb(&words);
            // What follows may be a command for a guest.
            words.truncate(end);
            words.push("--help".into());
            return Ok(words);
        }
        "version" if words.len() == at + 1 => words[at] = "--version".into(),
        _ => match foreign::verb(&word) {
            Some(Ours::Verb(name)) => words[at] = name.into(),
            Some(Ours::Advice(advice)) => {
                let text = format!("lxm has no command `{word}`\nhint: {advice}\n");
                return Err(clap::Error::raw(ErrorKind::InvalidSubcommand, text));
            }
            None => {}
        },
    }
    // `lxm network help`, as `lxm help network`.
    let has_verbs = || find(&word).is_some_and(|verb| verb.command().has_subcommands());
    if words.get(at + 1).is_some_and(|word| word == "help") && has_verbs() {
        words.truncate(at + 1);
        words.push("--help".into());
    }
    Ok(words)
}

/// The same error, with what to type where an option is another program's.
fn with_advice(e: clap::Error, verb: &str) -> clap::Error {
    let option = match (e.kind(), e.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) => option.clone(),
        _ => return e,
    };
    match foreign::option(verb, &option) {
        Some(advice) => {
            let text = format!("`{verb}` has no option `{option}`\nhint: {advice}\n");
            clap::Error::raw(ErrorKind::UnknownArgument, text)
        }
        None => e,
    }
}

/// What the words mean to the tree, the container being named by position or by `-n`.
fn matches(tree: Command, words: &[OsString]) -> clap::error::Result<ArgMatches> {
    let flags = || words.iter().skip(1).map(|word| word.as_encoded_bytes()).take_while(|word| word != b"--");
    let may_name = |word: &[u8]| word.starts_with(b"--name") || !word.starts_with(b"--") && word.contains(&b'n');
    if !flags().any(|word| word.starts_with(b"-") && may_name(word)) {
        return name::also_by_option(tree).try_get_matches_from(words);
    }
    let by_option = match name::by_option(tree.clone()).try_get_matches_from(words) {
        Ok(matches) => return Ok(matches),
        Err(e) => e,
    };
    let tree = name::also_by_option(tree);
    // `-tdebian` has an `n` too, but names nothing.
    let names = flags().any(|word| word.starts_with(b"-n") || word.starts_with(b"--name"));
    match tree.try_get_matches_from(words) {
        Err(e) if names && !matches!(e.kind(), ErrorKind::ArgumentConflict | ErrorKind::DisplayHelp) => Err(by_option),
        Ok(matches) if name::is_by_option(&matches) => Err(by_option),
        outcome => outcome,
    }
}

/// The whole command line: for the general help, manual pages and completions.
pub fn command() -> Command {
    name::also_by_option(whole())
}

fn whole() -> Command {
    let shown: Vec<_> = GROUPS.iter().map(|group| (group, group.verbs.iter().map(Verb::command).collect())).collect();
    let command = root().help_template(help(&shown));
    let hidden = HIDDEN.iter().map(|verb| verb.command().hide(true));
    command.subcommands(shown.into_iter().flat_map(|(_, verbs)| verbs)).subcommands(hidden)
}

/// The command line without any verb.
fn root() -> Command {
    let root = Command::new("lxm").version(env!("CARGO_PKG_VERSION"));
    Global::augment_args(root)
        .about("Full operating systems in containers, treated like small virtual machines")
        .after_help(
            "\
`lxm help VERB` or `lxm VERB --help` explains a command.
Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 exists, busy or not running,
5 the host lacks something (root's rights too), 6 bad configuration, 7 timed out.",
        )
        .max_term_width(100)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
}

/// The general help: what clap shows, but for the verbs, which it cannot show in groups.
fn help(groups: &[(&Group, Vec<Command>)]) -> clap::builder::StyledStr {
    let styles = clap::builder::Styles::styled();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let names = groups.iter().flat_map(|(_, verbs)| verbs).map(|verb| verb.get_name().len());
    let width = names.max().unwrap_or_default();
    let mut text = clap::builder::StyledStr::new();
    let _ = writeln!(text, "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n");
    for (Group { heading, .. }, verbs) in groups {
        let _ = writeln!(text, "{header}{heading}:{header:#}");
        for verb in verbs {
            let (name, aliases) = (verb.get_name(), verb.get_visible_aliases().collect::<Vec<_>>().join(", "));
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            let aliases = if aliases.is_empty() { aliases } else { format!(" [also: {aliases}]") };
            let _ = writeln!(text, "  {literal}{name:width$}{literal:#}  {about}{aliases}");
        }
        let _ = writeln!(text);
    }
    let _ = write!(text, "{header}Options:{header:#}\n{{options}}{{after-help}}");
    text
}

fn find(word: &str) -> Option<&'static Verb> {
    let mut verbs = GROUPS.iter().flat_map(|group| group.verbs).chain(HIDDEN);
    verbs.find(|verb| verb.name == word || verb.aliases.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn tree_of_one_verb_parses_as_the_whole_tree() {
        for line in [
            "lxm attach web -q -- sh -c true",
            "lxm exec -n web --user x -P /srv -- ls -l --format json",
            "lxm copy web web2 --snapshot s",
            "lxm clone -n web web2",
            "lxm create -t debian -n web --format json -- --init runit",
            "lxm ls -f",
            "lxm start web --wait booted --timeout 5s",
            "lxm stop -k web",
            "lxm config set web limits.pids 5",
            "lxm snapshot create -n web before -c text",
            "lxm -q --format json list",
            "lxm -P start list",
            "lxm -qP status list",
            "lxm --path rm --format text list",
            "lxm -P=launch list",
            "lxm --path start stop -kn web",
        ] {
            let one = parse(&words(line)).unwrap_or_else(|e| panic!("{line}: {e}"));
            let (name, whole) = matches(whole(), &words(line)).unwrap().remove_subcommand().unwrap();
            assert_eq!((one.verb.name, one.matches), (name.as_str(), whole), "{line}");
        }
    }

    #[test]
    fn name_by_option_means_what_it_means_by_position() {
        for (by_option, by_position) in [
            ("lxm info -n web", "lxm info web"),
            ("lxm info -nweb", "lxm info web"),
            ("lxm info --name=web -s", "lxm info web -s"),
            ("lxm destroy -fn web", "lxm destroy -f web"),
            ("lxm stop -n web -n db", "lxm stop web db"),
            ("lxm -q rename -n web web2", "lxm -q rename web web2"),
            ("lxm rename web2 -n web", "lxm rename web web2"),
            ("lxm create -tdebian -nweb -- --name x", "lxm create -tdebian web -- --name x"),
            ("lxm config set -n web limits.pids 5", "lxm config set web limits.pids 5"),
            ("lxm config set limits.pids 5 -n web", "lxm config set web limits.pids 5"),
            ("lxm snapshot rename -n web a b", "lxm snapshot rename web a b"),
            ("lxm attach -n web -- ls -n", "lxm attach web -- ls -n"),
        ] {
            let verb = |line: &str| {
                let parsed = parse(&words(line)).unwrap_or_else(|e| panic!("{line}: {e}"));
                let mut verb = &parsed.matches;
                while let Some((_, below)) = verb.subcommand() {
                    verb = below;
                }
                let text: Vec<_> = verb
                    .ids()
                    // Groups are named by their types, and of no value of their own.
                    .filter(|id| !id.as_str().starts_with(char::is_uppercase))
                    .filter(|id| verb.value_source(id.as_str()) == Some(clap::parser::ValueSource::CommandLine))
                    .map(|id| {
                        let raw = verb.get_raw(id.as_str()).map(|raw| raw.map(OsString::from).collect::<Vec<_>>());
                        (id.to_string(), raw)
                    })
                    .collect::<std::collections::BTreeMap<_, _>>()
                    .into_iter()
                    .collect();
                (parsed.verb.name, text)
            };
            assert_eq!(verb(by_option), verb(by_position), "{by_option}");
        }
    }

    #[test]
    fn mistakes_show_the_usage_line_of_the_form_that_was_typed() {
        for (line, usage) in [
            ("lxm info", "Usage: lxm info <NAME>"),
            ("lxm rename web", "Usage: lxm rename <NAME> <NEW-NAME>"),
            ("lxm rename -n web", "Usage: lxm rename --name <NAME> <NEW-NAME>"),
            ("lxm create -tdebian", "Usage: lxm create --template <TEMPLATE> <NAME>"),
            ("lxm config get web", "Usage: lxm config get <NAME> <KEY>"),
            ("lxm info web -n db", "Usage: lxm info <NAME>"),
            ("lxm start web --frob", "Usage: lxm start <NAME|--all>"),
        ] {
            let Err(e) = parse(&words(line)) else { panic!("`{line}` is parsed") };
            let text = e.to_string();
            assert!(text.lines().any(|shown| shown.starts_with(usage)), "{line}: {text}");
        }
    }

    #[test]
    fn every_verb_is_once_in_the_general_help_and_no_hidden_one() {
        let help = command().render_help().to_string();
        let (_, list) = help.split_once("Usage:").unwrap();
        let (list, _) = list.split_once("Options:").unwrap();
        let shown = |name: &str| list.lines().filter(|line| line.split_whitespace().next() == Some(name)).count();
        let names: Vec<&str> = GROUPS.iter().flat_map(|group| group.verbs).map(|verb| verb.name).collect();
        assert!(names.len() > 30, "{names:?}");
        for name in names {
            assert_eq!(shown(name), 1, "{name} in {list}");
        }
        for verb in HIDDEN {
            assert_eq!(shown(verb.name), 0, "{} in {list}", verb.name);
        }
        for group in GROUPS {
            assert!(list.contains(&format!("\n{}:\n", group.heading)), "{}", group.heading);
        }
    }

    #[test]
    fn first_lines_of_help_are_short_and_no_sentences() {
        fn each(command: &Command, words: &str) {
            for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
                let words = format!("{words} {}", verb.get_name());
                let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
                assert!(about.len() > 10 && about.len() < 70 && !about.ends_with('.'), "{words}: {about}");
                each(verb, &words);
            }
        }
        each(&command(), "lxm");
    }
}
