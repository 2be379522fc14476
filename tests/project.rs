//! Claims about the source and its dependencies: the invariants of docs/ARCHITECTURE.md that a
//! machine can hold, the licences, and that no crate is there twice without being known.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[path = "project/documents.rs"]
mod documents;
#[path = "project/imports.rs"]
mod imports;
#[path = "project/messages.rs"]
mod messages;
#[path = "project/names.rs"]
mod names;
#[path = "project/rooms.rs"]
mod rooms;
#[path = "project/sizes.rs"]
mod sizes;

/// Licences that ask for no more than to be named.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0", // the list of root certificates
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6", // as BSD-3-Clause, in other words
];

/// Crates whose dependants have not all moved to one version.
const TWICE: &[&str] = &["getrandom", "syn"];

/// A directory of `src`, what its code may not name, and why. What of the crate it may name, [`rooms`] says.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("inside", &["tokio", "zbus"], "what runs between clone and exec needs none of it"),
    ("types", &["std::fs", "std::net::Tcp", "std::process"], "it is pure"),
    ("proto", &["std::fs", "std::process"], "it is pure"),
    ("config", &["std::fs", "std::process"], "it is pure"),
    ("supervisor", &["thread::spawn"], "it has one thread"),
    ("ops", &["clap::Args", "clap::Parser", "println!", "print!"], "it neither parses nor prints"),
    ("container", &["clap::", "println!", "print!"], "it neither parses nor prints"),
    ("", &["spawn_blocking", "tokio::fs", "NetworkNamespace::add", "lookup_host"], "each starts a thread unseen"),
    ("", &["tar::Archive", ".unpack_in("], "the tar crate's unpacking loses sparse files, devices and attributes"),
];

/// One file of code, without comments and unit tests.
struct Source {
    /// Below `src`.
    path: PathBuf,
    lines: Vec<(usize, String)>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let top = root().join("src");
    let mut found = Vec::new();
    let mut pending = vec![top.clone()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_for_tests(&path) {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
                let lines = code.map(|line| line.split("//").next().unwrap_or("").to_owned());
                let lines = lines.enumerate().map(|(number, line)| (number + 1, line)).collect();
                found.push(Source { path: path.strip_prefix(&top).unwrap().to_owned(), lines });
            }
        }
    }
    found
}

