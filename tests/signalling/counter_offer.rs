//! A player that sends nothing is sent an offer.

use super::fake::{LIMITS, answer};
use super::rig::{FRAGMENT, OFFER, Rig, SDP};

const ENDPOINT: &str = "/whep/live";

async fn asked(rig: &Rig, headers: &[(&str, &str)]) -> String {
    let reply = rig.request("POST", ENDPOINT, headers, "").await;
    assert_eq!(reply.status, 406, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/sdp"));
    assert_eq!(reply.text(), answer("counter-offer"));
    reply.header("location").unwrap().to_owned()
}

#[tokio::test]
async fn an_empty_post_gets_an_offer_and_the_answer_is_patched() {
    let rig = Rig::start().await;
    for headers in [&[SDP][..], &[]] {
        let session = asked(&rig, headers).await;
        assert!(session.starts_with("/whep/live/") && session.len() == "/whep/live/".len() + 32);
        assert_eq!(rig.get(&session).await.status, 204);
        let reply = rig.request("PATCH", &session, &[SDP], OFFER).await;
        assert_eq!((reply.status, reply.text()), (204, ""));
        assert_eq!(rig.fake.answers().last().unwrap(), OFFER);
        assert_eq!(rig.request("DELETE", &session, &[], "").await.status, 200);
    }
    assert_eq!(rig.fake.offers(), 0, "nothing empty was taken for an offer");
}

#[tokio::test]
async fn a_post_without_a_length_requests_an_offer_too() {
    let rig = Rig::start().await;
    let reply = rig.raw("POST /whep/live HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(reply.status, 406);
    assert!(reply.header("link").unwrap().contains("server-sent-events"));
}

#[tokio::test]
async fn requests_for_anything_else_never_get_406() {
    let rig = Rig::start().await;
    rig.request("POST", ENDPOINT, &[SDP], " ").await.problem(400);
    rig.request("POST", ENDPOINT, &[("Content-Type", "application/json")], "")
        .await
        .problem(415);
    assert_eq!(rig.request("POST", ENDPOINT, &[SDP], OFFER).await.status, 201);
    rig.request("POST", "/whip/live", &[SDP], "").await.problem(400);
    rig.request("POST", "/whip/live", &[], "").await.problem(415);
}

#[tokio::test]
async fn an_unusable_answer_is_refused_and_a_usable_one_accepted_afterwards() {
    let rig = Rig::start().await;
    let session = asked(&rig, &[]).await;
    rig.request("PATCH", &session, &[SDP], "hello").await.problem(400);
    let unusable = rig.request("PATCH", &session, &[SDP], "v=0\r\na=unusable\r\n").await;
    unusable.problem(422);
    assert_eq!(unusable.json()["title"], "The answer cannot be used");
    let wrong = rig
        .request("PATCH", &session, &[("Content-Type", "text/plain")], OFFER)
        .await;
    wrong.problem(415);
    let patches = wrong.header("accept-patch").unwrap();
    assert!(patches.contains("application/trickle-ice-sdpfrag") && patches.contains("application/sdp"));
    assert_eq!(rig.request("PATCH", &session, &[FRAGMENT], "a=mid:0").await.status, 204);
    assert_eq!(rig.request("PATCH", &session, &[SDP], OFFER).await.status, 204);
}

#[tokio::test]
async fn an_unexpected_answer_is_a_conflict() {
    let rig = Rig::start().await;
    let offered = asked(&rig, &[]).await;
    assert_eq!(rig.request("PATCH", &offered, &[SDP], OFFER).await.status, 204);
    let answered = rig.session(ENDPOINT).await;
    for session in [offered, answered] {
        let said = rig.request("PATCH", &session, &[SDP], OFFER).await.problem(409);
        assert!(said.contains("already has its answer"), "{said}");
    }
    let publisher = rig.session("/whip/live").await;
    rig.request("PATCH", &publisher, &[SDP], OFFER).await.problem(415);
    let unknown = format!("/whep/live/{}", "0".repeat(32));
    rig.request("PATCH", &unknown, &[SDP], OFFER).await.problem(404);
    assert_eq!(rig.fake.answers().len(), 1);
}

#[tokio::test]
async fn options_of_a_viewers_session_list_both_media_types() {
    let rig = Rig::start().await;
    let session = asked(&rig, &[]).await;
    let reply = rig.request("OPTIONS", &session, &[], "").await;
    let patches = reply.header("accept-patch").unwrap();
    assert_eq!(patches, "application/trickle-ice-sdpfrag, application/sdp");
}

#[tokio::test]
async fn requests_for_an_offer_pass_admission_control() {
    let rig = Rig::start().await;
    let mut statuses = Vec::new();
    for _ in 0..=LIMITS.joins_per_second {
        statuses.push(rig.request("POST", "/whep/limited", &[], "").await.status);
    }
    assert_eq!(statuses.pop(), Some(503));
    assert!(statuses.iter().all(|status| *status == 406), "{statuses:?}");
}
