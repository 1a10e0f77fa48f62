//! Watching: `POST /whep/:stream`.

use super::ground::Ground;
use super::whip::assert_strong;
use crate::rig::{OFFER, Rig, SDP};

pub(super) async fn an_offer_is_201_and_the_answer_sends(ground: &Ground) {
    ground.session("/whip/live").await;
    let reply = ground.post("/whep/live").await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("content-type"), Some("application/sdp"));
    assert!(reply.header("location").unwrap().starts_with("/whep/live/"));
    assert_strong(reply.header("etag").unwrap());
    assert!(reply.text().contains("a=sendonly\r\n") && !reply.text().contains("a=recvonly"));
}

pub(super) async fn without_a_publisher_the_viewer_waits(ground: &Ground) {
    assert_eq!(ground.post("/whep/absent").await.status, 201);
    // Where the stream requires one it is 409 with a time to come back.
    let silent = Rig::start().await.request("POST", "/whep/silent", &[SDP], OFFER).await;
    silent.problem(409);
    assert!(silent.header("retry-after").is_some());
}

pub(super) async fn the_endpoint_says_its_type(ground: &Ground) {
    for method in ["GET", "HEAD"] {
        let reply = ground.request(method, "/whep/live", &[], "").await;
        assert_eq!((reply.status, reply.text()), (200, ""));
        assert_eq!(reply.header("content-type"), Some("application/sdp"));
    }
}

pub(super) async fn a_codec_that_the_viewer_lacks_is_422_with_both_lists(_: &Ground) {
    let reply = Rig::start().await.request("POST", "/whep/h264", &[SDP], OFFER).await;
    let said = reply.problem(422);
    assert!(
        said.contains("the stream has H264 video") && said.contains("VP8, VP9"),
        "{said}"
    );
    let json = reply.json();
    assert_eq!(json["type"], "urn:onecast:problem:codec-missing");
    assert_eq!(json["stream_codecs"], serde_json::json!(["H264"]));
    assert_eq!(json["offer_codecs"], serde_json::json!(["VP8", "VP9"]));
}
