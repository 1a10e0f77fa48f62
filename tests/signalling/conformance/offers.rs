//! The counter-offer: a viewer that sends nothing is sent an offer.

use onecast_rtc::client_peer::Answered;

use super::ground::{CANDIDATES, Ground, Session};
use super::whip::assert_strong;
use crate::rig::{FRAGMENT, SDP};
use crate::wire::Reply;

/// Asks for an offer.
async fn asked(ground: &Ground) -> (Reply, Session) {
    let reply = ground.request("POST", "/whep/live", &[], "").await;
    assert_eq!(reply.status, 406, "{reply:?}");
    let session = Session {
        path: reply.header("location").unwrap().to_owned(),
        tag: reply.header("etag").unwrap().to_owned(),
        ice: ground.credentials(),
        answer: reply.text().to_owned(),
    };
    (reply, session)
}

/// What a client answers: as it would offer, but that it chooses who begins DTLS.
fn answer(ground: &Ground, session: &Session) -> String {
    let offer = ground.offer("/whep/live", &session.ice);
    offer.replace("a=setup:actpass", "a=setup:active")
}

async fn answered(ground: &Ground, session: &Session, answer: &str) -> Reply {
    ground.request("PATCH", &session.path, &[SDP], answer).await
}

pub(super) async fn an_empty_post_is_406_with_our_offer_location_and_tag(ground: &Ground) {
    // There is no publisher: a viewer that gets an offer waits like any other.
    for headers in [&[][..], &[SDP]] {
        let reply = ground.request("POST", "/whep/live", headers, "").await;
        assert_eq!(reply.status, 406);
        assert_eq!(reply.header("content-type"), Some("application/sdp"));
        assert!(reply.header("location").unwrap().starts_with("/whep/live/"));
        assert_strong(reply.header("etag").unwrap());
        assert!(reply.header("accept-patch").unwrap().contains("application/sdp"));
        let offer = reply.text();
        assert!(offer.contains("a=sendonly\r\n") && offer.contains("a=setup:actpass\r\n"));
        assert!(!Answered::parse(offer).unwrap().candidates.is_empty());
    }
}

pub(super) async fn the_answer_to_it_is_204_and_taken_once(ground: &Ground) {
    let (_, session) = asked(ground).await;
    let answer = answer(ground, &session);
    let taken = answered(ground, &session, &answer).await;
    assert_eq!((taken.status, taken.text(), taken.header("etag")), (204, "", None));
    answered(ground, &session, &answer).await.problem(409);
    // It is a session like any other now, and its tag is good.
    let trickled = ground.patch(&session, Some(&session.tag), CANDIDATES).await;
    assert_eq!(trickled.status, 204);
    let ended = ground.request("DELETE", &session.path, &[], "").await;
    assert_eq!(ended.status, 200);
    answered(ground, &session, &answer).await.problem(404);
}

pub(super) async fn an_answer_of_no_use_is_refused_and_a_better_one_taken(ground: &Ground) {
    let (_, session) = asked(ground).await;
    let good = answer(ground, &session);
    answered(ground, &session, "hello").await.problem(400);
    let inactive = good.replace("a=recvonly", "a=inactive");
    answered(ground, &session, &inactive).await.problem(422);
    let (audio, _) = good.split_at(good.find("m=video").unwrap());
    answered(ground, &session, audio).await.problem(422);
    let wrong = ground
        .request("PATCH", &session.path, &[("Content-Type", "text/plain")], &good)
        .await;
    wrong.problem(415);
    let types = wrong.header("accept-patch");
    assert_eq!(types, Some("application/trickle-ice-sdpfrag, application/sdp"));
    assert_eq!(answered(ground, &session, &good).await.status, 204);
}

pub(super) async fn only_who_asks_for_an_offer_gets_one(ground: &Ground) {
    ground.request("POST", "/whip/live", &[SDP], "").await.problem(400);
    ground.request("POST", "/whip/live", &[], "").await.problem(415);
    ground.request("POST", "/whep/live", &[SDP], " ").await.problem(400);
    ground.request("POST", "/whep/live", &[FRAGMENT], "").await.problem(415);
    let viewer = ground.session("/whep/live").await;
    let answer = answer(ground, &viewer);
    answered(ground, &viewer, &answer).await.problem(409);
    let publisher = ground.session("/whip/live").await;
    answered(ground, &publisher, &answer).await.problem(415);
}
