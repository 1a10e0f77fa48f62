//! The rules. Each gives the violations that it finds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Ident, Item, ItemUse, Macro, Meta, UseTree};

use crate::names::{imports, names};
use crate::source::{Crate, SourceFile};

/// Something that a rule forbids.
pub(crate) struct Violation {
    /// What an exception is listed by. It has no line, which would change with every edit.
    pub(crate) key: String,
    place: String,
}

impl Violation {
    fn at(file: &Path, line: usize, key: String) -> Violation {
        let place = format!("{}:{line}", file.display());
        Violation { key, place }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.key)
    }
}

/// `use a::*`, which hides from a reader where a name comes from.
pub(crate) fn globs(of: &Crate) -> Vec<Violation> {
    #[derive(Default)]
    struct Globs(Vec<Span>);
    impl<'ast> Visit<'ast> for Globs {
        fn visit_item_use(&mut self, item: &'ast ItemUse) {
            fn has_glob(tree: &UseTree) -> bool {
                match tree {
                    UseTree::Glob(_) => true,
                    UseTree::Path(path) => has_glob(&path.tree),
                    UseTree::Group(group) => group.items.iter().any(has_glob),
                    UseTree::Name(_) | UseTree::Rename(_) => false,
                }
            }
            if has_glob(&item.tree) {
                self.0.push(item.use_token.span);
            }
        }
    }
    each_file(of, |file| {
        let mut globs = Globs::default();
        visit_items(&mut globs, file);
        let key = file.file.display().to_string();
        globs.0.iter().map(|span| violation(file, *span, key.clone())).collect()
    })
}

/// Two types of one name in a crate.
pub(crate) fn repeated_types(of: &Crate) -> Vec<Violation> {
    struct Types<'a>(&'a mut dyn FnMut(&Ident));
    impl<'ast> Visit<'ast> for Types<'_> {
        fn visit_item(&mut self, item: &'ast Item) {
            match item {
                Item::Struct(item) => (self.0)(&item.ident),
                Item::Enum(item) => (self.0)(&item.ident),
                Item::Union(item) => (self.0)(&item.ident),
                Item::Trait(item) => (self.0)(&item.ident),
                Item::Type(item) => (self.0)(&item.ident),
                _ => {}
            }
            visit::visit_item(self, item);
        }
    }
    let mut defined: BTreeMap<String, Vec<(&SourceFile, Span)>> = BTreeMap::new();
    for file in &of.files {
        let mut note = |ident: &Ident| {
            let places = defined.entry(ident.to_string()).or_default();
            places.push((file, ident.span()));
        };
        visit_items(&mut Types(&mut note), file);
    }
    let repeated = defined.into_iter().filter(|(_, places)| places.len() > 1);
    let violations = repeated.flat_map(|(ident, places)| {
        let key = format!("{} {ident}", of.name);
        let places = places.into_iter();
        places.map(move |(file, span)| violation(file, span, key.clone()))
    });
    violations.collect()
}

/// Sockets, files, threads, locks, clocks and output in a crate that is to be pure.
pub(crate) fn worldly_names(of: &Crate) -> Vec<Violation> {
    each_file(of, |file| {
        let worldly = names(file).into_iter().filter_map(|name| {
            let is_worldly = if name.is_macro {
                name.segments.last().is_some_and(|last| OUTPUT.contains(&last.as_str()))
            } else {
                WORLD.iter().any(|path| name.is_below(path))
            };
            let key = format!("{} {}", file.file.display(), name.segments.join("::"));
            is_worldly.then(|| Violation::at(&file.file, name.line, key))
        });
        worldly.collect()
    })
}

const WORLD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::process",
    "std::sync::Barrier",
    "std::sync::Condvar",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "std::thread",
    "std::time::Instant::now",
    "std::time::SystemTime",
];
const OUTPUT: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// Dependencies of a crate that is to be pure, other than those that are known to be so.
pub(crate) fn worldly_dependencies(manifest: &str, file: &str) -> Vec<Violation> {
    let manifest: toml::Table = manifest.parse().expect("a manifest is TOML");
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let tables = targets.into_iter().flat_map(|targets| targets.values());
    let tables = tables.filter_map(toml::Value::as_table).chain([&manifest]);
    let normal = tables.filter_map(|table| table.get("dependencies")?.as_table());
    let dependencies = normal.flat_map(|table| table.iter());
    let worldly = dependencies.filter_map(|(name, value)| {
        // One may be renamed.
        let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(name);
        let key = format!("{file} {package}");
        (!PURE_DEPENDENCIES.contains(&package)).then(|| Violation::at(Path::new(file), 1, key))
    });
    worldly.collect()
}