/// `tests.rs`, and `root_tests.rs` with what only root can try.
fn is_for_tests(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

/// Places in the code of `dir` (of all where it is empty) with a line for which `is` holds.
fn places(sources: &[Source], dir: &str, is: impl Fn(&str) -> bool) -> Vec<String> {
    let within = |source: &&Source| source.path.starts_with(dir) || source.path == Path::new(dir).with_extension("rs");
    let mut found = Vec::new();
    for source in sources.iter().filter(within) {
        let hits = source.lines.iter().filter(|(_, line)| is(line));
        found.extend(hits.map(|(number, line)| format!("src/{}:{number}: {}", source.path.display(), line.trim())));
    }
    found
}

#[test]
fn code_names_nothing_that_its_room_may_not() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (dir, names, why) in FORBIDDEN {
        for name in *names {
            let found = places(&sources, dir, |line| line.contains(name));
            wrong.extend(found.into_iter().map(|place| format!("{place}\n    `{name}` in `{dir}`: {why}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A command on a container is made by `Layout::command`, which says `--path` where it is needed.
#[test]
fn proposed_commands_lead_to_the_directory_that_they_are_about() {
    let proposes = |line: &str| {
        let mut words = line.split("`lxm ").skip(1).filter_map(|rest| rest.split('`').next());
        words.any(|words| words.contains('{'))
    };
    // They are about bridges and images, which have no such directory; the last is a comment in a template.
    let others = ["`lxm network", "`lxm image", "# Made by `lxm publish"];
    let found = places(&sources(), "", |line| proposes(line) && !others.iter().any(|other| line.contains(other)));
    assert!(found.is_empty(), "written without `Layout::command`:\n{}", found.join("\n"));
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    let is_word =
        |line: &str| ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|w| has_call(line, w));
    let allows = |line: &str| line.contains("allow(unsafe_code");
    let mut found = places(&sources(), "", |line| is_word(line) || allows(line));
    found.retain(|place| !place.starts_with("src/sys/"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn only_the_renderer_writes_to_standard_output() {
    let writes = |line: &str| {
        ["println!(", "print!(", "stdout().lock", "stdout().write"].iter().any(|call| has_call(line, call))
    };
    let mut found = places(&sources(), "", writes);
    // What a guest's command or console says goes through unchanged, and a server that was started
    // by another process of ours tells it there that it serves.
    let allowed = ["src/cli/render", "src/attach/", "src/sys/helper.rs"];
    found.retain(|place| !allowed.iter().any(|path| place.starts_with(path)));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn only_the_terminal_module_writes_to_standard_error() {
    let writes = |line: &str| {
        ["eprintln!(", "eprint!(", "stderr().lock", "stderr().write", "io::stderr();"]
            .iter()
            .any(|call| has_call(line, call))
    };
    let mut found = places(&sources(), "", writes);
    // Text of guests, archives and servers is made harmless there; the log has the terminal's filter.
    found.retain(|place| !place.starts_with("src/terminal.rs") && !place.starts_with("src/sys/log.rs"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Whether `call` is there as a word of its own: `eprintln!(` is not `println!(`.
fn has_call(line: &str, call: &str) -> bool {
    line.match_indices(call).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn shell_scripts_are_understood_by_their_shell() {
    for script in ["tests/as-nobody", "tests/install-packages", "tests/run-layers", ".ci/run", "docs/demo"] {
        let path = root().join(script);
        let first = fs::read_to_string(&path).unwrap().lines().next().unwrap_or("").to_owned();
        let shell = first.strip_prefix("#!").unwrap_or_else(|| panic!("{script} names no shell"));
        assert!(Command::new(shell).arg("-n").arg(&path).status().unwrap().success(), "{script}");
    }
}

/// The crates that lxm is built of on this platform.
fn crates() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let platform = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    let output = Command::new(cargo).args(args).args(platform).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn every_crate_has_a_licence_that_we_may_use() {
    for package in crates() {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(is_allowed(licence), "{} is under `{licence}`", package["name"]);
    }
}

/// Whether a licence expression (SPDX, `A OR (B AND C)`) leaves us a choice that is allowed.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let text = expression.trim();
    if let Some((left, right)) = split_outside_brackets(text, " OR ") {
        return is_allowed(left) || is_allowed(right);
    }
    if let Some((left, right)) = split_outside_brackets(text, " AND ") {
        return is_allowed(left) && is_allowed(right);
    }
    match text.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_allowed(inner),
        None => LICENCES.contains(&text),
    }
}

fn split_outside_brackets<'a>(text: &'a str, operator: &str) -> Option<(&'a str, &'a str)> {
    let depth_at = |at: usize| text[..at].matches('(').count() == text[..at].matches(')').count();
    let (at, _) = text.match_indices(operator).find(|(at, _)| depth_at(*at))?;
    Some((&text[..at], &text[at + operator.len()..]))
}

#[test]
fn licence_expressions_are_understood() {
    for (expression, allowed) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only", false),
        ("GPL-2.0-only OR MIT", true),
        ("MIT AND GPL-2.0-only", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(GPL-2.0-only OR MIT) AND (GPL-3.0-only OR AGPL-3.0-only)", false),
        ("none", false),
    ] {
        assert_eq!(is_allowed(expression), allowed, "{expression}");
    }
}

/// The dependencies of a manifest that have no comment behind them nor above them; `##` is a heading.
fn without_reason(manifest: &str) -> Vec<&str> {
    let mut without = Vec::new();
    let (mut in_section, mut above) = (false, "");
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_section = line.ends_with("dependencies]");
        }
        let has_reason = line.contains(" # ") || above.starts_with("# ");
        if let Some((name, _)) = line.split_once(" = ").filter(|_| in_section && !line.starts_with('#'))
            && !has_reason
        {
            without.push(name);
        }
        above = line;
    }
    without
}

#[test]
fn every_dependency_has_its_reason_beside_it() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert_eq!(without_reason(&manifest), [""; 0], "say in Cargo.toml what each is for, or do without it");
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\n## group\na = \"1\"\nb = \"1\" # why\n# why\nc = \"1\"\nd = \"1\"\n\
                    [dev-dependencies]\ne = \"1\"\n[lints.rust]\nf = \"deny\"\n";
    assert_eq!(without_reason(manifest), ["a", "d", "e"]);
}

#[test]
fn no_crate_is_there_twice_but_the_known_ones() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in crates() {
        let text = |key: &str| package[key].as_str().unwrap().to_owned();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    let twice: Vec<String> =
        versions.into_iter().filter(|(_, versions)| versions.len() > 1).map(|(name, _)| name).collect();
    assert_eq!(twice, TWICE, "left: there twice; right: known to be");
}

/// The tables of what other managers' suites try name trials by their names.
#[test]
fn every_trial_that_the_scenarios_name_is_there() {
    let code: String =
        sizes::files(&root().join("tests")).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let tables = fs::read_to_string(root().join("docs/PEERS-SCENARIOS.md")).unwrap();
    // What is between backquotes has odd places.
    let named: BTreeSet<&str> = tables.split('`').skip(1).step_by(2).filter(|words| words.contains("::")).collect();
    let is_missing = |name: &&&str| !name.ends_with("::") && !code.contains(&format!("\"{name}\""));
    let missing: Vec<_> = named.iter().filter(is_missing).collect();
    assert!(named.len() > 50 && missing.is_empty(), "{} are named; missing: {missing:?}", named.len());
    let tried: BTreeSet<&str> = code.split('"').filter(|text| text.starts_with("peers::") && text.len() > 7).collect();
    let listed: BTreeSet<&str> = named.iter().copied().filter(|name| name.starts_with("peers::")).collect();
    assert_eq!(listed, tried, "left: named in a table; right: trials");
}
