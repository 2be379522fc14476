//! Files and functions that can be read at one go.

use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Lines of a file, with its unit tests, and of a function, with its signature.
const FILE: usize = 400;
/// Lines of a file of trials or benches: a trial is told at length.
const TEST_FILE: usize = 600;
const FUNCTION: usize = 60;

/// Files that are longer, and why.
const LONGER: &[(&str, &str)] = &[];

#[derive(Default)]
struct Functions {
    /// Name and lines of each.
    found: Vec<(String, usize)>,
}

impl Functions {
    fn note(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines = block.span().end().line + 1 - signature.span().start().line;
        self.found.push((signature.ident.to_string(), lines));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.note(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// All Rust files below `dir`.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => found.push(path),
                None if path.is_dir() && !path.ends_with("target") => pending.push(path),
                _ => {}
            }
        }
    }
    found
}

#[test]
fn files_and_functions_are_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for path in files(&root.join("src")) {
        let shown = path.strip_prefix(root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        if lines > FILE && !LONGER.iter().any(|(file, _)| *file == shown) {
            wrong.push(format!("{shown} has {lines} lines, of {FILE}"));
        }
        let mut functions = Functions::default();
        functions.visit_file(&syn::parse_file(&text).unwrap());
        let long = functions.found.iter().filter(|(_, lines)| *lines > FUNCTION);
        wrong.extend(long.map(|(name, lines)| format!("{shown}: `{name}` has {lines} lines, of {FUNCTION}")));
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_of_tests_have_one_subject() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for path in ["tests", "benches", "fuzz"].iter().flat_map(|dir| files(&root.join(dir))) {
        let shown = path.strip_prefix(root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        if lines > TEST_FILE {
            wrong.push(format!("{shown} has {lines} lines, of {TEST_FILE}"));
        }
        if !text.starts_with("//! ") {
            wrong.push(format!("{shown} does not begin with what it is about (`//! …`)"));
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
