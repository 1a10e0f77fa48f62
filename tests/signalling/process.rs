//! The program itself: how it starts, refuses to, and stops.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::rig::SDP;
use super::wire::{Wire, request};

pub(crate) fn onecast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onecast"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A server that is ended with its test.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) log: BufReader<std::process::ChildStderr>,
    pub(crate) http: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Running {
        Running::of(&mut onecast(
            &[&["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"], arguments].concat(),
        ))
    }

    /// Runs what listens sooner or later.
    pub(crate) fn of(command: &mut Command) -> Running {
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening http=") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it listened");
        }
        let address = line.split("http=").nth(1).unwrap().split(' ').next().unwrap();
        Running {
            child,
            http: address.parse().unwrap(),
            log,
        }
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// The next line of the log that has `words`.
    pub(crate) fn line_with(&mut self, words: &str) -> String {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(
                self.log.read_line(&mut line).unwrap(),
                0,
                "it ended without saying {words}"
            );
        }
        line
    }

    /// Its exit code and the rest of its log; fails when it does not end within 5 s.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        for _ in 0..100 {
            if let Some(status) = self.child.try_wait().unwrap() {
                let mut rest = String::new();
                self.log.read_to_string(&mut rest).unwrap();
                return (status.code(), rest);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it did not end within 5 s");
    }
}

pub(crate) fn refused(arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = onecast(arguments).output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{text}");
    text
}

#[cfg(unix)]
#[tokio::test]
async fn sigint_and_sigterm_stop_the_server_in_time_with_exit_code_0() {
    for signal in ["TERM", "INT"] {
        let server = Running::start(&[]);
        let mut idle = Wire::connect(server.http).await;
        idle.send("GET /api/streams HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(idle.reply().await.unwrap().status, 200);
        server.signal(signal);
        assert!(idle.is_closed().await);
        let (code, log) = server.ended().await;
        assert_eq!(code, Some(0), "{log}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_signal_ends_the_server_at_once() {
    let server = Running::start(&[]);
    let mut busy = Wire::connect(server.http).await;
    busy.send("POST /sdp HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        .await;
    assert_eq!(busy.reply().await.unwrap().status, 100);
    server.signal("INT");
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal("INT");
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(130), "{log}");
}

#[tokio::test]
async fn the_banner_goes_to_stdout_and_the_log_to_stderr() {
    let mut server = Running::start(&["--log-format", "json"]);
    let mut banner = String::new();
    let mut stdout = BufReader::new(server.child.stdout.take().unwrap());
    while !banner.contains("--http 0.0.0.0:") {
        assert_ne!(stdout.read_line(&mut banner).unwrap(), 0, "{banner}");
    }
    assert!(
        banner.contains(&format!("http://{}/broadcast.html", server.http)),
        "{banner}"
    );
    assert!(!banner.contains("INFO"));
}

#[tokio::test]
async fn admission_control_comes_before_the_offer_and_counts_broadcasters_separately() {
    let server = Running::start(&["--joins-per-second", "1"]);
    let mut wire = Wire::connect(server.http).await;
    let mut post = async |path: &str| {
        wire.send(request("POST", path, &[SDP], "no offer at all")).await;
        wire.reply().await.unwrap()
    };
    // The token pays for reading the offer, whatever that turns out to be. On a slow machine another one may have come meanwhile.
    assert_eq!(post("/whep/live").await.status, 400);
    let mut statuses = vec![];
    while statuses.last() != Some(&503) && statuses.len() < 20 {
        statuses.push(post("/whep/live").await.status);
    }
    assert_eq!(statuses.last(), Some(&503), "{statuses:?}");
    assert_eq!(post("/whip/live").await.status, 400);
    assert_eq!(post("/sdp").await.status, 400);

    // The next token comes within a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(post("/whep/live").await.status, 400);
}

#[test]
fn a_port_in_use_is_one_line_and_exit_code_2() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let text = refused(&["--http", &address.to_string(), "--udp", "127.0.0.1:0"]);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with(&format!("error: TCP port {} is in use", address.port())),
        "{text}"
    );

    let holder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let text = refused(&["--http", "127.0.0.1:0", "--udp", &address.to_string()]);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with(&format!("error: UDP port {} is in use", address.port())),
        "{text}"
    );
}

