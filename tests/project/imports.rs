//! Which file of `src` names which, as `syn` parses it: `use` trees, and paths within code and macros.
//! Unit tests are left out. A name that a file re-exports counts as a name of the file that it is from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// A module's path below the crate, `["net", "bridge"]`.
type Module = Vec<String>;

/// The files of `src` by their module's path, with the modules that each one names.
pub struct Imports {
    files: BTreeMap<Module, Names>,
}

/// What one file has.
#[derive(Default)]
struct Names {
    /// Paths that it names, below the crate.
    paths: BTreeSet<Module>,
    /// Names that it gives on: where each is from.
    reexports: BTreeMap<String, Module>,
    /// Names that it has by `use`, given on or not: what each stands for.
    local: BTreeMap<String, Module>,
}

impl Imports {
    /// Parses every file below `src`.
    pub fn of(src: &Path) -> Self {
        let mut files = BTreeMap::new();
        read(src, src, &mut files);
        Imports { files }
    }

    /// For each file the files that it names, as paths below `src` without `.rs`: `net/bridge`.
    pub fn edges(&self) -> BTreeMap<String, BTreeSet<String>> {
        let named = |(module, names): (&Module, &Names)| {
            // What is given on within a room is the face of the room; from another it is named.
            let from_others = names.reexports.values().filter(|origin| origin.first() != module.first());
            let paths = names.paths.iter().chain(from_others);
            let targets = paths.filter_map(|path| self.file_of(path, 8));
            let targets = targets.filter(|target| target != module).map(|target| target.join("/"));
            (module.join("/"), targets.collect())
        };
        self.files.iter().map(named).collect()
    }

    /// For each file the rooms that it names, wherever what it names there is from.
    pub fn rooms(&self) -> BTreeMap<String, BTreeSet<String>> {
        let rooms = |names: &Names| names.paths.iter().filter_map(|path| path.first().cloned()).collect();
        self.files.iter().map(|(module, names)| (module.join("/"), rooms(names))).collect()
    }

    /// The file in which what `path` names is written, with at most `hops` re-exports on the way.
    fn file_of(&self, path: &[String], hops: usize) -> Option<Module> {
        let depth = (1..=path.len()).rev().find(|depth| self.files.contains_key(&path[..*depth]))?;
        let (module, rest) = path.split_at(depth);
        let Some(origin) = rest.first().and_then(|name| self.files[module].reexports.get(name)) else {
            return Some(module.to_vec());
        };
        if hops == 0 { None } else { self.file_of(origin, hops - 1) }
    }
}

fn read(src: &Path, dir: &Path, files: &mut BTreeMap<Module, Names>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(src, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let below = path.strip_prefix(src).unwrap().with_extension("");
            let mut module: Module = below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            let is_folder = module.last().is_some_and(|name| name == "mod");
            if is_folder {
                module.pop();
            }
            let text = fs::read_to_string(&path).unwrap();
            let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            if is_for_tests(&file.attrs) || module.last().is_some_and(|name| name.ends_with("tests")) {
                continue;
            }
            let children = file.items.iter().filter_map(|item| match item {
                Item::Mod(item) if item.content.is_none() => Some(item.ident.to_string()),
                _ => None,
            });
            let children = children.collect();
            let mut reader = Reader { module: module.clone(), children, names: Names::default() };
            // Twice: a name may be used above the `use` that it is from.
            reader.visit_file(&file);
            reader.visit_file(&file);
            files.insert(module, reader.names);
        }
    }
}

/// Whether an item is compiled for tests or fuzzing alone.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is = |attribute: &Attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let text = list.tokens.to_string();
            ["test", "fuzzing", "any (test , fuzzing)"].contains(&text.as_str())
        }
        _ => false,
    };
    attributes.iter().any(is)
}

struct Reader {
    module: Module,
    /// Files that it declares: it names them without `self`.
    children: BTreeSet<String>,
    names: Names,
}

impl Reader {
    /// Notes a path as it is written, if it leads to something of the crate.
    fn note(&mut self, path: &[String]) {
        if let Some(path) = self.absolute(path) {
            self.names.paths.insert(path);
        }
    }

    fn absolute(&self, path: &[String]) -> Option<Module> {
        let first = path.first()?.as_str();
        if let Some(meant) = self.names.local.get(first).filter(|_| path.len() > 1 && !self.children.contains(first)) {
            return Some([meant, &path[1..]].concat());
        }
        let mut base = match first {
            "crate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len().checked_sub(1)?].to_vec(),
            child if self.children.contains(child) && path.len() > 1 => [&self.module[..], &path[..1]].concat(),
            _ => return None,
        };
        for part in &path[1..] {
            match part.as_str() {
                "super" => _ = base.pop(),
                name => base.push(name.to_owned()),
            }
        }
        Some(base)
    }

    fn tree(&mut self, tree: &UseTree, before: &[String], is_given_on: bool) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&path.tree, &with(&path.ident), is_given_on),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before, is_given_on)),
            UseTree::Name(name) => self.used(&with(&name.ident), &name.ident.to_string(), is_given_on),
            UseTree::Rename(name) => self.used(&with(&name.ident), &name.rename.to_string(), is_given_on),
            UseTree::Glob(_) => self.note(before),
        }
    }

    fn used(&mut self, path: &[String], name: &str, is_given_on: bool) {
        // `use a::{self}` names `a`.
        let path = if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            &path[..path.len() - 1]
        } else {
            path
        };
        assert!(path != ["crate"], "{}: the crate has one name", self.module.join("/"));
        if let Some(meant) = self.absolute(path) {
            self.names.local.insert(name.to_owned(), meant);
        }
        if !is_given_on {
            return self.note(path);
        }
        // Within a `mod.rs`, `pub use file::Name` is relative to it.
        let origin = self.absolute(path).unwrap_or_else(|| [self.module.as_slice(), path].concat());
        self.names.reexports.insert(name.to_owned(), origin);
    }

    /// Notes `crate::…`, `super::…` and `self::…` in what a macro is given.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Module = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => {
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Ident(ident) => {
                    self.note(&path);
                    path = vec![ident.to_string()];
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.note(&std::mem::take(&mut path));
                    self.tokens(group.stream());
                }
                // As in `#[serde(with = "crate::…")]`.
                TokenTree::Literal(literal) => {
                    self.note(&std::mem::take(&mut path));
                    if let Ok(named) = syn::parse_str::<syn::LitStr>(&literal.to_string())
                        && let Ok(named) = named.parse::<syn::Path>()
                    {
                        self.visit_path(&named);
                    }
                }
                _ => self.note(&std::mem::take(&mut path)),
            }
        }
        self.note(&path);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Const(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_given_on = !matches!(item.vis, syn::Visibility::Inherited);
        self.tree(&item.tree, &[], is_given_on);
    }

    // `pub(super)` names nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let path_: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&path_);
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}
