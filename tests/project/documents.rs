//! What the documents name is there: files of the repository, commands of the Makefile, other documents.

use std::fs;
use std::path::{Path, PathBuf};

use super::root;

/// Where files are that a run makes, and git does not keep.
const MADE: &[&str] = &["fuzz/artifacts", "fuzz/found", "target"];

/// Documents for people. `docs/messages.md` is a list of texts, whose quotes are not the repository's.
fn documents() -> Vec<PathBuf> {
    let of = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut found = [of(root()), of(&root().join("docs"))].concat();
    found.retain(|path| path.extension().is_some_and(|end| end == "md") && !path.ends_with("messages.md"));
    found.sort();
    found
}

/// What is between backquotes, or in a block of code, each with its line.
fn code(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            found.push((number + 1, line.trim().to_owned()));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(|code| (number + 1, code.to_owned())));
        }
    }
    found
}

/// Whether a word is meant as a file of the repository. What is below `src` may be named without it.
fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let first = word.split('/').next().unwrap();
    let inside = !first.is_empty() && !first.starts_with('.') || first == ".ci";
    let known = || [root().to_owned(), root().join("src")].iter().any(|dir| dir.join(first).is_dir());
    word.chars().all(plain) && inside && (word.ends_with(".rs") || word.contains('/') && known())
}

/// Whether there is such a file below `dir`; a name in capitals (`src/cli/VERB.rs`) stands for any.
fn exists(dir: &Path, path: &str) -> bool {
    if dir.join(path).exists() {
        return true;
    }
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let (stem, end) = name.split_once('.').unwrap_or((name, ""));
    let stands_for_any = !stem.is_empty() && stem.chars().all(|c| c.is_ascii_uppercase());
    let follow = |next: &Path| if rest.is_empty() { next.exists() } else { next.is_dir() && exists(next, rest) };
    if !stands_for_any {
        return follow(&dir.join(name));
    }
    let fits = |file: &str| end.is_empty() || file.ends_with(&format!(".{end}"));
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap());
    entries.filter(|entry| fits(&entry.file_name().to_string_lossy())).any(|entry| follow(&entry.path()))
}

fn is_there(word: &str) -> bool {
    if MADE.iter().any(|made| Path::new(word).starts_with(made)) {
        return true;
    }
    // A name alone, `render.rs`, is that of some file.
    if !word.contains('/') {
        return super::sizes::files(&root().join("src")).iter().any(|file| file.ends_with(word))
            || exists(root(), word);
    }
    exists(root(), word) || exists(&root().join("src"), word)
}

#[test]
fn files_that_the_documents_name_are_there() {
    let mut named = 0;
    let mut missing = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let shown = document.strip_prefix(root()).unwrap().display();
        for (line, code) in code(&text) {
            // `tests/project.rs:12`, `src/cli/`, `(src/cli)`, `src/cli,` are said too.
            let words = code.split_whitespace().map(|word| word.trim_matches(|c| ",;:()\"'".contains(c)));
            for word in words.filter(|word| is_path(word)) {
                named += 1;
                if !is_there(word) {
                    missing.push(format!("{shown}:{line}: {word}"));
                }
            }
        }
    }
    assert!(named > 60, "only {named} files are named: they are not found in the text any more");
    assert!(missing.is_empty(), "named, but not there:\n{}", missing.join("\n"));
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut links = 0;
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                links += 1;
                if !document.with_file_name(file).exists() {
                    broken.push(format!("{} -> {target}", document.strip_prefix(root()).unwrap().display()));
                }
            }
        }
    }
    assert!(links > 5, "only {links} links are found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn make_targets_that_the_documents_name_are_there() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let rules = makefile.lines().filter(|line| !line.starts_with(['\t', '#'])).filter_map(|line| line.split_once(':'));
    let targets: Vec<&str> = rules.flat_map(|(targets, _)| targets.split_whitespace()).collect();
    assert!(targets.contains(&"test-unit"), "the Makefile is read: {targets:?}");
    let mut missing = Vec::new();
    for document in documents() {
        for (line, code) in code(&fs::read_to_string(&document).unwrap()) {
            let words = code.strip_prefix("make ").unwrap_or("").split_whitespace();
            // Until a variable, a comment or the next command.
            let named = words.take_while(|word| !word.contains(['=', '#', '&', ';']));
            let unknown = named.filter(|word| !targets.contains(word));
            missing.extend(unknown.map(|word| format!("{}:{line}: make {word}", document.display())));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn names_of_files_in_documents_are_understood() {
    for (word, is) in [
        ("src/cli/", true),
        ("inside/lock.rs", true),
        ("render.rs", true),
        (".ci/run", true),
        ("src/cli/VERB.rs", true),
        ("/etc/lxm/lxm.toml", false),
        (".layers/ID", false),
        ("config.toml", false),
        ("store::Layout", false),
    ] {
        assert_eq!(is_path(word), is, "{word}");
    }
    for (word, there) in [
        ("src/cli/VERB.rs", true),
        ("src/cli/VERB.toml", false),
        ("inside/lock.rs", true),
        ("inside/gone.rs", false),
        ("render.rs", true),
        ("gone.rs", false),
        ("tests/golden/CASE/in", true),
        ("tests/golden/CASE/gone", false),
        ("fuzz/found/dhcp4", true),
    ] {
        assert_eq!(is_there(word), there, "{word}");
    }
}