/// A shell that runs `before` and becomes the server.
#[cfg(unix)]
fn after(before: &str, arguments: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!(
        "{before}; exec '{}' --http 127.0.0.1:0 --udp 127.0.0.1:0 {arguments}",
        env!("CARGO_BIN_EXE_onecast")
    );
    command
        .args(["-c", &script])
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_for_its_threads_is_one_line_and_exit_code_2() {
    // The stacks alone of so many threads are half a gigabyte.
    let output = after("ulimit -v 400000", "--shards 256").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("threads") && text.contains("--shards"), "{text}");
}

#[test]
fn an_address_of_another_machine_is_one_line_and_exit_code_2() {
    // TEST-NET-1 (RFC 5737), which no machine uses.
    for arguments in [
        &["--http", "192.0.2.1:8080", "--udp", "127.0.0.1:0"],
        &["--http", "127.0.0.1:0", "--udp", "192.0.2.1:8080"],
    ] {
        let text = refused(arguments);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("192.0.2.1 is not an address of this machine"), "{text}");
    }
}

#[test]
fn a_variable_overrides_the_file_even_with_a_wrong_value() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"max-viewers = \"several\"\ndemo = true\nauth = \"off\"\n")
        .unwrap();
    let path = file.path().to_str().unwrap();
    // What a variable sets, the file need not get right.
    let check = onecast(&["config", "check", path])
        .env("ONECAST_MAX_VIEWERS", "7")
        .output();
    assert_eq!(check.unwrap().status.code(), Some(0));
    let wrong = |variable: &str, value: &str, more: &[&str]| {
        let arguments = [&["--config", path], more].concat();
        let output = onecast(&arguments).env(variable, value).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        text
    };
    for (variable, option, value) in [
        ("ONECAST_MAX_VIEWERS", "--max-viewers", "many"),
        ("ONECAST_MAX_VIEWERS", "--max-viewers", ""),
        ("ONECAST_DEMO", "--demo", "perhaps"),
        ("ONECAST_AUTH", "--auth", "vouch"),
    ] {
        let text = wrong(
            variable,
            value,
            if option == "--max-viewers" {
                &[]
            } else {
                &["--max-viewers", "7"]
            },
        );
        assert!(
            text.contains(variable) && text.contains(option) && !text.contains("line "),
            "{text}"
        );
    }
    // The command line wins over both.
    let text = wrong("ONECAST_MAX_VIEWERS", "7", &["--max-viewers", "many"]);
    assert!(
        text.contains("--max-viewers") && !text.contains("ONECAST_MAX_VIEWERS"),
        "{text}"
    );
}

#[test]
fn a_named_subcommand_reads_each_variable_once() {
    let run = |arguments: &[&str]| {
        let output = onecast(arguments).env("ONECAST_MAX_VIEWERS", "many").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for before in [&[][..], &["serve"]] {
        let (code, text) = run(&[before, &["--http", "127.0.0.1:0"]].concat());
        assert!(code == Some(2) && text.contains("ONECAST_MAX_VIEWERS"), "{text}");
        // The command line wins, so the next fault is the only one.
        let (code, text) = run(&[before, &["--max-viewers", "7", "--http", "192.0.2.1:8080"]].concat());
        assert!(code == Some(2) && text.contains("192.0.2.1"), "{text}");
    }
    // The server's variables are no concern of other subcommands.
    assert_eq!(run(&["config", "example"]), (Some(0), String::new()));
}

#[test]
fn wrong_options_and_variables_are_exit_code_2() {
    assert!(refused(&["--htp", "x"]).contains("--http"));
    assert!(refused(&["--shards", "many"]).contains("--shards"));
    assert!(refused(&["broadcast"]).contains("broadcast"));
    let output = onecast(&[]).env("ONECAST_PLI_INTERVAL", "often").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("ONECAST_PLI_INTERVAL")
    );
    let output = onecast(&[]).env("RUST_LOG", "onecast=loud").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("RUST_LOG"));
}
