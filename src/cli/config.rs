//! `lxm config`: show, get, set, unset and edit settings.

use std::io::IsTerminal;
use std::path::Path;
use std::process::Command;

use clap::Subcommand;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::{Context, Format, NameArg, render};
use crate::config::{Document, KeyPath};
use crate::error::{Context as _, Error, Kind, Result};
use crate::ops::beside_unit;
use crate::ops::config::{self, Changed, Effect, SettingChange};
use crate::sys::program::find_program;
use crate::terminal;
use crate::types::ContainerName;

/// Show and change the settings of a container
///
/// A setting is its section and key with dots between, as in `limits.memory` or `network.eth0.type`.
/// Sizes need a unit: 512MiB or 512M; 512MB is a power of ten. Durations have one, 60s or 2m30s, or are in
/// seconds. New limits apply to a running container at once,
/// other changes at its next start.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lxm config set web limits.memory 200MiB
  lxm config set web boot.autostart-after db,cache
  lxm config set web network.eth0.type none limits.cpus 1.5
  lxm config set web mount.www.source /srv/www mount.www.target /var/www mount.www.idmap root
  lxm config unset web mount.www
  lxm config unset web limits.memory
  lxm config get web limits.memory")]
pub(super) struct Config {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print the value of a setting, or its default; nothing if it has none
    Get {
        #[command(flatten)]
        name: NameArg,

        /// Setting, such as `limits.memory`
        #[arg(add = ArgValueCompleter::new(complete))]
        key: KeyPath,
    },
    /// Change settings; if one is invalid, none is changed
    Set {
        #[command(flatten)]
        name: NameArg,

        /// Settings, each as KEY VALUE or KEY=VALUE
        #[arg(value_name = "KEY VALUE", required = true, add = ArgValueCompleter::new(complete))]
        settings: Vec<String>,
    },
    /// Remove settings, so that their defaults apply
    Unset {
        #[command(flatten)]
        name: NameArg,

        /// Settings
        #[arg(value_name = "KEY", required = true, add = ArgValueCompleter::new(complete))]
        keys: Vec<KeyPath>,
    },
    /// Print the configuration file
    ///
    /// With --format json or --defaults all settings are printed, defaults too.
    Show {
        #[command(flatten)]
        name: NameArg,

        /// Print also the settings that are not in the file, with their defaults
        #[arg(short, long)]
        defaults: bool,
    },
    /// Edit the configuration file with $VISUAL or $EDITOR
    ///
    /// An invalid file is not saved: you can edit again, and your text is kept in /tmp.
    Edit(NameArg),
}

impl Config {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        match self.verb {
            ConfigVerb::Get { name, key } => get(context, &name.name, &key).map(|()| 0),
            ConfigVerb::Set { name, settings } => set(context, &name.name, &settings),
            ConfigVerb::Unset { name, keys } => {
                let changes: Vec<_> = keys.into_iter().map(|key| SettingChange::Unset { key }).collect();
                change(context, &name.name, &changes)
            }
            ConfigVerb::Show { name, defaults } => show(context, &name.name, defaults).map(|()| 0),
            ConfigVerb::Edit(name) => edit(context, &name.name),
        }
    }
}

fn get(context: &Context, name: &ContainerName, key: &KeyPath) -> Result<()> {
    let value = config::value(&context.layout, name, key)?;
    match (context.format, value) {
        (Format::Json, value) => render::json(&value),
        (Format::Text, None) => Ok(()),
        (Format::Text, Some(toml::Value::String(text))) => render::exactly(&format!("{text}\n")),
        (Format::Text, Some(toml::Value::Table(table))) => {
            render::exactly(&toml::to_string(&table).map_err(|e| Error::failed(e.to_string()))?)
        }
        (Format::Text, Some(value)) => render::exactly(&format!("{value}\n")),
    }
}

fn set(context: &Context, name: &ContainerName, settings: &[String]) -> Result<u8> {
    let settings = pairs(settings)?;
    let change_of = |(key, value): (&str, &str)| Ok(SettingChange::Set { key: key.parse()?, value: value.to_owned() });
    change(context, name, &settings.into_iter().map(change_of).collect::<Result<Vec<_>>>()?)
}

/// The settings of a command line: KEY VALUE or KEY=VALUE, also with blanks around the `=`.
pub(super) fn pairs(words: &[String]) -> Result<Vec<(&str, &str)>> {
    let mut pairs = Vec::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        // No key has a `=`. With blanks around it, it is a word of its own, or begins one.
        let pair = word.split_once('=').or_else(|| match words.next()? {
            "=" => Some((word, words.next()?)),
            value => Some((word, value.strip_prefix('=').unwrap_or(value))),
        });
        let pair = pair.ok_or_else(|| {
            Error::usage(format!("`{word}` has no value")).hint("give each setting its value: KEY VALUE or KEY=VALUE")
        })?;
        pairs.push(pair);
    }
    Ok(pairs)
}

fn change(context: &Context, name: &ContainerName, changes: &[SettingChange]) -> Result<u8> {
    let changed = config::change(&context.layout, name, changes)?;
    let is_below = |section: &str| {
        changes.iter().any(|change| match change {
            SettingChange::Set { key, .. } | SettingChange::Unset { key } => key.is_below(section),
        })
    };
    if is_below("limits") {
        for limit in beside_unit::limits(&context.layout, name) {
            context.say(&format!("warning: {limit}"));
        }
    }
    if is_below("mount") {
        warn(context, name)?;
    }
    tell(context, name, &changed)
}

