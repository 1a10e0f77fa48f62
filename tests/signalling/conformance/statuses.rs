//! The table of statuses.

use onecast::room::registry::SessionLimits;
use onecast::room::{AdmissionLimits, Limits};

use super::ground::{ENDPOINTS, Ground};
use crate::rig::{OFFER, Rig, SDP};
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
    let body = "a".repeat(256 * 1024 + 1);
    for (method, path) in [
        ("POST", "/whip/live"),
        ("POST", "/whep/live"),
        ("PATCH", &*session.path),
    ] {
        let typed = if method == "POST" { SDP } else { crate::rig::FRAGMENT };
        ground.request(method, path, &[typed], &body).await.problem(413);
    }
}

pub(super) async fn sdp_that_cannot_be_read_is_400(ground: &Ground) {
    for endpoint in ENDPOINTS {
        for offer in [" ", "hello", "{\"type\":\"offer\"}", "v=0\r\nm=video\r\n"] {
            ground.request("POST", endpoint, &[SDP], offer).await.problem(400);
        }
    }
}

pub(super) async fn sdp_that_cannot_be_used_is_422_and_names_both_codec_lists(ground: &Ground) {
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
            let reply = ground
                .request(method, path, &[crate::rig::FRAGMENT], "a=mid:0\r\n")
                .await;
            reply.problem(404);
        }
    }
}

pub(super) async fn publishing_over_somebody_else_is_409(ground: &Ground) {
    ground.session("/whip/live").await;
    let reply = ground.post("/whip/live").await;
    reply.problem(409);
    assert_eq!(reply.header("retry-after"), None);
}

pub(super) async fn an_unknown_method_is_405_with_those_there_are(ground: &Ground) {
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

pub(super) async fn a_full_server_is_503_with_a_time_to_come_back(ground: &Ground) {
    let limits = Limits {
        sessions: SessionLimits::default(),
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

pub(super) async fn a_crowd_of_one_address_is_429_with_a_time_to_come_back(_: &Ground) {
    let rig = Rig::start().await;
    let reply = rig.request("POST", "/whep/neighbours", &[SDP], OFFER).await;
    reply.problem(429);
    assert!((1..=5).contains(&retry_after(&reply)));
}

fn retry_after(reply: &Reply) -> u32 {
    reply.header("retry-after").unwrap().parse().unwrap()
}
