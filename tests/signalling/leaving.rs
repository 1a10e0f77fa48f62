//! How the program empties itself and leaves, and what it has to do with systemd.
#![cfg(unix)]

use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::limits::Client;
use super::process::{Running, onecast};

/// Waits until the program has begun to drain.
async fn drains(client: &Client<'_>) {
    for _ in 0..100 {
        if client.get("/readyz").await.status == 503 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not drain");
}

#[tokio::test]
async fn at_sigterm_the_server_refuses_new_clients_and_exits_after_the_last() {
    let server = Running::start(&["--drain-timeout", "60s"]);
    let client = Client(&server);
    let session = client.watch("live").await.header("location").unwrap().to_owned();
    server.signal("TERM");
    drains(&client).await;
    assert_eq!(client.get("/healthz").await.status, 200);
    let ready = client.get("/readyz").await;
    assert_eq!(ready.json()["type"], "urn:onecast:problem:draining");
    for refused in [client.watch("live").await, client.publish("live").await] {
        refused.problem(503);
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
    }
    let state = client.get("/api/drain").await.json();
    assert_eq!((&state["draining"], &state["sessions"]), (&true.into(), &1.into()));
    assert!((50..=60).contains(&state["leaves_in_s"].as_u64().unwrap()), "{state}");

    assert_eq!(client.get(&session).await.status, 204, "present sessions stay");
    assert_eq!(client.ask("DELETE", &session, &[], "").await.status, 200);
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains("draining: 1 sessions left") && log.contains("drained: all clients have left"),
        "{log}"
    );
}

#[tokio::test]
async fn an_empty_server_exits_at_once_and_others_after_the_drain_timeout() {
    let server = Running::start(&["--drain-timeout", "10m"]);
    server.signal("TERM");
    assert_eq!(server.ended().await.0, Some(0));

    let server = Running::start(&["--drain-timeout", "1500ms"]);
    let client = Client(&server);
    assert_eq!(client.watch("live").await.status, 201);
    server.signal("TERM");
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("drain timeout: ending 1 sessions"), "{log}");
}

#[tokio::test]
async fn the_test_card_does_not_keep_a_draining_server_running() {
    let mut server = Running::start(&["--demo", "--drain-timeout", "10m"]);
    server.line_with("broadcaster connected");
    server.signal("TERM");
    assert_eq!(server.ended().await.0, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_waiting() {
    for second in ["TERM", "INT"] {
        let server = Running::start(&["--drain-timeout", "10m"]);
        let client = Client(&server);
        assert_eq!(client.watch("live").await.status, 201);
        server.signal("TERM");
        drains(&client).await;
        server.signal(second);
        let (code, log) = server.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("stopped"), "{log}");
    }
}

#[tokio::test]
async fn sigint_does_not_wait() {
    let server = Running::start(&["--drain-timeout", "10m"]);
    assert_eq!(Client(&server).watch("live").await.status, 201);
    server.signal("INT");
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("draining"), "{log}");
}

#[tokio::test]
async fn a_drain_by_api_redirects_new_clients() {
    let server = Running::start(&["--drain-to", "https://b.example.org"]);
    let client = Client(&server);
    let session = client.watch("live").await.header("location").unwrap().to_owned();
    let ordered = client.ask("POST", "/api/drain", &[], "").await;
    assert_eq!(ordered.status, 202);
    assert_eq!(
        (&ordered.json()["to"], &ordered.json()["leaves_in_s"]),
        (&"https://b.example.org".into(), &().into())
    );
    let moved = client.watch("live").await;
    assert_eq!(moved.status, 307);
    assert_eq!(moved.header("location"), Some("https://b.example.org/whep/live"));
    let moved = client.publish("x").await;
    assert_eq!(moved.header("location"), Some("https://b.example.org/whip/x"));
    assert_eq!(client.ask("DELETE", &session, &[], "").await.status, 200);
    assert_eq!(server.ended().await.0, Some(0));
}

/// What the program tells systemd.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Manager { socket, folder }
    }

    fn starts(&self, command: &mut Command) -> Running {
        Running::of(command.env("NOTIFY_SOCKET", self.folder.path().join("notify")))
    }

    /// The next message that is not `but`.
    fn next_but(&self, but: &str) -> String {
        loop {
            let mut buffer = [0; 4_096];
            let len = self.socket.recv(&mut buffer).expect("a message within 10 s");
            let message = String::from_utf8(buffer[..len].to_vec()).unwrap();
            if !message.starts_with(but) {
                return message;
            }
        }
    }
}

const PORTS: [&str; 4] = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"];