fn warn(context: &Context, name: &ContainerName) -> Result<()> {
    let warnings = config::warnings(&context.layout, name)?;
    warnings.iter().for_each(|warning| context.say(&format!("warning: {warning}")));
    Ok(())
}

fn tell(context: &Context, name: &ContainerName, changed: &Changed) -> Result<u8> {
    let Changed { effect, warnings } = changed;
    let effect = *effect;
    warnings.iter().for_each(|warning| context.say(&format!("warning: {warning}")));
    if effect == Effect::NextStart {
        context.say(&format!("`{name}` is running: the change applies when it is started again"));
    }
    context.done(name, serde_json::json!({ "restart_needed": effect == Effect::NextStart }))
}

fn show(context: &Context, name: &ContainerName, defaults: bool) -> Result<()> {
    if context.format == Format::Text && !defaults {
        return render::exactly(&config::text(&context.layout, name)?);
    }
    let all = config::all(&context.layout, name)?;
    match context.format {
        Format::Json => render::json(&all),
        Format::Text => render::exactly(&toml::to_string(&all).map_err(|e| Error::failed(e.to_string()))?),
    }
}

fn edit(context: &Context, name: &ContainerName) -> Result<u8> {
    let layout = &context.layout;
    let before = config::text(layout, name)?;
    let prefix = format!("lxm-{name}-");
    let copy = tempfile::Builder::new().prefix(&prefix).suffix(".toml").tempfile().context(|| "make a copy to edit")?;
    std::fs::write(copy.path(), &before).context(|| "make a copy to edit")?;
    loop {
        run_editor(copy.path())?;
        let after = std::fs::read_to_string(copy.path()).context(|| format!("read `{}`", copy.path().display()))?;
        if after == before {
            context.say("nothing was changed");
            return context.done(name, ());
        }
        // The admin edits the copy: errors name its lines.
        let taken = Document::parse(&after, copy.path()).and_then(|_| config::replace(layout, name, &before, &after));
        match taken {
            Ok(changed) => {
                warn(context, name)?;
                return tell(context, name, &changed);
            }
            Err(e) if e.kind() == Kind::Config && again(&e)? => {}
            Err(e) => {
                let (_, path) = copy.keep().map_err(|e| Error::from(e.error))?;
                return Err(e.step(format!("the edited file is invalid; it is kept in `{}`", path.display())));
            }
        }
    }
}

/// Runs the admin's editor, which may be given with arguments, as git takes it.
fn run_editor(file: &Path) -> Result<()> {
    let named = ["VISUAL", "EDITOR"].into_iter().filter_map(|name| std::env::var(name).ok());
    let named = named.into_iter().find(|editor| !editor.trim().is_empty());
    let usual = || ["editor", "nano", "vi"].into_iter().find(|program| find_program(program).is_some());
    let editor = named.or_else(|| usual().map(str::to_owned));
    let editor = editor.ok_or_else(|| Error::host_lacks("no editor found").hint("set $EDITOR to the editor to use"))?;
    let program = editor.split_whitespace().next().unwrap_or_default();
    if find_program(program).is_none() {
        return Err(Error::host_lacks(format!("the editor `{program}` is not installed"))
            .hint("set $VISUAL or $EDITOR to an editor that is installed"));
    }
    let status = Command::new("sh").args(["-c", &format!("exec {editor} \"$1\""), "lxm"]).arg(file).status();
    match status.context(|| "run an editor")? {
        status if status.success() => Ok(()),
        status => Err(Error::failed(format!("the editor `{editor}` failed: {status}; nothing was changed"))),
    }
}

/// Shows what is wrong and asks whether to edit again; `false` where there is no terminal to ask on.
fn again(e: &Error) -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(false);
    }
    terminal::say(format_args!("error: {e}"));
    let _ = terminal::ask("edit again? [Y/n] ");
    let mut answer = String::new();
    stdin.read_line(&mut answer).context(|| "read the answer")?;
    Ok(!answer.trim().to_lowercase().starts_with('n'))
}

/// Names of settings for a shell; interfaces, mounts and devices by the names that they have in the container
/// that stands before on the command line.
fn complete(current: &std::ffi::OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let words = std::env::args().skip_while(|word| word != "config");
    let config = super::context::layout(None).ok().and_then(|layout| {
        words.filter_map(|word| word.parse().ok()).find_map(|name: ContainerName| layout.config(&name).ok())
    });
    let config = config.unwrap_or_default();
    let called = |at: usize, name: &Option<String>| name.clone().unwrap_or_else(|| at.to_string());
    let names = |section: &str| -> Vec<String> {
        match section {
            "network" => config.network.keys().cloned().collect(),
            "mount" => config.mount.iter().enumerate().map(|(at, mount)| called(at, &mount.name)).collect(),
            "device" => config.device.iter().enumerate().map(|(at, device)| called(at, &device.name)).collect(),
            "environment" => config.environment.keys().cloned().collect(),
            _ => config.credential.keys().cloned().collect(),
        }
    };
    let of = |setting: &'static str| match setting.split_once(".*") {
        None => vec![setting.to_owned()],
        Some((section, rest)) => names(section).iter().map(|name| format!("{section}.{name}{rest}")).collect(),
    };
    let all = crate::config::setting_names().flat_map(of);
    all.filter(|name| name.starts_with(current)).map(CompletionCandidate::new).collect()
}
