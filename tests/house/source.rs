//! Crates as the compiler sees them: parsed files, followed through `mod` declarations, without tests.

use std::path::{Path, PathBuf};

use syn::{Attribute, Item, Meta};

/// Where files are read from: the checkout, or the text of a test.
pub(crate) trait Tree {
    /// Text of a file, by its path from the root of the workspace.
    fn read(&self, file: &Path) -> Option<String>;
}

/// One crate.
pub(crate) struct Crate {
    pub(crate) name: String,
    /// The first one is the root.
    pub(crate) files: Vec<SourceFile>,
}

/// One file of a crate.
pub(crate) struct SourceFile {
    pub(crate) file: PathBuf,
    /// Names of the modules that lead to it; none for the root.
    pub(crate) module: Vec<String>,
    pub(crate) attributes: Vec<Attribute>,
    /// Without tests.
    pub(crate) items: Vec<Item>,
}

impl Crate {
    pub(crate) fn load(tree: &dyn Tree, name: &str, root: &Path) -> Crate {
        let mut files = Vec::new();
        let folder = root.parent().unwrap_or(Path::new(""));
        load_file(tree, root, folder, Vec::new(), &mut files);
        Crate {
            name: name.to_owned(),
            files,
        }
    }
}

/// `folder` is where the file's own modules are.
fn load_file(tree: &dyn Tree, file: &Path, folder: &Path, module: Vec<String>, files: &mut Vec<SourceFile>) {
    let text = tree
        .read(file)
        .unwrap_or_else(|| panic!("{} is missing", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let place = files.len();
    files.push(SourceFile {
        file: file.to_owned(),
        module: module.clone(),
        attributes: parsed.attrs,
        items: Vec::new(),
    });
    let items = without_tests(parsed.items);
    load_modules(tree, &items, file, folder, &module, files);
    files[place].items = items;
}

fn load_modules(
    tree: &dyn Tree,
    items: &[Item],
    file: &Path,
    folder: &Path,
    module: &[String],
    files: &mut Vec<SourceFile>,
) {
    for item in items {
        let Item::Mod(declared) = item else { continue };
        let name = declared.ident.to_string();
        let inner = [module, std::slice::from_ref(&name)].concat();
        let below = folder.join(&name);
        match &declared.content {
            Some((_, items)) => load_modules(tree, items, file, &below, &inner, files),
            None => {
                let paths = match path_attribute(&declared.attrs) {
                    Some(path) => vec![file.parent().unwrap_or(Path::new("")).join(path)],
                    None => vec![below.with_extension("rs"), below.join("mod.rs")],
                };
                let found = paths.iter().find(|path| tree.read(path).is_some());
                let found = found.unwrap_or_else(|| panic!("{}: module {name} is missing", file.display()));
                load_file(tree, found, &below, inner, files);
            }
        }
    }
}

/// Drops tests, down to those in inline modules.
fn without_tests(items: Vec<Item>) -> Vec<Item> {
    let mut kept = Vec::new();
    for mut item in items {
        if is_test(attributes(&item)) {
            continue;
        }
        if let Item::Mod(module) = &mut item
            && let Some((_, inner)) = &mut module.content
        {
            *inner = without_tests(std::mem::take(inner));
        }
        kept.push(item);
    }
    kept
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[test]`, `#[tokio::test]` or `#[cfg(test)]`, also with more conditions.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let is_function = path.segments.last().is_some_and(|last| last.ident == "test");
        is_function || (path.is_ident("cfg") && needs_test(&attribute.meta))
    })
}

fn needs_test(meta: &Meta) -> bool {
    let Meta::List(list) = meta else {
        return meta.path().is_ident("test");
    };
    if !(list.path.is_ident("cfg") || list.path.is_ident("all")) {
        return false;
    }
    let parse = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
    let conditions = list.parse_args_with(parse);
    conditions.is_ok_and(|conditions| conditions.iter().any(needs_test))
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(text),
                ..
            }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}
