//! Rules of the code base that neither Cargo nor the compiler can check, and proof that each of them is enforced.
//!
//! Source files are parsed and followed from the root of each crate through its `mod` declarations, so a rule sees exactly what is
//! compiled. Code under `#[cfg(test)]` is left out.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod exceptions;
mod names;
mod planted;
mod rules;
mod source;

use std::collections::BTreeSet;
use std::path::Path;

use rules::Violation;
use source::{Crate, SourceFile, Tree};

/// The checkout.
struct Checkout;

impl Tree for Checkout {
    fn read(&self, file: &Path) -> Option<String> {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).ok()
    }
}

/// Crates without sockets, threads, locks and clocks: all they learn of the world are arguments.
const PURE: &[&str] = &["onecast-metrics", "onecast-rtc", "onecast-engine", "onecast-control"];

/// Modules of the server that are pure, although their crate is not.
const PURE_MODULES: &[&str] = &["turn", "fuzz"];

/// The only crate with unsafe code, in this file.
const UNSAFE: (&str, &str) = ("onecast-udp", "crates/onecast-udp/src/sys.rs");

/// Crates whose modules use only those that are declared above them.
const LAYERED: &[&str] = &["onecast-engine"];

/// Names of the folders below `crates/`.
fn folders() -> Vec<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let entries = std::fs::read_dir(crates).unwrap().map(Result::unwrap);
    let crates = entries.filter(|entry| entry.path().join("Cargo.toml").is_file());
    let mut names: Vec<String> = crates.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn crates() -> Vec<Crate> {
    let below = folders();
    let roots = below
        .iter()
        .map(|name| (name.as_str(), format!("crates/{name}/src/lib.rs")));
    let root_package = [
        ("onecast", "src/lib.rs".to_owned()),
        ("onecast (program)", "src/main.rs".to_owned()),
    ];
    let roots = roots.chain(root_package);
    roots
        .map(|(name, root)| Crate::load(&Checkout, name, Path::new(&root)))
        .collect()
}

fn of<'a>(crates: &'a [Crate], names: &[&str]) -> Vec<&'a Crate> {
    let found: Vec<&Crate> = crates.iter().filter(|one| names.contains(&one.name.as_str())).collect();
    assert_eq!(found.len(), names.len(), "{names:?}: a crate has moved");
    found
}

/// Compares what is found with the known exceptions, which may neither grow nor outlive their reason.
#[track_caller]
fn assert_only(found: Vec<Violation>, exceptions: &[&str]) {
    let known: BTreeSet<&str> = exceptions.iter().copied().collect();
    let new: Vec<String> = found
        .iter()
        .filter(|violation| !known.contains(violation.key.as_str()))
        .map(Violation::to_string)
        .collect();
    assert!(new.is_empty(), "violations:\n{}", new.join("\n"));
    let still: BTreeSet<&str> = found.iter().map(|violation| violation.key.as_str()).collect();
    let gone: Vec<&&str> = known.difference(&still).collect();
    assert!(
        gone.is_empty(),
        "remove from tests/house/exceptions.rs, they are no longer needed:\n{gone:#?}"
    );
}

#[test]
fn only_tests_import_by_glob() {
    let found = crates().iter().flat_map(rules::globs).collect();
    assert_only(found, exceptions::GLOBS);
}

#[test]
fn no_type_name_is_defined_twice_within_a_crate() {
    let found = crates().iter().flat_map(rules::repeated_types).collect();
    assert_only(found, exceptions::REPEATED_TYPES);
}

#[test]
fn pure_crates_name_nothing_of_the_world() {
    let crates = crates();
    let found = of(&crates, PURE).into_iter().flat_map(rules::worldly_names).collect();
    assert_only(found, exceptions::WORLDLY_NAMES);
}

#[test]
fn pure_modules_of_the_server_name_nothing_of_the_world() {
    let crates = crates();
    let onecast = of(&crates, &["onecast"])[0];
    for module in PURE_MODULES {
        let places = [format!("src/{module}.rs "), format!("src/{module}/")];
        let found = rules::worldly_names(onecast)
            .into_iter()
            .filter(|violation| places.iter().any(|place| violation.key.starts_with(place)))
            .collect();
        assert_only(found, &[]);
        // The server depends on these, unlike the pure crates.
        for (file, name) in names_in(onecast, module) {
            assert!(
                !name.starts_with("tokio") && !name.starts_with("tracing"),
                "{file}: {name}"
            );
        }
    }
}

#[test]
fn turn_uses_nothing_else_of_the_workspace() {
    let crates = crates();
    for (file, name) in names_in(of(&crates, &["onecast"])[0], "turn") {
        let is_elsewhere = name.starts_with("crate::") && !name.starts_with("crate::turn");
        assert!(!is_elsewhere && !name.starts_with("onecast"), "{file}: {name}");
    }
}

/// Files of a module and the names in them, which are at least one.
fn names_in(of: &Crate, module: &str) -> Vec<(String, String)> {
    let is_inside = |file: &&SourceFile| file.module.first().is_some_and(|first| first == module);
    let files = of.files.iter().filter(is_inside);
    let found: Vec<_> = files
        .flat_map(|file| names::names(file).into_iter().map(move |name| (file, name)))
        .map(|(file, name)| (file.file.display().to_string(), name.segments.join("::")))
        .collect();
    assert!(!found.is_empty(), "{module} has moved");
    found
}

#[test]
fn pure_crates_depend_only_on_pure_crates() {
    let manifest = |name: &str| {
        let file = format!("crates/{name}/Cargo.toml");
        (Checkout.read(Path::new(&file)).unwrap(), file)
    };
    let manifests = PURE.iter().map(|name| manifest(name));
    let found = manifests
        .flat_map(|(text, file)| rules::worldly_dependencies(&text, &file))
        .collect();
    assert_only(found, &[]);
}

#[test]
fn unsafe_code_lives_in_one_file() {
    let crates = crates();
    let found = crates.iter().flat_map(|one| rules::unsafe_code(one, UNSAFE)).collect();
    assert_only(found, exceptions::UNSAFE_CODE);
}

#[test]
fn modules_use_only_those_declared_above_them() {
    let crates = crates();
    let found = of(&crates, LAYERED).into_iter().flat_map(rules::upward_uses).collect();
    assert_only(found, exceptions::UPWARD_USES);
}

#[test]
fn rtp_uses_no_other_module_of_its_crate() {
    let crates = crates();
    for (file, name) in names_in(of(&crates, &["onecast-rtc"])[0], "rtp") {
        let is_elsewhere = name.starts_with("crate::") && !name.starts_with("crate::rtp");
        assert!(!is_elsewhere, "{file}: {name}");
    }
}
