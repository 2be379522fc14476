//! Names of tests and trials: a claim that fits into a line of what a run prints.

use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};

use super::sizes::files;

/// Letters of a name; of a trial's, what follows its last `::`.
const LONGEST: usize = 59;

#[derive(Default)]
struct Tests(Vec<String>);

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if item.attrs.iter().any(|attribute| attribute.path().is_ident("test")) {
            self.0.push(item.sig.ident.to_string());
        }
        visit::visit_item_fn(self, item);
    }
}

/// What stands in a table of trials: `"area::claim"`.
fn trials(text: &str) -> impl Iterator<Item = &str> {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let strings = text.split('"').filter(move |text| text.contains("::") && text.split("::").all(is_word));
    strings.filter_map(|name| name.rsplit("::").next())
}

#[test]
fn names_of_tests_are_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut tests, mut of_trials, mut wrong) = (0, 0, Vec::new());
    for dir in ["src", "tests"] {
        for path in files(&root.join(dir)) {
            let shown = path.strip_prefix(root).unwrap().display().to_string();
            let text = fs::read_to_string(&path).unwrap();
            let mut found = Tests::default();
            found.visit_file(&syn::parse_file(&text).unwrap());
            tests += found.0.len();
            if dir == "tests" {
                let named: Vec<_> = trials(&text).map(str::to_owned).collect();
                of_trials += named.len();
                found.0.extend(named);
            }
            let long = found.0.iter().filter(|name| name.len() > LONGEST);
            wrong.extend(long.map(|name| format!("{shown}: `{name}` has {} letters, of {LONGEST}", name.len())));
        }
    }
    assert!(tests > 400 && of_trials > 250, "they are found: {tests} tests, {of_trials} trials");
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
