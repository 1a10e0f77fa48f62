//! Publishing: `POST /whip/:stream` and its session.

use std::sync::Arc;

use onecast::http::Serving;
use onecast::turn::{IceServers, TurnCredentials};

use super::ground::{ENDPOINTS, Ground, fragment, limits};
use crate::rig::SDP;

pub(super) async fn an_offer_is_201_with_answer_location_and_tag(ground: &Ground) {
    let reply = ground.post("/whip/live").await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("content-type"), Some("application/sdp"));
    assert_eq!(reply.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    let location = reply.header("location").unwrap();
    assert!(
        location.starts_with("/whip/live/") && !location.contains('?'),
        "{location}"
    );
    assert_strong(reply.header("etag").unwrap());
    assert!(reply.text().starts_with("v=0\r\n"));
}

pub(super) async fn the_answer_receives_on_one_bundled_transport_with_all_candidates(ground: &Ground) {
    let answer = ground.session("/whip/live").await.answer;
    for line in [
        "a=group:BUNDLE 0 1",
        "a=ice-lite",
        "a=end-of-candidates",
        "a=setup:passive",
    ] {
        assert!(answer.contains(&format!("{line}\r\n")), "{line}");
    }
    let count = |line: &str| answer.matches(line).count();
    assert_eq!((count("a=recvonly\r\n"), count("a=rtcp-mux\r\n")), (2, 2));
    assert!(count("a=candidate:") >= 1 && !answer.contains("a=sendonly"));
}

pub(super) async fn an_offer_for_both_directions_is_tolerated(ground: &Ground) {
    let offer = ground.offer("/whip/live", &ground.credentials());
    let reply = ground
        .request("POST", "/whip/live", &[SDP], &offer.replace("a=sendonly", "a=sendrecv"))
        .await;
    assert_eq!(reply.status, 201);
    assert!(reply.text().contains("a=recvonly\r\n"));
}

pub(super) async fn an_offer_for_several_transports_is_422(ground: &Ground) {
    for endpoint in ENDPOINTS {
        for (line, hint) in [("a=group:BUNDLE 0 1\r\n", "max-bundle"), ("a=rtcp-mux\r\n", "rtcp-mux")] {
            let offer = ground.offer(endpoint, &ground.credentials()).replace(line, "");
            let said = ground.request("POST", endpoint, &[SDP], &offer).await.problem(422);
            assert!(said.contains(hint), "{said}");
        }
    }
}

pub(super) async fn delete_is_200_whatever_if_match_says_and_then_404(ground: &Ground) {
    for endpoint in ENDPOINTS {
        let session = ground.session(endpoint).await;
        let ended = ground
            .request("DELETE", &session.path, &[("If-Match", "\"stale\"")], "")
            .await;
        assert_eq!((ended.status, ended.text()), (200, ""));
        for method in ["DELETE", "GET"] {
            ground.request(method, &session.path, &[], "").await.problem(404);
        }
        let late = ground
            .patch(&session, Some(&session.tag), &fragment(&session.ice))
            .await;
        late.problem(404);
    }
    // The place is free at once.
    ground.session("/whip/live").await;
}

pub(super) async fn the_endpoint_and_a_session_can_be_asked_for(ground: &Ground) {
    let session = ground.session("/whip/live").await;
    for method in ["GET", "HEAD"] {
        for path in ["/whip/live", &session.path] {
            let reply = ground.request(method, path, &[], "").await;
            assert_eq!((reply.status, reply.text()), (204, ""), "{method} {path}");
        }
    }
}

pub(super) async fn options_tell_what_is_taken_and_need_no_token(ground: &Ground) {
    let preflight = [
        ("Origin", "https://example.org"),
        ("Access-Control-Request-Method", "PATCH"),
        ("Access-Control-Request-Headers", "authorization,content-type,if-match"),
    ];
    for endpoint in ENDPOINTS {
        let session = ground.session(endpoint).await;
        let at_endpoint = ground.request("OPTIONS", endpoint, &preflight, "").await;
        assert_eq!(at_endpoint.header("accept-post"), Some("application/sdp"));
        let at_session = ground.request("OPTIONS", &session.path, &preflight, "").await;
        let taken = at_session.header("accept-patch").unwrap();
        assert!(taken.contains("application/trickle-ice-sdpfrag"));
        for (reply, methods) in [(at_endpoint, "POST"), (at_session, "PATCH")] {
            assert!(matches!(reply.status, 200 | 204));
            let allowed = |name: &str| reply.header(name).unwrap().to_owned();
            assert_eq!(allowed("access-control-allow-origin"), "*");
            assert!(allowed("access-control-allow-methods").contains(methods));
            assert!(allowed("allow").contains(methods));
            assert_eq!(
                allowed("access-control-allow-headers"),
                "Authorization, Content-Type, If-Match"
            );
            assert_eq!(
                allowed("access-control-expose-headers"),
                "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After"
            );
        }
    }
}

pub(super) async fn each_ice_server_has_a_link_line_of_its_own(ground: &Ground) {
    let urls = [
        "turn:turn.example.org?transport=udp",
        "stun:stun.example.org",
        "turns:turn.example.org",
    ];
    let login = TurnCredentials::Fixed {
        username: "user".parse().unwrap(),
        password: "word".parse().unwrap(),
    };
    let servers = IceServers::new(urls.map(|url| url.parse().unwrap()).to_vec(), Some(login)).unwrap();
    let telling = Ground::serving(ground.strict, limits(), |serving| Serving {
        ice_servers: Arc::new(servers),
        ..serving
    })
    .await;
    let login = "username=\"user\"; credential=\"word\"; credential-type=\"password\"";
    let expected = [
        "<stun:stun.example.org>; rel=\"ice-server\"".to_owned(),
        format!("<turn:turn.example.org?transport=udp>; rel=\"ice-server\"; {login}"),
        format!("<turns:turn.example.org>; rel=\"ice-server\"; {login}"),
    ];
    for endpoint in ENDPOINTS {
        let told = telling.request("OPTIONS", endpoint, &[], "").await;
        for reply in [telling.post(endpoint).await, told] {
            let lines = reply.headers.iter().filter(|(name, _)| name == "link");
            let lines: Vec<&String> = lines.map(|(_, value)| value).collect();
            let lines: Vec<_> = lines.into_iter().filter(|line| line.contains("ice-server")).collect();
            assert_eq!(lines, expected.iter().collect::<Vec<_>>(), "{endpoint}");
        }
    }
    telling.stop().await;
}

pub(super) async fn sessions_cannot_be_guessed(ground: &Ground) {
    let first = ground.session("/whep/live").await;
    let second = ground.session("/whep/live").await;
    let id = |path: &str| u128::from_str_radix(path.rsplit('/').next().unwrap(), 16).unwrap();
    let different = (id(&first.path) ^ id(&second.path)).count_ones();
    assert!((20..=108).contains(&different), "{different} of 128 bits differ");
    assert_ne!(first.tag, second.tag);
}

/// A strong tag is in quotes and without `W/` (RFC 9110 section 8.8.3).
pub(super) fn assert_strong(tag: &str) {
    assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
}
