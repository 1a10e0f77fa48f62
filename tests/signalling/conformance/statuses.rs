//! The table of statuses.

use onecast_control::registry::SessionLimits;
use onecast_control::{AdmissionLimits, Limits};

use super::ground::{ENDPOINTS, Ground};
use crate::rig::{FRAGMENT, OFFER, Rig, SDP};
use crate::wire::Reply;

pub(super) async fn a_wrong_type_is_415_with_the_right_one(ground: &Ground) {
    for endpoint in ENDPOINTS {
        let session = ground.session(endpoint).await;
        for headers in [&[][..], &[("Content-Type", "application/json")]] {
            let reply = ground.request("POST", endpoint, headers, OFFER).await;
            reply.problem(415);
            assert_eq!(reply.header("accept-post"), Some("application/sdp"));
            let reply = ground.request("PATCH", &session.path, headers, "").await;
            reply.problem(415);
            assert!(
                reply
                    .header("accept-patch")
                    .unwrap()
                    .contains("application/trickle-ice-sdpfrag")
            );
        }
    }
}

pub(super) async fn a_body_over_the_cap_is_413(ground: &Ground) {
    let session = ground.session("/whip/live").await;
    let viewer = ground.session("/whep/live").await;
    let events = format!("{}/events", viewer.path);
    let json = ("Content-Type", "application/json");
    for (method, path, typed) in [
        ("POST", "/whip/live", SDP),
        ("POST", "/whep/live", SDP),
        ("POST", &*events, json),
        ("PATCH", &*session.path, FRAGMENT),
        ("PATCH", &*viewer.path, FRAGMENT),
    ] {
        let of = |bytes: usize| "a".repeat(bytes);
        // Without a tag the body of a PATCH is not read where one is wanted.
        let headers = [typed, ("If-Match", "*")];
        let over = ground.request(method, path, &headers, &of(CAP + 1)).await;
        over.problem(413);
        // The cap itself is read, and then it is nonsense.
        let at = ground.request(method, path, &headers, &of(CAP)).await;
        assert_eq!(at.status, 400, "{method} {path} {at:?}");
    }
}

pub(super) async fn malformed_sdp_is_400(ground: &Ground) {
    for endpoint in ENDPOINTS {
        for offer in [" ", "hello", "{\"type\":\"offer\"}", "v=0\r\nm=video\r\n"] {
            ground.request("POST", endpoint, &[SDP], offer).await.problem(400);
        }
    }
}

pub(super) async fn unusable_sdp_is_422_and_names_both_codec_lists(ground: &Ground) {
    for endpoint in ENDPOINTS {
        let offer = ground.offer(endpoint, &ground.credentials());
        let (head, video) = offer.split_at(offer.find("m=video").unwrap());
        let mut foreign = video.to_owned();
        for (name, other) in [
            ("VP8/", "H261/"),
            ("VP9/", "H263/"),
            ("H264/", "MPV/"),
            ("AV1/", "JPEG/"),
        ] {
            foreign = foreign.replace(name, other);
        }
        let reply = ground
            .request("POST", endpoint, &[SDP], &format!("{head}{foreign}"))
            .await;
        let said = reply.problem(422);
        assert!(
            said.contains("H261, H263, MPV, JPEG") && said.contains("VP8, VP9"),
            "{said}"
        );
        let json = reply.json();
        assert_eq!(json["offer_codecs"], serde_json::json!(["H261", "H263", "MPV", "JPEG"]));
        let carried = json["server_codecs"].as_array().unwrap();
        assert!(
            carried.contains(&"VP8".into()) && carried.contains(&"H264".into()),
            "{carried:?}"
        );

        let three = format!("{offer}{}", video.replace("a=mid:1", "a=mid:2"));
        let said = ground.request("POST", endpoint, &[SDP], &three).await.problem(422);
        assert!(said.contains("1 audio and 2 video lines"), "{said}");
    }
}

pub(super) async fn an_unknown_session_is_404(ground: &Ground) {
    let session = ground.session("/whip/live").await;
    let as_whep = session.path.replace("whip", "whep");
    for path in [&*as_whep, &format!("/whip/live/{}", "0".repeat(32)), "/whip/live/x"] {
        for method in ["GET", "DELETE", "PATCH"] {
            let reply = ground.request(method, path, &[FRAGMENT], "a=mid:0\r\n").await;
            reply.problem(404);
        }
    }
}

pub(super) async fn an_unknown_stream_is_404_where_names_are_fixed(_: &Ground) {
    let rig = Rig::start().await;
    for path in ["/whip/unknown", "/whep/unknown"] {
        rig.request("POST", path, &[SDP], OFFER).await.problem(404);
    }
}

