//! Every name that a file uses, in full: grouped imports are taken apart, and what an import has shortened is written out.

use std::collections::HashMap;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, Macro, UseTree};

use crate::source::SourceFile;

/// A path as written at one place, resolved as far as imports of its file tell.
pub(crate) struct Name {
    /// Begins with `crate` if it is of this crate.
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    pub(crate) is_macro: bool,
}

impl Name {
    /// Whether it is this item, or below it.
    pub(crate) fn is_below(&self, path: &str) -> bool {
        let mut segments = self.segments.iter();
        path.split("::")
            .all(|wanted| segments.next().is_some_and(|segment| segment == wanted))
    }
}

/// Names in a file: imports, paths in code and paths in the arguments of macros.
pub(crate) fn names(file: &SourceFile) -> Vec<Name> {
    let Collector { imports, written, .. } = collect(file);
    let resolved = written.into_iter().map(|(module, mut name)| {
        // Twice: `use std::net;` and then `use net::UdpSocket;`.
        for _ in 0..2 {
            if let Some(path) = imports.get(&name.segments[0])
                && *path != name.segments
            {
                name.segments = [&path[..], &name.segments[1..]].concat();
            }
        }
        name.segments = from_the_root(name.segments, &module);
        name
    });
    resolved.collect()
}

/// What each imported or re-exported name of a file stands for.
pub(crate) fn imports(file: &SourceFile) -> HashMap<String, Vec<String>> {
    collect(file).imports
}

fn collect(file: &SourceFile) -> Collector {
    let mut collector = Collector {
        module: file.module.clone(),
        ..Collector::default()
    };
    for item in &file.items {
        collector.visit_item(item);
    }
    collector
}

/// Writes out `self` and `super`.
fn from_the_root(segments: Vec<String>, module: &[String]) -> Vec<String> {
    let mut place = match segments.first().map(String::as_str) {
        Some("self" | "super") => module.to_vec(),
        _ => return segments,
    };
    let mut rest = segments.into_iter().peekable();
    while let Some(step) = rest.next_if(|segment| segment == "self" || segment == "super") {
        if step == "super" {
            place.pop();
        }
    }
    std::iter::once("crate".to_owned()).chain(place).chain(rest).collect()
}

#[derive(Default)]
struct Collector {
    module: Vec<String>,
    /// What a name in this file is short for.
    imports: HashMap<String, Vec<String>>,
    /// With the module in which it is written.
    written: Vec<(Vec<String>, Name)>,
}

impl Collector {
    fn write(&mut self, segments: Vec<String>, span: Span, is_macro: bool) {
        let name = Name {
            segments,
            line: span.start().line,
            is_macro,
        };
        self.written.push((self.module.clone(), name));
    }

    fn import(&mut self, prefix: &[String], tree: &UseTree, span: Span) {
        let with = |ident: &syn::Ident| [prefix, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&with(&path.ident), &path.tree, path.ident.span()),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(prefix, tree, span);
                }
            }
            UseTree::Name(name) if name.ident == "self" => self.import_as(prefix.last(), prefix.to_vec(), span),
            UseTree::Name(name) => self.import_as(Some(&name.ident.to_string()), with(&name.ident), name.ident.span()),
            UseTree::Rename(rename) => {
                let path = if rename.ident == "self" {
                    prefix.to_vec()
                } else {
                    with(&rename.ident)
                };
                self.import_as(Some(&rename.rename.to_string()), path, rename.ident.span());
            }
            UseTree::Glob(_) => self.write(prefix.to_vec(), span, false),
        }
    }

    fn import_as(&mut self, alias: Option<&String>, path: Vec<String>, span: Span) {
        let full = from_the_root(path.clone(), &self.module);
        self.imports.extend(alias.cloned().map(|alias| (alias, full)));
        self.write(path, span, false);
    }

    /// Paths in the arguments of a macro, which are only tokens.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut begun = Span::call_site();
        // Colons since the last name of the path.
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_of_path(&mut path, begun, false);
                        begun = ident.span();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Punct(punct) => {
                    self.end_of_path(&mut path, begun, punct.as_char() == '!');
                    colons = 0;
                }
                TokenTree::Group(group) => {
                    self.end_of_path(&mut path, begun, false);
                    colons = 0;
                    self.tokens(group.stream());
                }
                TokenTree::Literal(_) => self.end_of_path(&mut path, begun, false),
            }
        }
        self.end_of_path(&mut path, begun, false);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>, begun: Span, is_macro: bool) {
        if !path.is_empty() {
            self.write(std::mem::take(path), begun, is_macro);
        }
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&[], &item.tree, Span::call_site());
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let Some(first) = path.segments.first() {
            self.write(segments, first.ident.span(), false);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let segments: Vec<String> = call
            .path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if let Some(first) = call.path.segments.first() {
            self.write(segments, first.ident.span(), true);
        }
        self.tokens(call.tokens.clone());
    }
}
