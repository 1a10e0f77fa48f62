//! Pages, built in and from a directory.

use std::fs;

use onecast::http::{HttpLimits, Pages};

use super::rig::Rig;

async fn from_directory() -> (Rig, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("html");
    fs::create_dir_all(below.join("parts")).unwrap();
    for (name, text) in [
        ("index.html", "<p>front"),
        ("viewer.html", "<p>viewer"),
        ("style.css", "p {}"),
        ("parts/peer.js", "export {}"),
        ("icon.svg", "<svg/>"),
    ] {
        fs::write(below.join(name), text).unwrap();
    }
    fs::write(directory.path().join("secret"), "secret").unwrap();
    let rig = Rig::with(Pages::directory(below), HttpLimits::default(), "127.0.0.1:0").await;
    (rig, directory)
}

#[tokio::test]
async fn files_of_a_directory_have_their_types_and_are_not_cached() {
    let (rig, _directory) = from_directory().await;
    for (path, media_type, text) in [
        ("/", "text/html; charset=utf-8", "<p>front"),
        ("/index.html", "text/html; charset=utf-8", "<p>front"),
        ("/viewer.html", "text/html; charset=utf-8", "<p>viewer"),
        ("/viewer.html?stream=talk", "text/html; charset=utf-8", "<p>viewer"),
        ("/style.css", "text/css; charset=utf-8", "p {}"),
        ("/parts/peer.js", "text/javascript; charset=utf-8", "export {}"),
        ("/icon.svg", "image/svg+xml", "<svg/>"),
    ] {
        let reply = rig.get(path).await;
        assert_eq!((reply.status, reply.text()), (200, text), "{path}");
        assert_eq!(reply.header("content-type"), Some(media_type), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        let head = rig.request("HEAD", path, &[], "").await;
        assert_eq!(
            (head.status, head.header("content-type"), head.text()),
            (200, Some(media_type), "")
        );
    }
}

#[tokio::test]
async fn a_folder_without_its_slash_redirects_below_any_path() {
    let (rig, _directory) = from_directory().await;
    let reply = rig.get("/parts?x=1").await;
    assert_eq!((reply.status, reply.header("location")), (307, Some("./parts/?x=1")));
}

#[tokio::test]
async fn an_edited_file_is_served_with_its_new_content() {
    let (rig, directory) = from_directory().await;
    fs::write(directory.path().join("html/viewer.html"), "edited").unwrap();
    assert_eq!(rig.get("/viewer.html").await.text(), "edited");
}

#[tokio::test]
async fn nothing_outside_the_directory_is_served() {
    let (rig, _directory) = from_directory().await;
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/parts/../../secret",
        "/%2e%2e%2fsecret",
        "//secret",
        "/..\\secret",
        "/secret%00",
    ] {
        let reply = rig.get(path).await;
        assert!((400..500).contains(&reply.status), "{path}: {}", reply.status);
        assert!(!reply.text().contains("secret\n") && reply.text() != "secret");
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_with_a_list_of_paths() {
    let (on_disk, _directory) = from_directory().await;
    for rig in [Rig::start().await, on_disk] {
        for (method, path) in [
            ("GET", "/nothing.html"),
            ("HEAD", "/nothing.html"),
            ("POST", "/nothing"),
            ("DELETE", "/x/y"),
        ] {
            let reply = rig.request(method, path, &[], "").await;
            assert_eq!(reply.status, 404, "{method} {path}");
            assert!(reply.header("content-type").unwrap().starts_with("text/plain"));
            assert!(method == "HEAD" || reply.text().contains("POST /whip/NAME"));
        }
        rig.request("POST", "/whip", &[], "").await.problem(404);
    }
}

#[tokio::test]
async fn every_file_in_html_is_built_in_and_revalidated() {
    let rig = Rig::start().await;
    let html = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("html");
    let files = fs::read_dir(&html).unwrap().map(|entry| entry.unwrap());
    for file in files.filter(|file| file.file_type().unwrap().is_file()) {
        let path = format!("/{}", file.file_name().to_str().unwrap());
        let reply = rig.get(&path).await;
        if path.starts_with("/.") {
            assert_eq!(reply.status, 404, "{path}");
            continue;
        }
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.body, fs::read(file.path()).unwrap(), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-cache"));
        let etag = reply.header("etag").unwrap();
        assert_eq!(
            rig.request("GET", &path, &[("If-None-Match", etag)], "").await.status,
            304
        );
        let put = rig.request("PUT", &path, &[], "").await;
        assert_eq!((put.status, put.header("allow")), (405, Some("GET, HEAD")));
    }
}

#[tokio::test]
async fn pages_run_only_their_own_scripts_and_only_the_viewer_can_be_embedded() {
    let rig = Rig::start().await;
    let pages = [
        ("/", false),
        ("/broadcast.html", false),
        ("/viewer.html", true),
        ("/conference.html", false),
    ];
    for (path, framed) in pages {
        let page = rig.get(path).await;
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'self';") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(!policy.contains("frame-ancestors 'none'"), framed, "{path} {policy}");
        // What the policy forbids does not run: the pages have none of it.
        let text = page.text();
        assert!(!text.contains("style=") && !text.contains("javascript:"), "{path}");
        for script in text.split("<script").skip(1) {
            let (tag, within) = script.split_once('>').unwrap();
            assert!(
                tag.contains("src=\"js/") && within.starts_with("</script>"),
                "{path} has a script within it"
            );
        }
        assert!(!text.contains("<style"), "{path}");
    }
    assert_eq!(rig.get("/js/viewer.js").await.header("content-security-policy"), None);
}

/// A proxy may serve the pages below a path of its own, and a browser opens them from disk.
#[test]
fn pages_refer_to_nothing_by_an_absolute_path() {
    for (path, text) in sources() {
        for quote in ["\"/", "'/", "`/", "(/"] {
            let found = text.lines().find(|line| {
                let mut rest = line.split(quote).skip(1);
                rest.any(|after| after.starts_with(|next: char| next.is_ascii_lowercase() || next == '"'))
                    && !line.trim_start().starts_with("//")
                    && !line.contains(".match(")
            });
            assert_eq!(found, None, "{path}");
        }
    }
}

/// Browsers load no modules from disk. So what the pages need there is in plain scripts, whose names all scripts of a page share.
#[test]
fn plain_scripts_import_nothing_and_define_distinct_names() {
    for (path, text) in sources().into_iter().filter(|(path, _)| path.ends_with(".html")) {
        let mut names = std::collections::HashSet::new();
        for script in text.split("<script defer src=\"").skip(1) {
            let script = script.split_once('"').unwrap().0;
            let source = fs::read_to_string(html().join(script)).unwrap();
            assert!(source.contains("\n'use strict';\n"), "{script}");
            for line in source.lines() {
                let line = line.strip_prefix("async ").unwrap_or(line);
                assert!(
                    !line.starts_with("import ") && !line.starts_with("export "),
                    "{script} is no module: {line}"
                );
                let declared = ["function ", "class ", "const ", "let "];
                let rest = declared.iter().find_map(|word| line.strip_prefix(word));
                let name = rest.and_then(|rest| rest.split([' ', '(', ';']).next());
                if let Some(name) = name {
                    assert!(names.insert(name.to_owned()), "{path} declares {name} twice");
                }
            }
        }
        assert!(!names.is_empty(), "{path}");
    }
}

fn html() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("html")
}

/// The text of each page and script.
fn sources() -> Vec<(String, String)> {
    let of = |directory: std::path::PathBuf| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let all = of(html()).chain(of(html().join("js")));
    let files = all.filter(|path| path.is_file() && path.extension().is_some_and(|kind| kind != "svg"));
    let read = |path: std::path::PathBuf| (path.display().to_string(), fs::read_to_string(&path).unwrap());
    files.map(read).collect()
}

#[tokio::test]
async fn pages_send_no_referrer() {
    let rig = Rig::start().await;
    for path in ["/viewer.html?token=t", "/js/viewer.js", "/api/streams", "/nothing"] {
        assert_eq!(
            rig.get(path).await.header("referrer-policy"),
            Some("no-referrer"),
            "{path}"
        );
    }
}