pub(super) async fn publishing_on_an_occupied_stream_is_409(ground: &Ground) {
    ground.session("/whip/live").await;
    let reply = ground.post("/whip/live").await;
    reply.problem(409);
    let wait: u32 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
}

pub(super) async fn an_unknown_method_is_405_with_the_allowed_ones(ground: &Ground) {
    for endpoint in ENDPOINTS {
        let session = ground.session(endpoint).await;
        for (path, allowed) in [(endpoint, ["GET", "POST"]), (&*session.path, ["PATCH", "DELETE"])] {
            let reply = ground.request("PUT", path, &[], "").await;
            reply.problem(405);
            for method in allowed.into_iter().chain(["HEAD", "OPTIONS"]) {
                assert!(reply.header("allow").unwrap().contains(method), "{method}");
            }
        }
    }
}

pub(super) async fn a_full_server_is_503_with_a_retry_time(ground: &Ground) {
    let limits = Limits {
        sessions: SessionLimits::default(),
        rooms: Default::default(),
        streams: 1,
        viewers: 1,
        admission: AdmissionLimits::default(),
    };
    let small = Ground::with(ground.strict, limits).await;
    small.session("/whep/live").await;
    for endpoint in ["/whep/live", "/whip/other"] {
        let reply = small.post(endpoint).await;
        reply.problem(503);
        assert!((5..=10).contains(&retry_after(&reply)));
    }
    small.stop().await;
    let closing = Rig::start().await.request("POST", "/whip/closing", &[SDP], OFFER).await;
    closing.problem(503);
    assert!((5..=10).contains(&retry_after(&closing)));
}

pub(super) async fn a_draining_server_is_503_with_spread_retry_times(ground: &Ground) {
    let session = ground.session("/whep/live").await;
    drain(ground, "/api/drain").await;
    let mut times = Vec::new();
    for endpoint in ENDPOINTS.into_iter().cycle().take(40) {
        let reply = ground.post(endpoint).await;
        reply.problem(503);
        times.push(retry_after(&reply));
    }
    assert!(times.iter().all(|time| (5..=10).contains(time)), "{times:?}");
    assert!(times.iter().any(|time| *time != times[0]), "{times:?}");
    let asked = ground.request("POST", "/whep/live", &[], "").await;
    asked.problem(503);
    let inside = ground
        .patch(&session, Some(&session.tag), super::ground::CANDIDATES)
        .await;
    assert_eq!(inside.status, 204, "present sessions stay");
}

pub(super) async fn a_draining_server_with_a_destination_is_307_to_the_same_path(ground: &Ground) {
    drain(ground, "/api/drain?to=https://other.example").await;
    for endpoint in ENDPOINTS {
        let reply = ground.post(&format!("{endpoint}?token=t")).await;
        assert_eq!((reply.status, reply.text()), (307, ""));
        let location = format!("https://other.example{endpoint}?token=t");
        assert_eq!(reply.header("location"), Some(&*location));
    }
}

async fn drain(ground: &Ground, path: &str) {
    assert_eq!(ground.request("POST", path, &[], "").await.status, 202);
}

pub(super) async fn pages_of_other_origins_can_read_every_answer(ground: &Ground) {
    let session = ground.session("/whip/live").await.path;
    for (method, path, headers, status) in [
        ("POST", "/whep/live", &[][..], 406),
        ("POST", "/whip/live", &[SDP], 400),
        ("POST", "/whip/live", &[], 415),
        ("PUT", "/whip/live", &[], 405),
        ("GET", "/whip/live", &[], 204),
        ("PATCH", &session, &[FRAGMENT], 400),
        ("DELETE", &session, &[], 200),
        ("DELETE", &session, &[], 404),
    ] {
        let reply = ground.request(method, path, headers, "").await;
        let status = if method == "PATCH" && ground.strict {
            428
        } else {
            status
        };
        assert_eq!(reply.status, status, "{method} {path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert_eq!(reply.header("access-control-expose-headers"), Some(EXPOSED));
    }
}

pub(super) async fn a_crowd_from_one_address_is_429_with_a_retry_time(_: &Ground) {
    let rig = Rig::start().await;
    let reply = rig.request("POST", "/whep/neighbours", &[SDP], OFFER).await;
    reply.problem(429);
    assert!((1..=5).contains(&retry_after(&reply)));
}

fn retry_after(reply: &Reply) -> u32 {
    reply.header("retry-after").unwrap().parse().unwrap()
}

/// Largest body that is taken.
const CAP: usize = 256 * 1024;
const EXPOSED: &str = "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After";
