//! `onecast load` against the whole server, against servers that refuse, and against a server that dies.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod full_ice;
mod layers;
mod servers;

use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Duration;

use onecast_clients::load::publisher::LoadPublisher;
use onecast_clients::load::solo::{SoloConfig, SoloPublisher};
use onecast_testing::{Suite, tests};
use serde_json::Value;
use servers::{Canned, Own, Process};

fn main() -> ExitCode {
    let tests = tests![
        twenty_viewers_receive_everything,
        packets_dropped_on_purpose_are_repaired,
        viewers_that_leave_are_replaced_and_their_loss_is_known,
        audio_only_load_waits_for_no_picture,
        exceeded_threshold_is_exit_code_1_with_the_value,
        load_without_media_fails_with_a_hint,
        refusals_are_reported_in_one_sentence,
        busy_server_is_retried_a_few_times,
        nothing_is_sent_to_another_host,
        impossible_load_is_exit_code_2,
        dying_server_ends_the_load_with_results_so_far,
        full_ice_servers_are_supported,
        publisher_without_viewers_goes_live,
        viewers_behind_modelled_paths_are_reported_by_class,
    ];
    // The tests wait more than they work.
    Suite::new([tests, layers::tests()]).threads_at_least(4).run()
}

fn load(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onecast"));
    command
        .arg("load")
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Exit code, the `--json` report (null without one), and stderr.
fn outcome(output: Output) -> (Option<i32>, Value, String) {
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), report, String::from_utf8(output.stderr).unwrap())
}

/// Runs a load that publishes to the server, with more options.
async fn loaded(server: &Own, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let (whip, whep) = (server.url("whip"), server.url("whep"));
    let all = [&["--whip", &whip, "--whep", &whep, "--json"], arguments].concat();
    let mut command = load(&all);
    tokio::task::spawn_blocking(move || outcome(command.output().unwrap()))
        .await
        .unwrap()
}

fn number(report: &Value, pointer: &str) -> f64 {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no {pointer} in {report}"))
}

async fn twenty_viewers_receive_everything() {
    let server = Own::start().await;
    let pid = std::process::id().to_string();
    let arguments = [
        "--viewers",
        "20",
        "--verified",
        "10%",
        "--for",
        "2s",
        "--workload",
        "w1a",
        "--pid",
        &pid,
    ];
    let limits = ["--max-loss", "0.1%", "--max-join-p99", "20s"];
    let (code, report, words) = loaded(&server, &[&arguments[..], &limits].concat()).await;
    assert_eq!((code, words.as_str()), (Some(0), ""), "{report}");
    assert_eq!(
        (number(&report, "/viewers/joined"), number(&report, "/viewers/verified")),
        (20.0, 2.0)
    );
    assert_eq!(
        (
            number(&report, "/packets/lost"),
            number(&report, "/packets/unknown_viewers")
        ),
        (0.0, 0.0)
    );
    for step in ["answer", "dtls", "first_packet", "picture"] {
        assert_eq!(number(&report, &format!("/join_ms/{step}/count")), 20.0, "{step}");
    }
    // For each viewer 2 s of 180 video and 50 audio packets per second and the keyframes; more while others join and leave.
    let delivered = number(&report, "/packets/delivered");
    assert!(delivered > 20.0 * 460.0 && delivered < 20.0 * 230.0 * 30.0, "{report}");
    assert!(
        number(&report, "/frames/whole") > 100.0 && number(&report, "/delay_ms/count") > 100.0,
        "{report}"
    );
    assert!(number(&report, "/publisher/packets") > 460.0, "{report}");
    #[cfg(target_os = "linux")]
    assert!(number(&report, "/server/ns_per_packet_viewer") > 0.0 && number(&report, "/load_cpu_percent") > 0.0);
    server.stop().await;
}

async fn packets_dropped_on_purpose_are_repaired() {
    let server = Own::start().await;
    let arguments = ["--viewers", "10", "--verified", "50%", "--for", "2s", "--loss", "5%"];
    let (code, report, words) = loaded(&server, &arguments).await;
    assert_eq!(code, Some(0), "{words}");
    let (dropped, repaired) = (
        number(&report, "/repairs/dropped_on_purpose"),
        number(&report, "/repairs/time_ms/count"),
    );
    assert!(dropped > 20.0 && repaired > dropped / 2.0, "{report}");
    assert!(number(&report, "/packets/loss") < 0.01, "{report}");
    server.stop().await;
}

