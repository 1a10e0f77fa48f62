//! Replays every file of `fuzz/corpus/<target>/` through the target's function: bugs that a fuzzer has found stay fixed.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use super::TARGETS;

#[test]
fn corpora_hold() {
    for (name, target) in TARGETS {
        let files = files_in(&fuzz().join("corpus").join(name));
        assert!(!files.is_empty(), "fuzz target {name} has no corpus");
        for file in files {
            let data = fs::read(&file).unwrap();
            assert!(
                catch_unwind(|| target(&data)).is_ok(),
                "{name} fails with {}",
                file.display()
            );
        }
    }
}

#[test]
fn every_target_has_its_program_and_every_corpus_its_target() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(fuzz().join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is not in fuzz/Cargo.toml"
        );
    }
    for folder in files_in(&fuzz().join("corpus")) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "no target {name}");
    }
}

#[test]
fn offers_of_real_clients_hold_too() {
    let (_, target) = TARGETS.iter().find(|(name, _)| *name == "sdp_offer").unwrap();
    for file in files_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/offers")) {
        target(&fs::read(file).unwrap());
    }
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder that can be read").path())
        .collect();
    files.sort();
    files
}
