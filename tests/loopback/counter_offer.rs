//! Counter-offers: a full peer that receives an offer plays and gets events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onecast_clients::peer::{Peer, PeerConfig};
use onecast_clients::publish::Publisher;
use onecast_control::port::Service as _;
use onecast_rtc::rtp::Codec;
use onecast_testing::{Tests, tests};
use reqwest::header::{CONTENT_TYPE, LINK, LOCATION};
use reqwest::{Client, Response, Url};
use webrtc::media_stream::track_remote::TrackRemoteEvent;
use webrtc::peer_connection::RTCSessionDescription;

use crate::rig::{Detours, Rig};
use crate::{test_card, until};

pub(crate) fn tests() -> Tests {
    tests![
        player_that_answers_a_counter_offer_gets_packets_and_events,
        counter_offer_puts_live_codecs_first,
    ]
}

const SDP: &str = "application/sdp";

/// Resolves a URL from a header of the reply.
fn led_to(reply: &Response, path: &str) -> Url {
    reply.url().join(path).unwrap()
}

/// Asks for an offer, answers it and returns the session URL.
async fn answered(rig: &Rig, peer: &Peer) -> (Response, Url) {
    let client = Client::new();
    let mut offered = client.post(rig.whep("live")).send().await.unwrap();
    assert_eq!(offered.status(), 406);
    assert_eq!(offered.headers()[CONTENT_TYPE], SDP);
    let session = led_to(&offered, offered.headers()[LOCATION].to_str().unwrap());
    let mut offer = Vec::new();
    while let Some(chunk) = offered.chunk().await.unwrap() {
        offer.extend_from_slice(&chunk);
    }
    let offer = RTCSessionDescription::offer(String::from_utf8(offer).unwrap()).unwrap();
    peer.connection().set_remote_description(offer).await.unwrap();
    let answer = peer.connection().create_answer(None).await.unwrap();
    peer.connection().set_local_description(answer.clone()).await.unwrap();
    let patch = || client.patch(session.clone()).header(CONTENT_TYPE, SDP);
    let unreadable = patch().body("hello").send().await.unwrap();
    assert_eq!(unreadable.status(), 400);
    let unusable = patch()
        .body(answer.sdp.replace("a=recvonly", "a=inactive"))
        .send()
        .await
        .unwrap();
    assert_eq!(unusable.status(), 422);
    let taken = patch().body(answer.sdp.clone()).send().await.unwrap();
    assert_eq!(taken.status(), 204);
    let again = patch().body(answer.sdp).send().await.unwrap();
    assert_eq!(again.status(), 409);
    (offered, session)
}

/// A peer that counts the packets of its tracks.
async fn counting(rig: &Rig, codecs: Vec<Codec>) -> (Peer, Arc<AtomicU64>) {
    let packets = Arc::new(AtomicU64::new(0));
    let counted = packets.clone();
    let peer = Peer::new(PeerConfig::towards(&rig.whep("live"), codecs), move |track| {
        let counted = counted.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(_) = event {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    });
    (peer.await.unwrap(), packets)
}

async fn player_that_answers_a_counter_offer_gets_packets_and_events() {
    let rig = Rig::start(Detours {
        shards: 2,
        ..Detours::default()
    })
    .await;
    let (peer, packets) = counting(&rig, vec![Codec::Opus, Codec::Vp8]).await;
    let (offered, session) = answered(&rig, &peer).await;
    let mut events = followed(&offered).await;
    heard(&mut events, "event: inactive\ndata: {}").await;

    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    heard(&mut events, "event: active\ndata: {}").await;
    heard(&mut events, "event: viewercount\ndata: {\"viewercount\":1}").await;
    until("packets of the stream", || packets.load(Ordering::Relaxed) > 100).await;
    assert_eq!(rig.app.admission().half_open, 0);
    publisher.close().await;
    heard(&mut events, "event: inactive\ndata: {}").await;

    rig.app.ask_to_reconnect(onecast_control::whep_events::ReconnectNotice {
        to: Some("https://b.example.org".parse().unwrap()),
    });
    heard(&mut events, "event: reconnect\ndata: {").await;
    assert_eq!(Client::new().delete(session).send().await.unwrap().status(), 200);
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        while events.chunk().await.unwrap().is_some() {}
    });
    ended.await.expect("the event stream ends with the session");
    peer.close().await;
    rig.stop().await;
}

async fn counter_offer_puts_live_codecs_first() {
    let rig = Rig::start(Detours::default()).await;
    let publisher = Publisher::connect(&rig.whip("live"), crate::clip(&["clip.h264"]), None)
        .await
        .unwrap();
    until("the codec is known", || {
        rig.app.streams().first().is_some_and(|stream| stream.video.is_some())
    })
    .await;
    let (peer, packets) = counting(&rig, vec![Codec::H264]).await;
    answered(&rig, &peer).await;
    until("packets of the stream", || packets.load(Ordering::Relaxed) > 30).await;
    let offer = Client::new().post(rig.whep("live")).send().await.unwrap();
    assert_eq!(
        rig.app.admission().half_open,
        1,
        "a client that has not answered is half-open"
    );
    let offer = offer.text().await.unwrap();
    assert!(offer.contains("\r\nm=video 9 UDP/TLS/RTP/SAVPF 102 103 "), "{offer}");
    publisher.close().await;
    peer.close().await;
    rig.stop().await;
}

/// Opens an event stream of the session and follows it.
async fn followed(created: &Response) -> Response {
    followed_for(created, &["active", "inactive", "viewercount", "reconnect"]).await
}

/// The same for these events.
pub(crate) async fn followed_for(created: &Response, names: &[&str]) -> Response {
    let link = created.headers()[LINK].to_str().unwrap();
    let events = led_to(created, link.strip_prefix('<').unwrap().split('>').next().unwrap());
    let opening = Client::new().post(events).json(names);
    let opened = opening.send().await.unwrap();
    assert_eq!(opened.status(), 201);
    let url = led_to(&opened, opened.headers()[LOCATION].to_str().unwrap());
    Client::new().get(url).send().await.unwrap()
}

/// Waits until the event stream has delivered this message.
pub(crate) async fn heard(events: &mut Response, message: &str) {
    let listening = async {
        let mut said = String::new();
        while !said.contains(message) {
            let chunk = events.chunk().await.unwrap().expect("the event stream goes on");
            said.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(10), listening).await;
    assert!(heard.is_ok(), "not heard: {message}");
}