async fn viewers_that_leave_are_replaced_and_their_loss_is_known() {
    let server = Own::start().await;
    let arguments = ["--viewers", "10", "--for", "2s", "--churn", "50%/s", "--max-loss", "0%"];
    let (code, report, words) = loaded(&server, &arguments).await;
    assert_eq!(code, Some(0), "{words} {report}");
    let left = number(&report, "/viewers/left");
    assert!((5.0..=10.0).contains(&left), "{report}");
    let joined = number(&report, "/viewers/joined");
    assert!(joined >= 10.0 + left - 1.0, "{report}");
    assert_eq!(number(&report, "/viewers/goodbyes_failed"), 0.0);
    server.stop().await;
}

async fn audio_only_load_waits_for_no_picture() {
    let server = Own::start().await;
    let arguments = [
        "--viewers",
        "5",
        "--for",
        "1s",
        "--workload",
        "audio",
        "--max-join-p99",
        "20s",
    ];
    let (code, report, words) = loaded(&server, &arguments).await;
    assert_eq!(code, Some(0), "{words} {report}");
    assert_eq!(number(&report, "/join_ms/first_packet/count"), 5.0);
    assert_eq!(number(&report, "/packets/lost"), 0.0);
    assert!(number(&report, "/frames/whole") >= 50.0, "{report}");
    server.stop().await;
}

async fn exceeded_threshold_is_exit_code_1_with_the_value() {
    let server = Own::start().await;
    let arguments = ["--viewers", "3", "--for", "500ms", "--max-join-p99", "0ms"];
    let (code, report, words) = loaded(&server, &arguments).await;
    assert_eq!(code, Some(1), "{report}");
    assert!(
        words.contains("--max-join-p99 0 ms") && words.contains("too long"),
        "{words}"
    );
    assert_eq!(report["broken"].as_array().unwrap().len(), 1);
    server.stop().await;
}

async fn load_without_media_fails_with_a_hint() {
    let server = Own::start().await;
    let whep = server.url("whep");
    let mut command = load(&["--whep", &whep, "--viewers", "2", "--for", "300ms", "--json"]);
    let run = tokio::task::spawn_blocking(move || outcome(command.output().unwrap()));
    let (code, _, words) = run.await.unwrap();
    assert_eq!(code, Some(1));
    assert!(words.contains("is the stream live?"), "{words}");
    server.stop().await;
}

