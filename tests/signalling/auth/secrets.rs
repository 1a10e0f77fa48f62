//! The program itself with every kind of authority, and what it writes: never a secret, since it writes to no terminal here.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use onecast::auth::Secret;
use onecast_udp::clock;
use serde_json::json;

use super::super::rig::{FRAGMENT, SDP};
use super::super::wire::{Reply, Wire, request};
use super::bearer;

/// A running server, whose output is kept.
struct Program {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    state: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kept(mut pipe: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::<Mutex<String>>::default();
    let kept = text.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = pipe.read(&mut buffer) {
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
    });
    text
}

impl Program {
    async fn start(words: &[&str]) -> Program {
        Program::start_in(tempfile::tempdir().unwrap(), words).await
    }

    async fn start_in(state: tempfile::TempDir, words: &[&str]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onecast"))
            .args(["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            .args(words)
            .env("RUST_LOG", "debug")
            .env("ONECAST_STATE_DIR", state.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = kept(child.stdout.take().unwrap());
        let stderr = kept(child.stderr.take().unwrap());
        let program = Program {
            child,
            stdout,
            stderr,
            state,
        };
        for _ in 0..200 {
            if program.log().contains("listening http=") {
                return program;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not listen: {}", program.log());
    }

    fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// The tokens that the server has made.
    fn made(&self) -> serde_json::Value {
        let file = self.state.path().join("state/tokens.json");
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }

    fn banner(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let log = self.log();
        let address = log.split("http=").nth(1).unwrap().split_whitespace().next().unwrap();
        let mut wire = Wire::connect(address.parse().unwrap()).await;
        wire.send(request(method, path, headers, body)).await;
        wire.reply().await.unwrap()
    }

    /// Sends every request that this token allows and some that it does not. Returns the responses as text.
    async fn used_with(&self, token: &str) -> String {
        let authorization = bearer(token);
        let with = [SDP, ("Authorization", &*authorization)];
        let offer = include_str!("../../data/offers/chromium156-publish.sdp")
            .replace('\n', "\r\n")
            .replace("\r\r", "\r");
        let mut answers = Vec::new();
        let opened = self.request("POST", "/whip/live", &with, &offer).await;
        let session = opened.header("location").unwrap_or("/whip/live/0").to_owned();
        answers.push(opened);
        let headers = [FRAGMENT, ("Authorization", &*authorization)];
        for (method, path) in [
            ("PATCH", &*session),
            ("GET", &*session),
            ("DELETE", &*session),
            ("GET", "/api/streams"),
            ("GET", "/api/shards"),
        ] {
            answers.push(self.request(method, path, &headers, "").await);
        }
        for path in [
            "/whep/live",
            "/whip/live",
            "/sdp/live",
            "/api/streams",
            "/viewer.html",
            "/ws",
            "/api/rooms/live",
            "/nothing-here",
        ] {
            let method = if path.starts_with("/wh") || path.starts_with("/sdp") {
                "POST"
            } else {
                "GET"
            };
            let path = format!("{path}?token={token}");
            answers.push(self.request(method, &path, &[SDP], &offer).await);
        }
        for page in ["/", "/broadcast.html", "/viewer.html", "/js/token.js"] {
            answers.push(self.request("GET", page, &headers, "").await);
        }
        answers.push(self.request("POST", "/whip/other-room", &with, "no offer").await);
        let mangled = format!("Bearer {token}x");
        answers.push(
            self.request("POST", "/whip/live", &[SDP, ("Authorization", &*mangled)], &offer)
                .await,
        );
        let texts = answers
            .iter()
            .map(|reply| format!("{:?} {}", reply.headers, String::from_utf8_lossy(&reply.body)));
        texts.collect::<Vec<_>>().join("\n")
    }
}

#[track_caller]
fn keeps(secret: &str, texts: &[(&str, &str)]) {
    assert!(secret.len() >= 8, "too short to be looked for");
    for (what, text) in texts {
        assert!(!text.contains(secret), "a secret is in {what}:\n{text}");
    }
}

#[tokio::test]
async fn generated_tokens_appear_only_in_their_file() {
    let program = Program::start(&["--auth", "tokens", "--private", "--demo"]).await;
    let banner = program.banner();
    let file = program.state.path().join("state/tokens.json");
    assert!(banner.contains(file.to_str().unwrap()), "{banner}");
    let made = program.made();
    let [publish, watch, admin] = ["publish", "watch", "admin"].map(|name| made[name].as_str().unwrap());
    assert!(publish != watch && watch != admin && publish.len() == 32);
    let mut answers = Vec::new();
    for token in [publish, watch, admin] {
        answers.push(program.used_with(token).await);
    }
    assert_eq!(
        program
            .request("GET", "/api/shards", &[("Authorization", &*bearer(admin))], "")
            .await
            .status,
        200
    );
    assert!(answers[0].contains("v=0"), "the token opens a session: {}", answers[0]);
    // The test card has a token of its own, and is let in.
    let is_live = |log: &str| {
        log.lines()
            .any(|line| line.contains("broadcaster connected") && line.contains("demo"))
    };
    for _ in 0..150 {
        if is_live(&program.log()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let log = program.log();
    assert!(is_live(&log), "{log}");
    assert!(log.contains("request method=POST"), "the log tells of requests: {log}");
    for secret in [publish, watch, admin] {
        let answers = answers.join("\n");
        keeps(
            secret,
            &[("the log", &log), ("the banner", &banner), ("an answer", &answers)],
        );
    }
    assert_eq!(program.banner(), banner, "nothing comes after the banner");
}

#[tokio::test]
async fn a_restart_keeps_the_links() {
    let program = Program::start(&["--auth", "tokens"]).await;
    let first = program.made();
    let kept = tempfile::tempdir().unwrap();
    std::fs::rename(program.state.path().join("state"), kept.path().join("state")).unwrap();
    drop(program);
    let again = Program::start_in(kept, &["--auth", "tokens"]).await;
    assert_eq!(again.made(), first);
    let publish = bearer(first["publish"].as_str().unwrap());
    let reply = again
        .request("POST", "/whip/live", &[SDP, ("Authorization", &publish)], "no offer")
        .await;
    assert_eq!(reply.status, 400, "the token is still good: {reply:?}");
}

#[tokio::test]
async fn without_a_state_directory_tokens_last_for_one_run_and_the_log_says_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("state");
    let program = Program::start(&["--auth", "tokens", "--state-dir", below.to_str().unwrap()]).await;
    let log = program.log();
    assert!(log.contains("valid for this run only"), "{log}");
    let banner = program.banner();
    assert!(
        banner.contains("--state-dir") && !banner.contains("#token=") || banner.contains("#token=TOKEN"),
        "{banner}"
    );
}

#[tokio::test]
async fn tokens_of_a_file_are_never_revealed() {
    let (token, password) = (Secret::generate(), "correct-horse-battery");
    let file = tempfile::NamedTempFile::new().unwrap();
    let hash = Secret::new(password).hash_slowly();
    let tables = format!(
        "[[token]]\nname = \"studio\"\nhash = \"{}\"\npublish = \"*\"\n[[token]]\nname = \"person\"\nhash = \"{hash}\"\npublish = \"*\"\n",
        token.hash()
    );
    std::fs::write(file.path(), tables).unwrap();
    let program = Program::start(&["--tokens-file", file.path().to_str().unwrap()]).await;
    for secret in [token.expose(), password] {
        let answers = program.used_with(secret).await;
        assert!(answers.contains("v=0"), "{answers}");
        keeps(
            secret,
            &[
                ("the log", &program.log()),
                ("the banner", &program.banner()),
                ("an answer", &answers),
            ],
        );
    }
    keeps(
        &token.hash().to_string(),
        &[("the log", &program.log()), ("the banner", &program.banner())],
    );
}

#[tokio::test]
async fn signed_tokens_and_their_key_are_never_revealed() {
    let key = "the key that signs every token here";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key).unwrap();
    let claims = json!({ "room": "live", "publish": true, "watch": true, "exp": clock::unix_time().as_secs() + 600 });
    let token = encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(key.as_bytes()),
    )
    .unwrap();
    let program = Program::start(&["--jwt-secret-file", file.path().to_str().unwrap()]).await;
    let answers = program.used_with(&token).await;
    assert!(answers.contains("v=0"), "{answers}");
    for secret in [key, &token, token.rsplit('.').next().unwrap()] {
        keeps(
            secret,
            &[
                ("the log", &program.log()),
                ("the banner", &program.banner()),
                ("an answer", &answers),
            ],
        );
    }
}

#[tokio::test]
async fn the_webhooks_url_secret_and_requests_are_never_revealed() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "shown-to-the-webhook").unwrap();
    // Nothing listens there: errors are the most detailed.
    let program = Program::start(&[
        "--auth-webhook",
        "http://127.0.0.1:9/may?key=in-the-address",
        "--auth-webhook-secret-file",
        secret.path().to_str().unwrap(),
    ])
    .await;
    let answers = program.used_with("the-clients-token").await;
    assert!(program.log().contains("the webhook failed"), "{}", program.log());
    for secret in ["shown-to-the-webhook", "in-the-address", "the-clients-token"] {
        keeps(
            secret,
            &[
                ("the log", &program.log()),
                ("the banner", &program.banner()),
                ("an answer", &answers),
            ],
        );
    }
}

#[test]
fn the_token_command_prints_a_token_once_and_never_the_password() {
    let run = |words: &[&str], input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onecast"))
            .arg("token")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = run(&["new", "studio", "--publish", "live", "--watch", "*", "--admin"], "");
    assert_eq!(code, Some(0));
    let secret = text.lines().next().unwrap().rsplit(' ').next().unwrap();
    assert_eq!(text.matches(secret).count(), 1);
    let rules = onecast::auth::TokenRule::read(
        text.split_once("[[token]]")
            .map(|(_, rest)| format!("[[token]]{rest}"))
            .unwrap()
            .as_str(),
    );
    assert!(rules.unwrap()[0].hash.matches(secret));
    let (code, hash) = run(&["hash"], "correct-horse-battery\n");
    assert_eq!(code, Some(0));
    assert!(hash.starts_with("$argon2id$") && !hash.contains("horse"));
    assert_eq!(run(&["hash"], "").0, Some(2));
    assert_eq!(run(&["new", "x", "--publish", "a/b"], "").0, Some(2));
}
