//! Bad input: each has its status, and afterwards the server is alive and its session undisturbed.

use super::rig::{OFFER, Rig, SDP, SHORT};
use super::wire::request;

const MEGABYTE: usize = 1024 * 1024;

struct Undisturbed {
    session: String,
}

/// Opens a session that must survive whatever comes.
async fn before(rig: &Rig) -> Undisturbed {
    Undisturbed {
        session: rig.session("/whip/live").await,
    }
}

impl Undisturbed {
    async fn check(self, rig: &Rig) {
        assert_eq!(rig.get(&self.session).await.status, 204);
        rig.session("/whep/live").await;
    }
}

#[tokio::test]
async fn a_body_of_a_megabyte_is_refused_with_and_without_its_length() {
    let rig = Rig::start().await;
    let before = before(&rig).await;
    let body = "x".repeat(MEGABYTE);
    let chunks = format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(16) + "0\r\n\r\n";
    for path in ["/whip/live", "/whep/live", "/sdp", "/"] {
        let with_length = rig.request("POST", path, &[SDP], &body).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\n");
        let without = rig
            .raw(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"))
            .await;
        for reply in [with_length, without] {
            assert_eq!(reply.status, 413, "{path}");
            assert!(reply.text().contains("larger than 256 KiB"));
        }
    }
    assert_eq!(rig.fake.offers(), 1);
    before.check(&rig).await;
}

#[tokio::test]
async fn the_largest_body_is_accepted_and_one_byte_more_is_not() {
    let rig = Rig::start().await;
    let largest = format!("v=0\r\n{}", " ".repeat(onecast::http::MAX_BODY_BYTES - 5));
    assert_eq!(rig.request("POST", "/whip/live", &[SDP], &largest).await.status, 201);
    rig.request("POST", "/whip/live", &[SDP], &(largest + " "))
        .await
        .problem(413);
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_413_before_it_sends_too_much() {
    let rig = Rig::start().await;
    let reply = rig
        .raw(
            "POST /whip/live HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\nExpect: 100-continue\r\n\
             Content-Length: 1048576\r\n\r\n",
        )
        .await;
    reply.problem(413);
}

#[tokio::test]
async fn a_body_with_an_absurd_length_is_refused_at_once() {
    let rig = Rig::start().await;
    let head = "POST /whip/live HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\n";
    rig.raw(format!("{head}Content-Length: 10000000000\r\n\r\nv=0"))
        .await
        .problem(413);
    let reply = rig
        .raw(format!("{head}Content-Length: 99999999999999999999999\r\n\r\nv=0"))
        .await;
    assert_eq!(reply.status, 400);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_times_out() {
    let rig = Rig::impatient().await;
    let before = before(&rig).await;
    let mut wires = Vec::new();
    for body in ["", "v=0\r\n"] {
        let mut wire = rig.connect().await;
        let head = "POST /whip/live HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\n";
        wire.send(format!("{head}Content-Length: 500\r\n\r\n{body}")).await;
        wires.push(wire);
    }
    for mut wire in wires {
        wire.reply().await.unwrap().problem(408);
        assert!(wire.is_closed().await);
    }
    before.check(&rig).await;
}

#[tokio::test]
async fn a_body_that_arrives_too_slowly_times_out() {
    let rig = Rig::impatient().await;
    let mut wire = rig.connect().await;
    let head = "POST /whip/live HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\n";
    wire.send(format!("{head}Content-Length: 500\r\n\r\n")).await;
    for _ in 0..15 {
        wire.send("v").await;
        tokio::time::sleep(SHORT / 10).await;
    }
    wire.reply().await.unwrap().problem(408);
}

#[tokio::test]
async fn a_client_that_sends_nothing_or_half_a_head_is_dropped() {
    let rig = Rig::impatient().await;
    let before = before(&rig).await;
    let mut wires = Vec::new();
    for start in ["", "P", "PRI * HTTP/2", "GET / HTTP/1.1\r\nHost: h\r\nX-A: "] {
        let mut wire = rig.connect().await;
        wire.send(start).await;
        wires.push(wire);
    }
    for mut wire in wires {
        // A half head may get its 408; no head gets nothing.
        if let Some(reply) = wire.reply().await {
            assert!(matches!(reply.status, 400 | 408), "{reply:?}");
            assert!(wire.is_closed().await);
        }
    }
    before.check(&rig).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let rig = Rig::impatient().await;
    let mut busy = rig.connect().await;
    for _ in 0..6 {
        busy.send("GET /api/streams HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(busy.reply().await.unwrap().status, 200);
        tokio::time::sleep(SHORT / 3).await;
    }
    assert!(busy.is_closed().await);
}

#[tokio::test]
async fn a_truncated_body_ends_only_its_own_connection() {
    let rig = Rig::start().await;
    let before = before(&rig).await;
    let mut wire = rig.connect().await;
    wire.send("POST /whip/live HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\nContent-Length: 500\r\n\r\nv=0")
        .await;
    wire.finish_sending().await;
    if let Some(reply) = wire.reply().await {
        reply.problem(400);
    }
    assert_eq!(rig.fake.offers(), 1);
    before.check(&rig).await;
}

#[tokio::test]
async fn garbage_instead_of_http_is_400_or_closed() {
    let rig = Rig::start().await;
    let before = before(&rig).await;
    let cases: [&[u8]; 9] = [
        b"\r\n\r\n\r\n\r\nhello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \0\r\n\r\n",
        b"POST /whip/live HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nv=0",
        b"POST /whip/live HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: application/sdp\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS hello",
        &[0xff; 64],
    ];
    for bytes in cases {
        let mut wire = rig.connect().await;
        wire.send(bytes).await;
        wire.finish_sending().await;
        if let Some(reply) = wire.reply().await {
            assert_eq!(reply.status, 400, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
    before.check(&rig).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let rig = Rig::start().await;
    let before = before(&rig).await;
    let reply = rig
        .raw(format!(
            "GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
            "x".repeat(100_000)
        ))
        .await;
    assert_eq!(reply.status, 431);
    let many = "X: y\r\n".repeat(500);
    assert_eq!(
        rig.raw(format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")).await.status,
        431
    );
    before.check(&rig).await;
}

#[tokio::test]
async fn malicious_stream_names_are_400_or_404() {
    let rig = Rig::start().await;
    let before = before(&rig).await;
    let long = "x".repeat(10_000);
    let names = [
        "..",
        ".",
        ".git",
        "%2e%2e",
        "%2e%2e%2fetc",
        "a%2fb",
        "%00",
        "a%00",
        "%ff%fe",
        "%c3%a9",
        "%zz",
        "%",
        "a%20b",
        "a+b",
        "a;b",
        "a:b",
        "a@b",
        "%0d%0aX:y",
        "*",
        "~",
        &long,
    ];
    for name in names {
        for prefix in ["whip", "whep", "sdp", "api/streams"] {
            let method = if prefix.starts_with("api") { "GET" } else { "POST" };
            let reply = rig.request(method, &format!("/{prefix}/{name}"), &[SDP], OFFER).await;
            assert_eq!(reply.status, 400, "{prefix} {name}");
            assert!(reply.body.len() < 1_000);
        }
    }
    for path in [
        "/whip/../whip/live",
        "/whip//live",
        "/whip/",
        "/whip",
        "/whip/a/b/c",
        "/WHIP/live",
        "//",
    ] {
        let reply = rig.request("POST", path, &[SDP], OFFER).await;
        assert!(matches!(reply.status, 404 | 405), "{path}: {}", reply.status);
    }
    assert_eq!(rig.fake.offers(), 1);
    before.check(&rig).await;
}

#[tokio::test]
async fn unusual_request_targets_are_handled() {
    let rig = Rig::start().await;
    let before = before(&rig).await;
    for (target, method) in [
        ("*", "OPTIONS"),
        ("example.org:443", "CONNECT"),
        ("http://example.org/none", "GET"),
    ] {
        let reply = rig.raw(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        assert!(
            (400..500).contains(&reply.status),
            "{method} {target}: {}",
            reply.status
        );
    }
    // A query is not ours, and may be a cache's or a player's.
    let reply = rig.request("POST", "/whip/live?token=x&y", &[SDP], OFFER).await;
    assert_eq!(reply.status, 201);
    before.check(&rig).await;
}

#[tokio::test]
async fn bodies_that_are_not_text_are_400() {
    let rig = Rig::start().await;
    for path in ["/whip/live", "/sdp"] {
        let mut bytes =
            format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\nContent-Length: 4\r\n\r\n")
                .into_bytes();
        bytes.extend([0xff, 0xfe, 0x00, 0x80]);
        let reply = rig.raw(bytes).await;
        assert_eq!(reply.status, 400);
        assert!(reply.text().contains("UTF-8"));
    }
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_free_slot() {
    let limits = onecast::http::HttpLimits {
        connections: 2,
        ..Default::default()
    };
    let rig = Rig::with(onecast::http::Pages::built_in(), limits, "127.0.0.1:0").await;
    let (mut first, mut second, mut third) = (rig.connect().await, rig.connect().await, rig.connect().await);
    let ask = request("GET", "/api/streams", &[], "");
    for wire in [&mut first, &mut second] {
        wire.send(&ask).await;
        assert_eq!(wire.reply().await.unwrap().status, 200);
    }
    third.send(&ask).await;
    assert!(tokio::time::timeout(SHORT, third.reply()).await.is_err());
    drop(first);
    assert_eq!(third.reply().await.unwrap().status, 200);
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_lets_a_request_finish() {
    let rig = Rig::start().await;
    let (mut idle, mut busy) = (rig.connect().await, rig.connect().await);
    idle.send(request("GET", "/api/streams", &[], "")).await;
    assert_eq!(idle.reply().await.unwrap().status, 200);
    let head = "POST /whip/live HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\nExpect: 100-continue\r\n";
    busy.send(format!("{head}Content-Length: {}\r\n\r\n", OFFER.len()))
        .await;
    assert_eq!(busy.reply().await.unwrap().status, 100);

    rig.stop.cancel();
    assert!(idle.is_closed().await);
    busy.send(OFFER).await;
    assert_eq!(busy.reply().await.unwrap().status, 201);
    rig.running.await.unwrap();
    assert!(tokio::net::TcpStream::connect(rig.address).await.is_err());
}