/// Runs against a server with one reply for every request. Returns stderr and the number of requests.
fn refused(reply: &str) -> (String, usize) {
    let server = Canned::start(reply);
    let whep = format!("http://{}/whep/live", server.address);
    let (code, _, words) = outcome(load(&["--whep", &whep, "--viewers", "5"]).output().unwrap());
    assert_eq!(code, Some(2), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
    (words, server.requests())
}

fn refusals_are_reported_in_one_sentence() {
    let (words, requests) = refused("404 Not Found\r\nContent-Length: 0\r\n\r\n");
    assert!(words.contains("answered 404") && requests == 1, "{words}");
    let (words, _) = refused("201 Created\r\nContent-Length: 6\r\n\r\nhello\n");
    assert!(words.contains("no SDP answer"), "{words}");
    let (words, _) = refused("200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(words.contains("no WHIP or WHEP endpoint"), "{words}");
}

fn busy_server_is_retried_a_few_times() {
    for status in ["503 Service Unavailable", "409 Conflict"] {
        let (words, requests) = refused(&format!("{status}\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"));
        assert!(words.contains(&status[..3]) && requests == 6, "{words} {requests}");
    }
    let (_, requests) = refused("503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(requests, 1);
}

fn nothing_is_sent_to_another_host() {
    let (words, _) = refused("307 Temporary Redirect\r\nLocation: http://192.0.2.1/whep\r\nContent-Length: 0\r\n\r\n");
    assert!(words.contains("another host"), "{words}");
    let fingerprint = ["00"; 32].join(":");
    let answer = format!(
        "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
    );
    let (words, _) = refused(&format!(
        "201 Created\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    ));
    assert!(
        words.contains("192.0.2.1:9") && words.contains("only to the host of the URL"),
        "{words}"
    );
}

fn impossible_load_is_exit_code_2() {
    for (url, expected) in [
        ("whep", "not an http or https address"),
        ("rtmp://127.0.0.1/x", "not an http or https address"),
        ("http://127.0.0.1:1/whep/x", "cannot reach"),
    ] {
        let (code, _, words) = outcome(load(&["--whep", url]).output().unwrap());
        assert_eq!(code, Some(2), "{words}");
        assert!(words.contains(expected) && words.lines().count() == 1, "{words}");
    }
    let arguments = ["--whep", "http://127.0.0.1:1/", "--pid", "4294967295"];
    let (code, _, words) = outcome(load(&arguments).output().unwrap());
    assert!(code == Some(2) && words.contains("no process"), "{words}");
}

async fn dying_server_ends_the_load_with_results_so_far() {
    for publishes in [true, false] {
        let mut server = Process::start(&["--demo"]);
        let whip = format!("http://{}/whip/live", server.http);
        let stream = if publishes { "live" } else { "demo" };
        let whep = format!("http://{}/whep/{stream}", server.http);
        let watch = ["--whep", &whep, "--viewers", "20", "--for", "60s", "--json"];
        let publish = ["--whip", &whip];
        let all = [&watch[..], if publishes { &publish } else { &[] }].concat();
        server.until(stream, |status| publishes || status["live"] == true).await;
        let running = load(&all).spawn().unwrap();
        server.until(stream, |status| status["viewers"] == 20).await;
        server.kill();
        let output = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap());
        let (code, report, words) = outcome(output.await.unwrap());
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains("is gone"), "{words}");
        let lost = number(&report, "/viewers/ended") + number(&report, "/viewers/failed");
        assert!(
            number(&report, "/packets/delivered") > 0.0 && (publishes || lost == 20.0),
            "{report}"
        );
    }
}

async fn full_ice_servers_are_supported() {
    let address = full_ice::start().await;
    let (whip, whep) = (format!("http://{address}/whip"), format!("http://{address}/whep"));
    let mut command = load(&[
        "--whip",
        &whip,
        "--whep",
        &whep,
        "--viewers",
        "3",
        "--for",
        "1s",
        "--json",
    ]);
    let run = tokio::task::spawn_blocking(move || outcome(command.output().unwrap()));
    let (code, report, words) = run.await.unwrap();
    assert_eq!((code, number(&report, "/viewers/joined")), (Some(1), 3.0), "{words}");
    assert!(number(&report, "/publisher/packets") > 180.0, "{report}");
    assert!(words.contains("is the stream live?"), "{words}");
}

async fn publisher_without_viewers_goes_live() {
    let server = Own::start().await;
    let config = SoloConfig::new(&server.url("whip"));
    let layers = tokio::task::spawn_blocking(move || {
        let mut publisher = SoloPublisher::connect(&config).unwrap();
        let has_sent_a_second = |publisher: &LoadPublisher| publisher.counts().frames >= 30;
        assert!(
            publisher
                .send_until(Duration::from_secs(20), has_sent_a_second)
                .unwrap()
        );
        let layers = publisher.publisher().layers();
        publisher.close();
        layers
    });
    let layers = layers.await.unwrap();
    assert_eq!(layers.len(), 1);
    assert!(layers[0].packets > 180 && layers[0].is_sent, "{layers:?}");
    server.stop().await;
}

async fn viewers_behind_modelled_paths_are_reported_by_class() {
    let server = Own::start().await;
    let arguments = [
        "--viewers",
        "4",
        "--for",
        "3s",
        "--rate",
        "1",
        "--paths",
        "20:75%,0.3:25%",
    ];
    let (code, report, words) = loaded(&server, &arguments).await;
    assert_eq!(code, Some(0), "{words} {report}");
    assert_eq!(
        (number(&report, "/paths/0/viewers"), number(&report, "/paths/1/viewers")),
        (3.0, 1.0)
    );
    assert_eq!(number(&report, "/paths/0/mean_layer"), 1.0, "{report}");
    assert_eq!(number(&report, "/paths/0/layers/0/height"), 360.0, "{report}");
    assert_eq!(
        (
            number(&report, "/paths/0/dropped"),
            number(&report, "/viewers/verified")
        ),
        (0.0, 4.0)
    );
    // Three times as much as the path carries.
    assert!(number(&report, "/paths/1/dropped") > 50.0, "{report}");
    assert!(number(&report, "/paths/1/requested") > 50.0, "{report}");
    // The delay of the path is in every measured time.
    assert!(number(&report, "/paths/0/first_picture_ms/p50") >= 60.0, "{report}");
    server.stop().await;
}