#[tokio::test]
async fn systemd_is_notified_of_readiness_and_of_stopping() {
    let manager = Manager::new();
    let server = manager.starts(&mut onecast(&[&PORTS[..], &["--drain-timeout", "10m"]].concat()));
    assert!(manager.next_but("WATCHDOG").starts_with("READY=1\n"));
    let client = Client(&server);
    assert_eq!(client.watch("live").await.status, 201);
    server.signal("TERM");
    assert!(manager.next_but("WATCHDOG").starts_with("STATUS=draining"));
    server.signal("TERM");
    assert!(manager.next_but("WATCHDOG").starts_with("STOPPING=1\n"));
    assert_eq!(server.ended().await.0, Some(0));
}

#[tokio::test]
async fn systemd_is_notified_when_a_reload_begins_and_ends() {
    let manager = Manager::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("onecast.toml");
    fs::write(&file, "max-viewers = 5\n").unwrap();
    let arguments = ["--drain-timeout", "10m", "--config", file.to_str().unwrap()];
    let mut server = manager.starts(&mut onecast(&[&PORTS[..], &arguments].concat()));
    assert!(manager.next_but("WATCHDOG").starts_with("READY=1\n"));
    let mut last = 0;
    // A file that cannot be read ends the reload as well: the server goes on with what it has.
    for (text, said) in [
        ("max-viewers = 6\n", "changed: max-viewers"),
        ("max-viewers = \"six\"\n", "configuration is unchanged"),
    ] {
        fs::write(&file, text).unwrap();
        server.signal("HUP");
        let begun = manager.next_but("WATCHDOG");
        let time = begun.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&begun);
        let time: u64 = time.trim_end().parse().unwrap();
        assert!(time > last, "{time} {last}");
        last = time;
        assert_eq!(manager.next_but("WATCHDOG").trim_end(), "READY=1");
        server.line_with(said);
    }
    assert_eq!(Client(&server).get("/readyz").await.status, 200);
    server.signal("INT");
    assert!(manager.next_but("WATCHDOG").starts_with("STOPPING=1\n"));
    assert_eq!(server.ended().await.0, Some(0));
}

#[tokio::test]
async fn the_systemd_watchdog_is_notified_twice_per_interval_if_enabled() {
    let manager = Manager::new();
    let server = manager.starts(onecast(&PORTS).env("WATCHDOG_USEC", "600000"));
    assert!(manager.next_but("WATCHDOG").starts_with("READY=1\n"));
    let began = onecast_udp::clock::now();
    for _ in 0..5 {
        assert_eq!(manager.next_but("READY"), "WATCHDOG=1\n");
    }
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(800) && took < Duration::from_secs(3),
        "{took:?}"
    );
    drop(server);

    let manager = Manager::new();
    let server = manager.starts(&mut onecast(&PORTS));
    assert!(manager.next_but("WATCHDOG").starts_with("READY=1\n"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.signal("TERM");
    assert!(manager.next_but("nothing").starts_with("STOPPING=1\n"));
}

/// A command that runs the program with this descriptor as the first that systemd hands over (sd_listen_fds(3)).
fn handing_over(socket: OwnedFd, count: usize, arguments: &[&str]) -> Command {
    let program = onecast(arguments);
    let mut command = Command::new("sh");
    // LISTEN_PID is that of the shell, which becomes the program; its standard input becomes descriptor 3.
    command
        .args(["-c", "exec 3<&0 4<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args())
        .env("LISTEN_FDS", count.to_string())
        .env_remove("RUST_LOG")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn a_socket_passed_by_systemd_is_used_for_http() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert!(listener.as_raw_fd() > 2);
    // No machine has the address of the option, so binding it would fail.
    let arguments = ["--http", "192.0.2.1:80", "--udp", "127.0.0.1:0"];
    let server = Running::of(&mut handing_over(listener.into(), 1, &arguments));
    assert_eq!(server.http, address);
    assert_eq!(Client(&server).get("/readyz").await.status, 200);
    server.signal("TERM");
    assert_eq!(server.ended().await.0, Some(0));
}

#[test]
fn unusable_systemd_sockets_are_one_line_and_exit_code_2() {
    let refused = |socket: OwnedFd, count| {
        let output = handing_over(socket, count, &PORTS).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        text
    };
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(refused(udp.into(), 1).contains("is not usable for HTTP"));
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(refused(tcp.into(), 2).contains("systemd passes 2 sockets"));
}

#[test]
fn the_unit_files_use_existing_options() {
    let unit = fs::read_to_string("docs/systemd/onecast.service").unwrap();
    let start = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
    let options: Vec<&str> = start.split_whitespace().skip(1).collect();
    let help = onecast(&["--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let named = options.iter().filter(|option| option.starts_with("--"));
    for option in named.clone() {
        assert!(help.contains(&format!("{option} ")), "{option}");
    }
    assert!(named.count() > 1 && unit.contains("\nType=notify-reload\n"));
}
