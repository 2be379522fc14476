//! Every message in one list, docs/messages.md, to be read as an admin reads it: what failed, on which
//! object, why, and what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Expr, ExprCall, ExprMethodCall, Item, LitStr};

use super::imports::is_for_tests;
use super::sizes::files;

const HEAD: &str = "\
# Messages

What lxm says when something fails, by the file that says it. An *error* is what is wrong; a *step* stands
before it and says what was being done (`start `web`: mount the root file system: …`); a *hint* is what to
do; a *note* is said beside the result, a *log* line is a supervisor's or a server's; a *part* is put into one
of these, or into what `lxm check` shows. `{…}` stands for a value.

Written by `cargo test --test project messages`, which fails when the list was not up to date.
";

/// Kinds of messages, in the order of the list.
const KINDS: [&str; 6] = ["error", "step", "hint", "note", "log", "part"];

/// Files whose texts are for programs: scripts, rules of firewalls, files of guests, formats.
const FOR_PROGRAMS: &[&str] = &[
    "cli/foreign.rs", // docs/OTHER-COMMANDS.md
    "cli/tree.rs",
    "cli/verbs.rs",
    "distro/interfaces.rs",
    "distro/packages",
    "distro/systemd.rs",
    "distro/sysv.rs",
    "image/fingerprint.rs",
    "net/firewall",
    "net/rules/elements.rs",
    "net/rules/guard.rs",
    "net/rules/tables.rs",
    "ops/import/fuzz.rs",
];

#[derive(Default)]
struct Messages {
    /// Kind and text.
    found: Vec<(&'static str, String)>,
}

impl Messages {
    fn note<'a>(&mut self, kind: &'static str, arguments: impl IntoIterator<Item = &'a Expr>) {
        for argument in arguments {
            let mut texts = Texts::default();
            texts.visit_expr(argument);
            self.found.extend(texts.found.into_iter().map(|text| (kind, text)));
        }
    }
}

impl<'ast> Visit<'ast> for Messages {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Expr::Path(path) = &*call.func {
            let names: Vec<_> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                [.., "Error", _] => self.note("error", &call.args),
                [.., "log", "line"] => self.note("log", &call.args),
                [.., "say"] => self.note("note", &call.args),
                _ => {}
            }
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        match call.method.to_string().as_str() {
            "hint" => self.note("hint", &call.args),
            "step" | "context" => self.note("step", &call.args),
            "say" => self.note("note", &call.args),
            "push" | "extend" if is_named(&call.receiver, "notes") => self.note("note", &call.args),
            _ => {}
        }
        visit::visit_expr_method_call(self, call);
    }
}

/// Whether an expression is a variable or a field of this name.
fn is_named(expression: &Expr, name: &str) -> bool {
    match expression {
        Expr::Path(path) => path.path.is_ident(name),
        Expr::Field(field) => matches!(&field.member, syn::Member::Named(member) if member == name),
        _ => false,
    }
}

/// The texts of an expression: those of what it calls are found for themselves.
#[derive(Default)]
struct Texts {
    found: Vec<String>,
}

impl<'ast> Visit<'ast> for Texts {
    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.found.push(text.value());
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let name = item.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if ["format", "format_args"].contains(&name.as_str()) {
            self.found.extend(first_text(item.tokens.clone()));
        }
    }

    fn visit_expr_call(&mut self, _: &'ast ExprCall) {}

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        // `format!(…).to_owned()`, not `text.trim_start_matches("…")`.
        self.visit_expr(&call.receiver);
    }

    fn visit_expr_match(&mut self, item: &'ast syn::ExprMatch) {
        item.arms.iter().for_each(|arm| self.visit_expr(&arm.body));
    }

    fn visit_expr_if(&mut self, item: &'ast syn::ExprIf) {
        self.visit_block(&item.then_branch);
        item.else_branch.iter().for_each(|(_, other)| self.visit_expr(other));
    }
}

/// Every other text of two words and more.
#[derive(Default)]
struct Parts {
    found: Vec<String>,
}

impl Parts {
    fn note(&mut self, text: String) {
        let is_word = |word: &&str| {
            word.len() > 1 && word.trim_end_matches([',', ';', ':']).chars().all(|c| c.is_ascii_lowercase())
        };
        if text.split_whitespace().filter(is_word).count() >= 2 {
            self.found.push(text);
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    let text = syn::parse_str::<LitStr>(&literal.to_string());
                    text.into_iter().for_each(|text| self.note(text.value()));
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Parts {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    // Documentation and help; clap's pages show those.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.note(text.value());
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let name = item.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if !name.contains("assert") && !["unreachable", "panic"].contains(&name.as_str()) {
            self.tokens(item.tokens.clone());
        }
    }
}

/// What a formatting macro is given first.
fn first_text(tokens: TokenStream) -> Option<String> {
    match tokens.into_iter().next()? {
        TokenTree::Literal(literal) => syn::parse_str::<LitStr>(&literal.to_string()).ok().map(|text| text.value()),
        _ => None,
    }
}

/// The list, from the sources below `root`.
fn list(root: &Path) -> String {
    let mut all: BTreeMap<String, Vec<(&'static str, String)>> = BTreeMap::new();
    for path in files(&root.join("src")) {
        let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
        if is_for_tests(&file.attrs) || path.to_string_lossy().contains("tests") {
            continue;
        }
        let mut messages = Messages::default();
        messages.visit_file(&file);
        messages.found.retain(|(_, text)| text.chars().any(char::is_alphabetic));
        if !FOR_PROGRAMS.iter().any(|place| path.strip_prefix(root.join("src")).unwrap().starts_with(place)) {
            let mut parts = Parts::default();
            parts.visit_file(&file);
            let is_known = |part: &String| messages.found.iter().any(|(_, text)| text == part);
            let parts: Vec<_> = parts.found.into_iter().filter(|part| !is_known(part)).collect();
            messages.found.extend(parts.into_iter().map(|part| ("part", part)));
        }
        if !messages.found.is_empty() {
            all.insert(path.strip_prefix(root).unwrap().display().to_string(), messages.found);
        }
    }
    let mut text = HEAD.to_owned();
    for (file, mut messages) in all {
        let _ = write!(text, "\n## {file}\n\n");
        let order = |kind| KINDS.iter().position(|known| *known == kind);
        messages.sort_by(|(a, one), (b, other)| (order(*a), one).cmp(&(order(*b), other)));
        messages.dedup();
        for (kind, message) in messages {
            let _ = writeln!(text, "- *{kind}*: {}", message.replace('\n', "⏎"));
        }
    }
    text
}

#[test]
fn messages_are_listed_in_one_document() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("docs/messages.md");
    let (now, before) = (list(root), fs::read_to_string(&path).unwrap_or_default());
    if now != before {
        fs::write(&path, now).unwrap();
        panic!("docs/messages.md was not up to date; it is now: read it, and add it to the commit");
    }
}
