//! PATCH of a session with an SDP fragment: candidates, and ICE restarts.

use onecast_rtc::client_peer::Answered;

use super::ground::{CANDIDATES, ENDPOINTS, Ground, fragment};
use super::whip::assert_strong;

pub(super) async fn candidates_of_the_current_ice_session_are_204_without_body_and_tag(ground: &Ground) {
    for endpoint in ENDPOINTS {
        let session = ground.session(endpoint).await;
        for body in [fragment(&session.ice), CANDIDATES.to_owned()] {
            let reply = ground.patch(&session, Some(&session.tag), &body).await;
            assert_eq!((reply.status, reply.text(), reply.header("etag")), (204, "", None));
        }
    }
}

pub(super) async fn a_missing_tag_is_428_unless_the_fragment_identifies_the_ice_session(ground: &Ground) {
    for endpoint in ENDPOINTS {
        let session = ground.session(endpoint).await;
        for body in [fragment(&session.ice), CANDIDATES.to_owned()] {
            let reply = ground.patch(&session, None, &body).await;
            if ground.strict {
                reply.problem(428);
            } else {
                assert_eq!(reply.status, 204);
            }
        }
        let another = fragment(&ground.credentials());
        ground.patch(&session, None, &another).await.problem(428);
    }
}

pub(super) async fn a_stale_tag_is_412(ground: &Ground) {
    for endpoint in ENDPOINTS {
        let session = ground.session(endpoint).await;
        for body in [fragment(&session.ice), fragment(&ground.credentials())] {
            ground.patch(&session, Some("\"stale\""), &body).await.problem(412);
        }
        let renewed = ground.credentials();
        assert_eq!(ground.patch(&session, Some("*"), &fragment(&renewed)).await.status, 200);
        // What comes late for the ICE session of before is no restart of it, even from a client that says `*` to everything.
        for if_match in [&*session.tag, "*"] {
            ground
                .patch(&session, Some(if_match), &fragment(&session.ice))
                .await
                .problem(412);
        }
    }
}

pub(super) async fn weak_tags_and_lists_are_compared_strongly(ground: &Ground) {
    let session = ground.session("/whip/live").await;
    let (tag, body) = (&session.tag, fragment(&session.ice));
    for (value, status) in [
        (format!("\"other\", {tag}"), 204),
        (format!("W/{tag}"), 412),
        (format!("W/{tag}, {tag}"), 204),
        (tag.trim_matches('"').to_owned(), 400),
        (format!("{tag} {tag}"), 400),
    ] {
        let reply = ground.patch(&session, Some(&value), &body).await;
        assert_eq!(reply.status, status, "{value}");
    }
}

pub(super) async fn candidates_that_cannot_be_resolved_are_ignored(ground: &Ground) {
    let session = ground.session("/whep/live").await;
    for candidate in [
        "1 1 udp 2122260223 0b7c1fd0-34b1-4c27-b0bf-5b4e4d2d8b8a.local 61764 typ host",
        "1 1 tcp 1 no.such.host.example 9 typ host tcptype active",
        "complete nonsense",
    ] {
        let body = format!("m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:{candidate}\r\n");
        let reply = ground.patch(&session, Some(&session.tag), &body).await;
        assert_eq!(reply.status, 204, "{candidate}");
    }
}

pub(super) async fn a_restart_is_200_with_new_server_credentials_and_a_new_tag(ground: &Ground) {
    for endpoint in ENDPOINTS {
        let mut session = ground.session(endpoint).await;
        let before = Answered::parse(&session.answer).unwrap();
        session.ice = ground.credentials();
        let reply = ground.patch(&session, Some("*"), &fragment(&session.ice)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/trickle-ice-sdpfrag"));
        let tag = reply.header("etag").unwrap();
        assert_strong(tag);
        assert_ne!(tag, session.tag);

        let ours = Answered::parse(reply.text()).unwrap();
        assert_ne!(ours.ice.ufrag, before.ice.ufrag);
        assert_ne!(ours.ice.pwd, before.ice.pwd);
        assert_eq!(ours.candidates, before.candidates);
        let lines: Vec<&str> = reply.text().lines().collect();
        for line in ["a=ice-lite", "m=audio 9 RTP/AVP 0", "a=mid:0", "a=end-of-candidates"] {
            assert!(lines.contains(&line), "{line} is not in {lines:?}");
        }
        // From now on candidates are for the new one.
        let trickled = ground.patch(&session, Some(tag), &fragment(&session.ice)).await;
        assert_eq!(trickled.status, 204);
        ground
            .patch(&session, Some(&session.tag), CANDIDATES)
            .await
            .problem(412);
    }
}

pub(super) async fn any_tag_with_the_current_ufrag_is_trickle(ground: &Ground) {
    let session = ground.session("/whep/live").await;
    for body in [fragment(&session.ice), CANDIDATES.to_owned()] {
        let reply = ground.patch(&session, Some("*"), &body).await;
        assert_eq!((reply.status, reply.header("etag")), (204, None));
    }
}

pub(super) async fn a_restart_that_fails_keeps_the_old_ice_session(ground: &Ground) {
    let session = ground.session("/whip/live").await;
    let new = ground.credentials();
    let half = format!("a=ice-ufrag:{}\r\n", new.ufrag);
    let said = ground.patch(&session, Some("*"), &half).await.problem(422);
    assert!(said.contains("a=ice-pwd"), "{said}");
    ground
        .patch(&session, Some("*"), "a=ice-ufrag:!\r\n")
        .await
        .problem(400);
    ground.patch(&session, Some("*"), "").await.problem(400);
    let reply = ground
        .patch(&session, Some(&session.tag), &fragment(&session.ice))
        .await;
    assert_eq!(reply.status, 204);
}

pub(super) async fn ice_restarts_are_rate_limited(ground: &Ground) {
    let session = ground.session("/whip/live").await;
    let first = ground
        .patch(&session, Some("*"), &fragment(&ground.credentials()))
        .await;
    assert_eq!(first.status, 200);
    let mut refused = 0;
    for _ in 0..20 {
        let reply = ground
            .patch(&session, Some("*"), &fragment(&ground.credentials()))
            .await;
        if reply.status == 429 {
            reply.problem(429);
            assert!((1..=2).contains(&reply.header("retry-after").unwrap().parse::<u32>().unwrap()));
            refused += 1;
        } else {
            // A second has passed meanwhile.
            assert_eq!(reply.status, 200);
        }
    }
    assert!(refused > 0);
}
