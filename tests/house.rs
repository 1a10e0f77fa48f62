//! Who may use whom: the order of the rooms, and what pure rooms must not name.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

use std::fs;
use std::path::{Path, PathBuf};

/// The pure rooms from the packet up: each uses only those before it.
const PURE: [&str; 9] = [
    "metrics", "turn", "rtp", "peer", "media", "ingest", "fanout", "room", "fuzz",
];
/// What touches the world.
const FORBIDDEN: [&str; 10] = [
    "std::fs",
    "std::thread",
    "UdpSocket",
    "TcpStream",
    "tokio",
    "Mutex",
    "RwLock",
    "SystemTime",
    "println!",
    "tracing::info",
];

fn files(room: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![src.join(format!("{room}.rs"))];
    let mut folders = vec![src.join(room)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs") && file.exists());
    files
}

/// The code of a file without comments and without its tests, which may do what they like.
fn code(file: &Path) -> String {
    let name = file.to_string_lossy();
    if name.contains("/tests") || name.ends_with("testing.rs") || name.ends_with("noise.rs") {
        return String::new();
    }
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn pure_rooms_name_no_world() {
    for room in PURE {
        assert!(!files(room).is_empty(), "room {room} has moved");
        for file in files(room) {
            for word in FORBIDDEN {
                assert!(!code(&file).contains(word), "{} names {word}", file.display());
            }
        }
    }
}

#[test]
fn pure_rooms_use_only_rooms_below() {
    for (place, room) in PURE.iter().enumerate().filter(|(_, room)| **room != "fuzz") {
        for file in files(room) {
            for above in PURE[place + 1..]
                .iter()
                .chain(&["net", "tls", "http", "client", "load", "app", "serve", "config"])
            {
                assert!(
                    !code(&file).contains(&format!("crate::{above}::")),
                    "{} uses {above}, which is above {room}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn unsafe_code_lives_in_one_file() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms = fs::read_dir(src)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    for room in rooms {
        for file in files(room.trim_end_matches(".rs")) {
            let allowed = file.ends_with("net/sys.rs");
            let uses = code(&file).contains("unsafe {") || code(&file).contains("unsafe impl");
            assert!(allowed || !uses, "{} has unsafe code", file.display());
        }
    }
}
