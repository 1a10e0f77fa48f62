//! Each kind of violation, planted in a small crate: proof that the rules find it.

use std::collections::HashMap;
use std::path::Path;

use crate::rules::{self, Violation};
use crate::source::{Crate, Tree};

/// Files of a test, by path.
struct Planted(HashMap<&'static str, &'static str>);

impl Tree for Planted {
    fn read(&self, file: &Path) -> Option<String> {
        self.0.get(file.to_str()?).map(|text| (*text).to_owned())
    }
}

fn planted<const N: usize>(files: [(&'static str, &'static str); N]) -> Crate {
    Crate::load(&Planted(files.into()), "planted", Path::new("src/lib.rs"))
}

fn one_file(text: &'static str) -> Crate {
    planted([("src/lib.rs", text)])
}

fn keys(found: Vec<Violation>) -> Vec<String> {
    found.into_iter().map(|violation| violation.key).collect()
}

#[test]
fn globs_are_found_and_those_of_tests_are_not() {
    let crate_ = planted([
        ("src/lib.rs", "mod a; mod b; #[cfg(test)] mod testing;"),
        ("src/a.rs", "use super::*;"),
        (
            "src/b/mod.rs",
            "mod c; use std::{fmt, collections::{hash_map::*, VecDeque}};",
        ),
        (
            "src/b/c.rs",
            "#[cfg(test)] mod tests { use super::*; } fn f() { use E::*; } mod inner { use super::*; }",
        ),
    ]);
    assert_eq!(
        keys(rules::globs(&crate_)),
        ["src/a.rs", "src/b/mod.rs", "src/b/c.rs", "src/b/c.rs"]
    );
}

#[test]
fn folder_named_tests_is_checked_like_any_other() {
    let tests = planted([
        ("src/lib.rs", "mod tests;"),
        ("src/tests.rs", "mod testing;"),
        ("src/tests/testing.rs", "use super::*;"),
    ]);
    assert_eq!(keys(rules::globs(&tests)), ["src/tests/testing.rs"]);
}

#[test]
fn type_names_that_are_repeated_are_found() {
    let crate_ = planted([
        (
            "src/lib.rs",
            "mod a; mod b; struct Once; #[cfg(test)] mod tests { struct Entry; struct Once; }",
        ),
        ("src/a.rs", "pub struct Entry; trait Line {}"),
        (
            "src/b.rs",
            "enum Entry {} type Line = u8; mod inner { union Other { a: u8 } } trait T { type Once; }",
        ),
    ]);
    let found = keys(rules::repeated_types(&crate_));
    assert_eq!(
        found,
        ["planted Entry", "planted Entry", "planted Line", "planted Line"]
    );
}

#[test]
fn names_of_the_world_are_found_however_they_are_imported() {
    for text in [
        "use std::net::UdpSocket;",
        "use std::{fmt, net::{IpAddr, TcpStream as Stream}};",
        "use std::net; fn f(socket: &net::UdpSocket) {}",
        "use std::{net::{self as sockets}}; use sockets::UdpSocket;",
        "fn f() { let _ = std::fs::read(\"x\"); }",
        "use std::thread;",
        "struct S { lock: std::sync::Mutex<u8> }",
        "use std::sync::{Arc, RwLock};",
        "use std::time::Instant; fn f() -> Instant { Instant::now() }",
        "use std::time::Instant; fn f() { assert!(g(1, Instant::now()) > 2); }",
        "use std::time::{Duration, SystemTime};",
        "fn f() { println!(\"x\"); }",
        "fn f() { if true { assert!({ eprintln!(\"x\"); true }); } }",
    ] {
        assert!(!rules::worldly_names(&one_file(text)).is_empty(), "{text}");
    }
    for text in [
        "use std::net::{IpAddr, SocketAddr}; use std::time::Instant; fn f(now: Instant) {}",
        "use std::sync::Arc; use std::sync::atomic::AtomicU64;",
        "#[cfg(test)] mod tests { use std::time::Instant; fn f() { Instant::now(); println!(); } }",
        "#[test] fn t() { std::fs::read(\"x\"); }",
        "/// Not a `std::fs::File`.\nfn f() -> &'static str { \"std::thread\" }",
    ] {
        assert_eq!(keys(rules::worldly_names(&one_file(text))), [""; 0], "{text}");
    }
}

#[test]
fn dependencies_on_the_world_are_found() {
    let found = |manifest| keys(rules::worldly_dependencies(manifest, "Cargo.toml"));
    let pure =
        "[dependencies]\nbytes = '1'\nonecast-rtc = { path = '../onecast-rtc' }\n[dev-dependencies]\ntokio = '1'";
    assert_eq!(found(pure), [""; 0]);
    assert_eq!(found("[dependencies]\ntokio.workspace = true"), ["Cargo.toml tokio"]);
    let renamed = "[dependencies]\nbytes = { package = 'socket2', version = '0.6' }";
    assert_eq!(found(renamed), ["Cargo.toml socket2"]);
    let of_a_system = "[target.'cfg(unix)'.dependencies]\nlibc = '0.2'";
    assert_eq!(found(of_a_system), ["Cargo.toml libc"]);
}

#[test]
fn unsafe_code_is_found_outside_of_its_file() {
    let found = |text| {
        let files = [
            ("src/lib.rs", "#![forbid(unsafe_code)] mod sys; mod other;"),
            ("src/sys.rs", "unsafe fn f() {}"),
        ];
        let crate_ = planted([files[0], files[1], ("src/other.rs", text)]);
        keys(rules::unsafe_code(&crate_, ("udp", "src/sys.rs")))
    };
    for text in [
        "fn f() { unsafe { g() } }",
        "unsafe fn f() {}",
        "unsafe impl Send for S {}",
        "impl S { unsafe fn f() {} }",
        "fn f() { assert!(unsafe { g() }); }",
    ] {
        assert_eq!(found(text), ["src/other.rs unsafe"], "{text}");
    }
    assert_eq!(found("fn f() { g(\"unsafe {\") } // unsafe"), [""; 0]);
}

#[test]
fn crate_that_does_not_forbid_unsafe_code_is_found() {
    let found = |text, crate_name| keys(rules::unsafe_code(&one_file(text), (crate_name, "src/sys.rs")));
    assert_eq!(
        found("#![deny(unsafe_code)]", "udp"),
        ["src/lib.rs has no #![forbid(unsafe_code)]"]
    );
    assert_eq!(found("#![deny(unsafe_code)]", "planted"), [""; 0]);
}

#[test]
fn uses_of_modules_further_up_are_found() {
    let found = |text| {
        let crate_ = planted([
            ("src/lib.rs", "mod low; mod middle; mod high; pub use high::Top;"),
            ("src/low.rs", ""),
            ("src/middle.rs", "mod part;"),
            ("src/middle/part.rs", text),
            ("src/high.rs", ""),
        ]);
        keys(rules::upward_uses(&crate_))
    };
    for text in [
        "use crate::high::Top;",
        "use crate::{low::Bottom, high::{Top, Other}};",
        "use crate::Top;",
        "use super::super::high;",
        "fn f() { crate::high::g(); }",
        "fn f() { debug!(\"{}\", crate::high::g()); }",
    ] {
        let found = found(text);
        assert!(
            found.iter().any(|key| key == "src/middle/part.rs crate::high"),
            "{text}: {found:?}"
        );
    }
    assert_eq!(
        found("use crate::low::Bottom; use super::X; use crate::middle::Y; use high::Other;"),
        [""; 0]
    );
}
