//! One test for each row of the table of statuses.

use super::fake::answer;
use super::rig::{FRAGMENT, OFFER, Rig, SDP};
use super::wire::Reply;

#[tokio::test]
async fn an_offer_creates_a_session() {
    let rig = Rig::start().await;
    for (protocol, digits) in [("whip", "01"), ("whep", "02")] {
        let reply = rig.request("POST", &format!("/{protocol}/talk-1"), &[SDP], OFFER).await;
        assert_eq!(reply.status, 201);
        assert_eq!(reply.header("content-type"), Some("application/sdp"));
        assert_eq!(
            reply.header("location"),
            Some(&*format!("/{protocol}/talk-1/{}", digits.repeat(16)))
        );
        assert_eq!(reply.text(), answer("talk-1"));
        let offer = rig.fake.last_offer();
        assert_eq!((&*offer.stream, &*offer.text), ("talk-1", OFFER));
    }
}

#[tokio::test]
async fn the_service_gets_both_ends_of_the_connection() {
    let rig = Rig::start().await;
    rig.session("/whip/live").await;
    let offer = rig.fake.last_offer();
    assert_eq!(offer.local, rig.address);
    assert!(offer.client.ip().is_loopback() && offer.client != offer.local);
}

#[tokio::test]
async fn candidates_are_204_and_the_end_of_a_session_is_200() {
    let rig = Rig::start().await;
    for endpoint in ["/whip/live", "/whep/live"] {
        let session = rig.session(endpoint).await;
        let trickled = rig.request("PATCH", &session, &[FRAGMENT], "a=ice-ufrag:x\r\n").await;
        assert_eq!((trickled.status, trickled.header("etag")), (204, None));
        assert_eq!(rig.fake.fragments().last().unwrap(), "a=ice-ufrag:x\r\n");
        assert_eq!(rig.get(&session).await.status, 204);

        let ended = rig.request("DELETE", &session, &[("If-Match", "\"stale\"")], "").await;
        assert_eq!((ended.status, ended.text()), (200, ""));
        rig.request("DELETE", &session, &[], "").await.problem(404);
        rig.request("PATCH", &session, &[FRAGMENT], "").await.problem(404);
        rig.get(&session).await.problem(404);
    }
}