/// Codecs, ciphers, parsers and containers: none of them touches a socket, a file, a thread or a clock.
const PURE_DEPENDENCIES: &[&str] = &[
    "aws-lc-rs",
    "base64",
    "bytes",
    "crossbeam-queue",
    "onecast-engine",
    "onecast-metrics",
    "onecast-rtc",
    "p224",
    "rtc-crypto",
    "rtc-dtls",
    "rtc-interceptor",
    "rtc-rtcp",
    "rtc-rtp",
    "rtc-shared",
    "rtc-srtp",
    "rtc-stun",
    "sansio",
    "thiserror",
];

/// Unsafe code outside of the one file that may have it, and crates that do not forbid it.
pub(crate) fn unsafe_code(of: &Crate, (crate_name, sys): (&str, &str)) -> Vec<Violation> {
    #[derive(Default)]
    struct Unsafe(Vec<Span>);
    impl<'ast> Visit<'ast> for Unsafe {
        fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
            self.0.push(block.unsafe_token.span);
        }
        fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
            self.0.extend(item.unsafety.map(|token| token.span));
            visit::visit_item_impl(self, item);
        }
        fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
            self.0.extend(item.unsafety.map(|token| token.span));
            visit::visit_item_trait(self, item);
        }
        fn visit_signature(&mut self, signature: &'ast syn::Signature) {
            self.0.extend(signature.unsafety.map(|token| token.span));
        }
        fn visit_macro(&mut self, call: &'ast Macro) {
            fn find(tokens: TokenStream, found: &mut Vec<Span>) {
                for token in tokens {
                    match token {
                        TokenTree::Ident(ident) if ident == "unsafe" => found.push(ident.span()),
                        TokenTree::Group(group) => find(group.stream(), found),
                        _ => {}
                    }
                }
            }
            find(call.tokens.clone(), &mut self.0);
        }
    }
    let mut found = each_file(of, |file| {
        let mut code = Unsafe::default();
        if file.file != Path::new(sys) {
            visit_items(&mut code, file);
        }
        let key = format!("{} unsafe", file.file.display());
        code.0.iter().map(|span| violation(file, *span, key.clone())).collect()
    });
    let root = &of.files[0];
    if of.name != crate_name && !forbids_unsafe(root) {
        let key = format!("{} has no #![forbid(unsafe_code)]", root.file.display());
        found.push(Violation::at(&root.file, 1, key));
    }
    found
}

fn forbids_unsafe(root: &SourceFile) -> bool {
    root.attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => {
            list.path.is_ident("forbid") && list.parse_args::<Ident>().is_ok_and(|lint| lint == "unsafe_code")
        }
        _ => false,
    })
}

/// Modules that use another module of their crate which is declared below them.
pub(crate) fn upward_uses(of: &Crate) -> Vec<Violation> {
    let declared = of.files[0].items.iter().filter_map(|item| match item {
        Item::Mod(module) => Some(module.ident.to_string()),
        _ => None,
    });
    let order: Vec<String> = declared.collect();
    let height = |module: &str| order.iter().position(|declared| declared == module);
    let reexports = imports(&of.files[0]);
    each_file(of, |file| {
        let Some(own) = file.module.first().and_then(|module| height(module)) else {
            return Vec::new();
        };
        let upward = names(file).into_iter().filter_map(|name| {
            let used = name.segments.get(1).filter(|_| name.segments[0] == "crate")?;
            // What the root re-exports is of the module that defines it.
            let defined = reexports
                .get(used)
                .and_then(|path| path.iter().find(|segment| *segment != "crate"));
            let used = if height(used).is_none() {
                defined.unwrap_or(used)
            } else {
                used
            };
            let is_above = height(used).is_some_and(|used| used > own);
            let key = format!("{} crate::{used}", file.file.display());
            is_above.then(|| Violation::at(&file.file, name.line, key))
        });
        upward.collect()
    })
}

fn each_file(of: &Crate, rule: impl Fn(&SourceFile) -> Vec<Violation>) -> Vec<Violation> {
    of.files.iter().flat_map(rule).collect()
}

fn visit_items<'a>(visitor: &mut impl Visit<'a>, file: &'a SourceFile) {
    for item in &file.items {
        visitor.visit_item(item);
    }
}

fn violation(file: &SourceFile, span: Span, key: String) -> Violation {
    Violation::at(&file.file, span.start().line, key)
}
