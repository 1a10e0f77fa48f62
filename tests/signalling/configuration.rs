//! The configuration file, as its user meets it: checked, printed, read at the start and again at SIGHUP.

use std::fs;

use super::process::{Running, onecast, refused};
#[cfg(unix)]
use super::{
    rig::SDP,
    wire::{Wire, request},
};

#[test]
fn checking_a_file_reports_that_it_is_valid_or_where_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("onecast.toml");
    let name = file.to_str().unwrap();
    fs::write(&file, "http = \"127.0.0.1:0\"\nmax-viewers = 5\n").unwrap();
    let output = onecast(&["config", "check", name]).output().unwrap();
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("is valid: it sets 2 options")
    );

    fs::write(&file, "\nmax-viewrs = 5\nhttp = 8080\n").unwrap();
    let text = refused(&["config", "check", name]);
    assert!(
        text.contains("line 2: there is no option max-viewrs; did you mean max-viewers?"),
        "{text}"
    );
    let text = refused(&["--config", name]);
    assert!(text.contains("onecast.toml") && text.contains("max-viewers?"), "{text}");
    fs::write(&file, "\nhttp = 8080\n").unwrap();
    assert!(refused(&["--config", name]).contains("line 2: "));
    assert!(refused(&["config", "check", "/no/such/file"]).contains("/no/such/file"));
}

#[test]
fn the_example_file_is_valid() {
    let example = onecast(&["config", "example"]).output().unwrap().stdout;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("onecast.toml");
    fs::write(&file, &example).unwrap();
    assert!(
        onecast(&["config", "check", file.to_str().unwrap()])
            .status()
            .unwrap()
            .success()
    );
    assert!(
        String::from_utf8(example)
            .unwrap()
            .contains("#http = \"127.0.0.1:8080\"")
    );
}

/// The table of a token, with its hash.
#[cfg(unix)]
fn table(secret: &str) -> String {
    use std::io::Write as _;
    let mut hashing = onecast(&["token", "hash"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    hashing.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
    let output = hashing.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let hash = String::from_utf8(output.stdout).unwrap();
    format!(
        "[[token]]\nname = \"studio\"\nhash = \"{}\"\npublish = [\"live\"]\n",
        hash.trim()
    )
}

#[cfg(unix)]
#[tokio::test]
async fn tokens_of_the_file_apply_and_a_signal_replaces_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("onecast.toml");
    let before = "a-secret-of-many-characters-0123456789";
    let after = "a-later-secret-of-many-characters-0123";
    fs::write(&file, table(before)).unwrap();
    let mut server = Running::start(&["--config", file.to_str().unwrap()]);
    let http = server.http;
    let post = async |secret: &str| {
        let mut wire = Wire::connect(http).await;
        let bearer = format!("Bearer {secret}");
        wire.send(request(
            "POST",
            "/whip/live",
            &[SDP, ("Authorization", &bearer)],
            "no offer",
        ))
        .await;
        wire.reply().await.unwrap().status
    };
    assert_eq!((post(before).await, post(after).await), (400, 401));
    fs::write(&file, table(after)).unwrap();
    server.signal("HUP");
    assert!(server.line_with("changed: ").contains("[[token]]"));
    assert_eq!((post(before).await, post(after).await), (401, 400));
    // The last one can be taken back, too.
    fs::write(&file, "").unwrap();
    server.signal("HUP");
    assert!(server.line_with("changed: ").contains("[[token]]"));
    assert_eq!((post(before).await, post(after).await), (401, 401));
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_without_tokens_does_not_claim_to_have_reloaded_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("onecast.toml");
    fs::write(&file, "").unwrap();
    let mut server = Running::start(&["--config", file.to_str().unwrap()]);
    fs::write(&file, table("a-secret-of-many-characters-0123456789")).unwrap();
    server.signal("HUP");
    assert!(
        server
            .line_with("tokens and keys are unchanged")
            .contains("--auth off requires a restart")
    );
    assert!(server.line_with("need a restart to change").contains("[[token]]"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_reloads_the_file_and_reports_what_needs_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("onecast.toml");
    fs::write(&file, "max-viewers = 5\n").unwrap();
    let mut server = Running::start(&["--config", file.to_str().unwrap()]);
    fs::write(&file, "max-viewers = 6\nkeyframe-share = 20\n").unwrap();
    server.signal("HUP");
    assert!(server.line_with("changed: ").contains("max-viewers"));
    assert!(server.line_with("need a restart to change").contains("keyframe-share"));
    fs::write(&file, "max-viewers = \"six\"\n").unwrap();
    server.signal("HUP");
    assert!(server.line_with("configuration is unchanged").contains("onecast.toml"));
    assert!(server.line_with("line 1").contains("max-viewers"));
    server.signal("TERM");
    assert_eq!(server.ended().await.0, Some(0));
}