#[tokio::test]
async fn a_wrong_content_type_is_refused_with_the_right_one() {
    let rig = Rig::start().await;
    let session = rig.session("/whip/live").await;
    for headers in [
        &[][..],
        &[("Content-Type", "application/json")],
        &[("Content-Type", "text/plain; application/sdp")],
    ] {
        for endpoint in ["/whip/live", "/whep/live"] {
            let reply = rig.request("POST", endpoint, headers, OFFER).await;
            assert!(reply.problem(415).contains("application/sdp"));
            assert_eq!(reply.header("accept-post"), Some("application/sdp"));
        }
        let reply = rig.request("PATCH", &session, headers, "").await;
        assert!(reply.problem(415).contains("application/trickle-ice-sdpfrag"));
        assert_eq!(reply.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    }
    assert_eq!(rig.fake.offers(), 1);
}

#[tokio::test]
async fn media_types_are_compared_without_parameters() {
    let rig = Rig::start().await;
    let typed = ("content-type", "Application/SDP ; charset=utf-8");
    assert_eq!(rig.request("POST", "/whip/live", &[typed], OFFER).await.status, 201);
    let session = rig.session("/whep/live").await;
    let typed = ("Content-Type", "application/trickle-ice-sdpfrag;charset=UTF-8");
    assert_eq!(rig.request("PATCH", &session, &[typed], "").await.status, 204);
}

#[tokio::test]
async fn sdp_that_cannot_be_parsed_is_400_and_sdp_that_cannot_be_used_422() {
    let rig = Rig::start().await;
    for endpoint in ["/whip/live", "/whep/live"] {
        // An empty body is no offer for WHIP; for WHEP it asks for one.
        for offer in [" \r\n", "hello", "{\"type\":\"offer\"}"] {
            let said = rig.request("POST", endpoint, &[SDP], offer).await.problem(400);
            assert_eq!(said, "this is not SDP Send the text of RTCSessionDescription.sdp.");
        }
        let said = rig
            .request("POST", endpoint, &[SDP], "v=0\r\na=unusable\r\n")
            .await
            .problem(422);
        assert!(said.contains("the offer has X; this server carries VP8"), "{said}");
    }
    let session = rig.session("/whip/live").await;
    rig.request("PATCH", &session, &[FRAGMENT], "unreadable")
        .await
        .problem(400);
}

#[tokio::test]
async fn an_unknown_stream_or_session_is_404() {
    let rig = Rig::start().await;
    rig.request("POST", "/whep/unknown", &[SDP], OFFER).await.problem(404);
    let whip = rig.session("/whip/live").await;
    let as_whep = whip.replace("whip", "whep");
    let unknown = format!("/whip/live/{}", "0".repeat(32));
    for session in [&*as_whep, &unknown, "/whip/live/1", "/whip/live/..", "/whip/live/%00"] {
        rig.get(session).await.problem(404);
        rig.request("DELETE", session, &[], "").await.problem(404);
        rig.request("PATCH", session, &[FRAGMENT], "").await.problem(404);
    }
    assert_eq!(rig.get(&whip).await.status, 204);
}

#[tokio::test]
async fn temporary_conflicts_are_409_with_a_retry_time() {
    let rig = Rig::start().await;
    let taken = rig.request("POST", "/whip/taken", &[SDP], OFFER).await;
    assert!(taken.problem(409).contains("since 2024-02-29T12:34:56Z"));
    // The half second of 2.5 is not cut off.
    assert!((3..=4).contains(&retry_after(&taken)));
    let silent = rig.request("POST", "/whep/silent", &[SDP], OFFER).await;
    silent.problem(409);
    assert!((2..=4).contains(&retry_after(&silent)));
}

#[tokio::test]
async fn a_full_or_closing_server_is_503_with_a_retry_time() {
    let rig = Rig::start().await;
    for (path, said) in [
        ("/whip/crowded", "1000"),
        ("/whep/full", "100000"),
        ("/whip/closing", "shutting down"),
    ] {
        let reply = rig.request("POST", path, &[SDP], OFFER).await;
        assert!(reply.problem(503).contains(said), "{reply:?}");
        assert!((5..=10).contains(&retry_after(&reply)));
    }
}

fn retry_after(reply: &Reply) -> u32 {
    reply.header("retry-after").unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_unknown_method_is_refused_with_the_allowed_ones() {
    let rig = Rig::start().await;
    let session = rig.session("/whip/live").await;
    let cases = [
        (
            "/whip/live",
            ["PUT", "DELETE", "PATCH", "BREW"],
            "GET HEAD POST OPTIONS",
        ),
        (
            "/whep/live",
            ["PUT", "DELETE", "PATCH", "BREW"],
            "GET HEAD POST OPTIONS",
        ),
        (
            &session,
            ["PUT", "POST", "TRACE", "BREW"],
            "GET HEAD PATCH DELETE OPTIONS",
        ),
        ("/api/streams", ["PUT", "POST", "DELETE", "BREW"], "GET HEAD OPTIONS"),
        ("/api/shards", ["PUT", "POST", "DELETE", "BREW"], "GET HEAD OPTIONS"),
    ];
    for (path, methods, allowed) in cases {
        for method in methods {
            let reply = rig.request(method, path, &[], "").await;
            reply.problem(405);
            let mut listed: Vec<&str> = reply.header("allow").unwrap().split(',').map(str::trim).collect();
            let mut expected: Vec<&str> = allowed.split(' ').collect();
            listed.sort_unstable();
            expected.sort_unstable();
            assert_eq!(listed, expected, "{method} {path}");
        }
    }
    for path in ["/sdp", "/sdp/live", "/"] {
        let reply = rig.request("DELETE", path, &[], "").await;
        assert_eq!(reply.status, 405);
        assert!(reply.header("allow").unwrap().contains("POST"));
        assert!(reply.header("content-type").unwrap().starts_with("text/plain"));
    }
}

#[tokio::test]
async fn get_and_head_show_that_an_endpoint_exists() {
    let rig = Rig::start().await;
    let session = rig.session("/whep/live").await;
    for method in ["GET", "HEAD"] {
        let whip = rig.request(method, "/whip/live", &[], "").await;
        assert_eq!((whip.status, whip.text()), (204, ""));
        let whep = rig.request(method, "/whep/live", &[], "").await;
        assert_eq!((whep.status, whep.text()), (200, ""));
        assert_eq!(whep.header("content-type"), Some("application/sdp"));
        assert_eq!(rig.request(method, &session, &[], "").await.status, 204);
    }
}

#[tokio::test]
async fn a_preflight_names_methods_and_headers() {
    let rig = Rig::start().await;
    let session = rig.session("/whip/live").await;
    let preflight = [
        ("Origin", "https://example.org"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type"),
    ];
    for (path, method) in [
        ("/whip/live", "POST"),
        ("/whep/live", "POST"),
        (&session, "PATCH"),
        ("/sdp", "POST"),
    ] {
        let reply = rig.request("OPTIONS", path, &preflight, "").await;
        assert_eq!(reply.status, 204);
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            reply.header("access-control-allow-headers"),
            Some("Authorization, Content-Type, If-Match")
        );
        assert!(reply.header("access-control-allow-methods").unwrap().contains(method));
    }
    for path in ["/whip/live", "/whep/live"] {
        let endpoint = rig.request("OPTIONS", path, &preflight, "").await;
        assert_eq!(endpoint.header("accept-post"), Some("application/sdp"));
        assert_eq!(endpoint.header("allow"), Some("GET, HEAD, POST, OPTIONS"));
        assert_eq!(
            endpoint.header("access-control-allow-methods"),
            Some("GET, HEAD, POST, PATCH, DELETE, OPTIONS")
        );
    }
    let session = rig.request("OPTIONS", &session, &[], "").await;
    assert_eq!(session.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
}

#[tokio::test]
async fn pages_of_other_origins_may_read_every_response() {
    let rig = Rig::start().await;
    for reply in [
        rig.request("POST", "/whip/live", &[SDP], OFFER).await,
        rig.request("POST", "/whip/live", &[], OFFER).await,
        rig.request("POST", "/sdp", &[], OFFER).await,
        rig.get("/api/streams").await,
        rig.get("/nothing").await,
        rig.request("PUT", "/whip/live", &[], "").await,
    ] {
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        let exposed = reply.header("access-control-expose-headers").unwrap();
        for name in ["Location", "ETag", "Link", "Accept-Post", "Accept-Patch", "Retry-After"] {
            assert!(exposed.contains(name), "{name}");
        }
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn the_api_lists_live_streams() {
    let rig = Rig::start().await;
    let live = serde_json::json!({
        "name": "live", "live": true, "state": "live", "silent_s": null, "since": "2024-02-29T12:34:56Z", "viewers": 17, "video": "VP8", "audio": "opus",
        "keyframes": {
            "interval_ms": 10_000, "wanted": 7, "coalesced": 3, "deferred": 1, "requested": 3, "answered": 0, "ignored": true,
        },
        "start_cache": { "ready": true, "frames": 290, "bytes": 1_500_000 },
        "large_packets": { "count": 3, "longest_bytes": 1_616 },
        "layers": [
            { "rid": "f", "width": 1280, "height": 720, "bitrate": 0, "frame_rate": 30, "live": false, "viewers": 5, "keyframe_age_ms": 1_500 },
            { "rid": "h", "width": 640, "height": 360, "bitrate": 512_000, "frame_rate": 30, "live": true, "viewers": 5, "keyframe_age_ms": 1_500 },
            { "rid": "q", "width": 320, "height": 180, "bitrate": 131_000, "frame_rate": 30, "live": true, "viewers": 5, "keyframe_age_ms": 1_500 },
        ],
    });
    let waiting = serde_json::json!({
        "name": "waiting", "live": false, "state": "waiting", "silent_s": null, "since": null, "viewers": 0, "video": null, "audio": null,
        "keyframes": {
            "interval_ms": null, "wanted": 0, "coalesced": 0, "deferred": 0, "requested": 0, "answered": 0, "ignored": false,
        },
        "start_cache": { "ready": false, "frames": 0, "bytes": 0 },
        "large_packets": { "count": 0, "longest_bytes": 0 },
        "layers": [],
    });
    let connected = serde_json::json!({
        "name": "connected", "live": false, "state": "connected", "silent_s": 42, "since": "2024-02-29T12:34:56Z", "viewers": 0,
        "video": null, "audio": null,
        "keyframes": waiting["keyframes"], "start_cache": waiting["start_cache"], "large_packets": waiting["large_packets"],
        "layers": [],
    });
    let all = rig.get("/api/streams").await;
    assert_eq!(
        (all.status, all.header("content-type")),
        (200, Some("application/json"))
    );
    assert_eq!(all.header("cache-control"), Some("no-store"));
    let refused = serde_json::json!({ "rate": 0, "half_open": 0, "address": 0, "address_rate": 0 });
    let joins = serde_json::json!({ "half_open": 0, "refused": refused });
    assert_eq!(
        all.json(),
        serde_json::json!({ "streams": [live, waiting, connected], "joins": joins })
    );
    assert_eq!(rig.get("/api/streams/live").await.json(), live);
    assert_eq!(rig.get("/api/streams/waiting").await.json(), waiting);
    assert_eq!(rig.get("/api/streams/connected").await.json(), connected);
    rig.get("/api/streams/absent").await.problem(404);
    let shards = rig.get("/api/shards").await.json();
    let [shard] = &shards["shards"].as_array().unwrap()[..] else {
        panic!("{shards}")
    };
    let (mut shard, mut socket) = (shard.clone(), shard["socket"].clone());
    assert_eq!((&shard["peers"], &socket["gso_runs"]), (&0.into(), &0.into()));
    shard.as_object_mut().unwrap().remove("socket");
    for (counters, counted) in [
        (&mut shard, serde_json::json!({ "rtp_in": 7 })),
        (&mut socket, serde_json::json!({ "send_calls": 2 })),
    ] {
        counters.as_object_mut().unwrap().retain(|_, value| *value != 0);
        assert_eq!(*counters, counted);
    }
    rig.get("/api/streams/..%2f").await.problem(400);
    rig.get("/api/nothing").await.problem(404);
}
