//! The request sequences of OBS and FFmpeg, sent byte for byte to the whole server. The replies are read as those clients read them.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use onecast::app::{App, AppConfig};
use onecast::http::{HttpLimits, Pages, Server, Serving};
use onecast_control::Limits;
use onecast_control::port::Service as _;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::wire::{Reply, Wire, request};

const OBS: [&str; 4] = ["obs30", "obs31", "obs32", "obs32-simulcast"];
/// `CURLOPT_TIMEOUT` of OBS's POST.
const OBS_LIMIT: Duration = Duration::from_secs(8);
/// `MAX_SDP_SIZE` of FFmpeg.
const FFMPEG_ANSWER_BYTES: usize = 8192;

/// The whole server.
struct Whole {
    app: App,
    http: SocketAddr,
    _stop_at_the_end: DropGuard,
}

impl Whole {
    async fn start() -> Whole {
        let config = AppConfig::on_loopback(1);
        let app = App::start(AppConfig {
            limits: Limits {
                viewers: 1_000,
                ..config.limits
            },
            ..config
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = Server::new(
            Serving::open(Arc::new(app.clone()), Pages::built_in()),
            HttpLimits::default(),
        );
        tokio::spawn(server.run(listener, stop.clone()));
        Whole {
            app,
            http,
            _stop_at_the_end: stop.drop_guard(),
        }
    }

    /// Sends a file as it is on a connection of its own, as both clients do.
    async fn replay(&self, name: &str, session: &str) -> (Reply, Wire) {
        let file = fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let bytes = match session {
            "" => file,
            session => String::from_utf8(file)
                .unwrap()
                .replace("{session}", session)
                .into_bytes(),
        };
        let mut wire = Wire::connect(self.http).await;
        wire.send(bytes).await;
        let reply = wire.reply().await.expect("a response");
        (reply, wire)
    }

    async fn stop(self) {
        assert!(self.app.shutdown(Duration::from_secs(5)).await);
    }
}

fn path(name: &str) -> String {
    format!("{}/tests/data/requests/{name}.http", env!("CARGO_MANIFEST_DIR"))
}

/// What OBS makes of the reply to its POST: the URL for the DELETE.
fn resource_of_obs(whole: &Whole, reply: &Reply) -> String {
    assert_eq!(reply.status, 201, "nothing else is success: {reply:?}");
    let answer = reply.text();
    assert!(answer[answer.find("v=0").unwrap()..].contains("m=audio"), "{answer}");
    // A name is compared without case; the value is what follows the first space.
    let location = reply.header("location").unwrap();
    if location.starts_with("http") {
        return location.to_owned();
    }
    assert!(location.starts_with('/'), "it becomes the path as it is: {location}");
    assert!(!location.contains(['?', '#', '%']), "they would be quoted: {location}");
    format!("http://{}{location}", whole.http)
}

/// What OBS makes of `Link`: it cuts at every comma, and then at semicolons.
fn ice_servers_of_obs(reply: &Reply) -> Vec<String> {
    let links = reply.headers.iter().filter(|(name, _)| name == "link");
    let parts = links.flat_map(|(_, value)| value.split(','));
    parts.map(str::to_owned).collect()
}

fn path_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    &rest[rest.find('/').unwrap()..]
}

#[tokio::test(flavor = "multi_thread")]
async fn obs_publishes_leaves_and_publishes_again() {
    let whole = Whole::start().await;
    for version in OBS {
        let asked = onecast_udp::clock::now();
        let (created, _wire) = whole.replay(&format!("{version}-publish"), "").await;
        assert!(asked.elapsed() < OBS_LIMIT);
        let resource = resource_of_obs(&whole, &created);
        for part in ice_servers_of_obs(&created) {
            let whole_server = part.contains("rel=\"ice-server\"") || part.contains("rel=ice-server");
            assert!(
                part.trim().starts_with("<stun") || part.trim().starts_with("<turn"),
                "{version}: {part}"
            );
            assert!(whole_server, "{version}: a comma cuts {part}");
        }
        let (taken, _wire) = whole.replay(&format!("{version}-publish"), "").await;
        assert_eq!(taken.status, 409, "{version}");
        let (left, _wire) = whole.replay(&format!("{version}-leave"), path_of(&resource)).await;
        assert_eq!(left.status, 200, "{version}: OBS takes nothing else for success");
        let (gone, _wire) = whole.replay(&format!("{version}-leave"), path_of(&resource)).await;
        assert_eq!(gone.status, 404, "{version}");
    }
    assert!(whole.app.streams().is_empty());
    whole.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn obs_finds_its_transport_in_every_media_section_of_the_answer() {
    let whole = Whole::start().await;
    let (created, _wire) = whole.replay("obs31-publish", "").await;
    let answer = created.text();
    for attribute in [
        "a=ice-ufrag:",
        "a=ice-pwd:",
        "a=fingerprint:sha-256 ",
        "a=setup:passive\r\n",
        "a=recvonly\r\n",
    ] {
        assert_eq!(
            answer.matches(attribute).count(),
            2,
            "{attribute} in every line of\n{answer}"
        );
    }
    // It gathers no candidates: it must be able to reach ours.
    assert!(
        answer.contains(" 127.0.0.1 ") && answer.contains(" typ host\r\n"),
        "{answer}"
    );
    whole.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes_and_leaves() {
    let whole = Whole::start().await;
    let (created, mut wire) = whole.replay("ffmpeg8-publish", "").await;
    assert!((200..300).contains(&created.status), "{created:?}");
    assert!(
        wire.is_closed().await,
        "it reads the answer to the end of the connection"
    );
    let answer = created.text();
    assert!(answer.starts_with("v=") && answer.len() < FFMPEG_ANSWER_BYTES);
    for attribute in ["a=ice-ufrag:", "a=ice-pwd:"] {
        let line = answer.lines().find(|line| line.starts_with(attribute));
        assert!(line.unwrap().len() > attribute.len());
    }
    let media = onecast::serve::MediaServer::media_address(&whole.app);
    assert_eq!(candidate_of_ffmpeg(answer), media);
    // It waits to be called: its offer says passive.
    assert_eq!(answer.matches("a=setup:active\r\n").count(), 2);

    let location = created.header("location").unwrap();
    assert!(location.starts_with('/') && !location.starts_with("//"), "{location}");
    let (left, mut wire) = whole.replay("ffmpeg8-leave", location).await;
    assert_eq!(left.status, 200);
    assert!(wire.is_closed().await);
    assert!(whole.app.streams().is_empty());
    whole.stop().await;
}

/// FFmpeg's reading: the first `a=candidate` that has `udp` and `host`, from there `udp PRIORITY HOST PORT typ host`.
fn candidate_of_ffmpeg(answer: &str) -> SocketAddr {
    let candidates = answer.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
    let mut usable = candidates.filter(|value| value.contains("udp") && value.contains("host"));
    let value = usable.next().expect("a candidate");
    let words: Vec<&str> = value[value.find("udp").unwrap()..].split(' ').collect();
    let [_, priority, host, port, "typ", "host", ..] = words[..] else {
        panic!("{value}");
    };
    assert!(priority.parse::<i32>().unwrap() > 0, "it is read into an int: {value}");
    assert!(host.len() <= 128);
    SocketAddr::new(host.parse().unwrap(), port.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn obs_is_answered_in_time_while_500_others_join() {
    let whole = Whole::start().await;
    let offer = fs::read_to_string(format!(
        "{}/tests/data/offers/chromium156-watch.sdp",
        env!("CARGO_MANIFEST_DIR")
    ));
    let join = request(
        "POST",
        "/whep/live",
        &[("Content-Type", "application/sdp")],
        &offer.unwrap(),
    );
    let mut joining = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let (http, join) = (whole.http, join.clone());
        joining.spawn(async move {
            let mut wire = Wire::connect(http).await;
            wire.send(join).await;
            wire.reply().await.map(|reply| reply.status)
        });
    }
    let asked = onecast_udp::clock::now();
    let (created, _wire) = whole.replay("obs32-publish", "").await;
    let took = asked.elapsed();
    assert_eq!(created.status, 201);
    assert!(took < OBS_LIMIT / 2, "{took:?}");
    let joined = joining.join_all().await;
    assert_eq!(joined.iter().filter(|status| **status == Some(201)).count(), 500);
    whole.stop().await;
}

#[test]
fn recorded_requests_are_complete() {
    for name in OBS.into_iter().chain(["ffmpeg8"]) {
        let text = fs::read_to_string(path(&format!("{name}-publish"))).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{name}");
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "{name}");
        assert!(body.starts_with("v=0\r\n") && body.ends_with("\r\n"), "{name}");
        let leave = fs::read_to_string(path(&format!("{name}-leave"))).unwrap();
        assert!(leave.starts_with("DELETE {session} HTTP/1.1\r\n") && leave.ends_with("\r\n\r\n"));
    }
}
