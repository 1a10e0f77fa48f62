//! ICE restarts over real sockets: a viewer continues from another port, on whichever shard the kernel delivers that.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use onecast_clients::publish::Publisher;
use onecast_rtc::client_peer::{Answered, ClientEvent, ClientPeer, OfferParams, write_offer};
use onecast_rtc::{Certificate, IceCredentials};
use onecast_testing::{Tests, tests};
use reqwest::header::{CONTENT_TYPE, ETAG, IF_MATCH, LOCATION};

use super::rig::{Detours, Rig};
use super::{test_card, until};

pub(crate) fn tests() -> Tests {
    tests![
        viewer_continues_from_port_to_port,
        viewer_without_the_live_codec_gets_both_codec_lists,
    ]
}

async fn viewer_continues_from_port_to_port() {
    let rig = Rig::start(Detours {
        shards: 2,
        ..Detours::default()
    })
    .await;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let mut viewer = RawViewer::join(&rig).await;
    tokio::task::block_in_place(|| viewer.watch(200));
    for number in 1..=4 {
        // A session may restart once a second.
        tokio::time::sleep(Duration::from_millis(1_050)).await;
        viewer.restart(&rig, number).await;
        tokio::task::block_in_place(|| viewer.watch(200));
        assert_eq!(rig.counter("ice_restarts"), u64::from(number));
    }
    assert_eq!(rig.counter("connected"), 2, "the publisher and the viewer, once each");
    publisher.close().await;
    rig.stop().await;
}

async fn viewer_without_the_live_codec_gets_both_codec_lists() {
    let rig = Rig::start(Detours::default()).await;
    let without_vp8 = |ice: &IceCredentials| offer(ice, &certificate()).replace(" VP8/", " H261/");
    // Before a broadcaster is live, its codecs are unknown.
    let early = post(&rig, without_vp8(&credentials(1))).await;
    assert_eq!(early.status(), 201);
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    until("video is on its way", || rig.counter("rtp_in") > 0).await;
    let mut refused = post(&rig, without_vp8(&credentials(2))).await;
    for _ in 0..50 {
        if refused.status() != 201 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        refused = post(&rig, without_vp8(&credentials(2))).await;
    }
    assert_eq!(refused.status(), 422);
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(
        problem["detail"],
        "the stream has VP8 video; this browser or player offers VP9, H264, AV1"
    );
    assert_eq!(problem["stream_codecs"], serde_json::json!(["VP8"]));
    assert_eq!(problem["offer_codecs"], serde_json::json!(["VP9", "H264", "AV1"]));
    assert_eq!(post(&rig, offer(&credentials(3), &certificate())).await.status(), 201);
    publisher.close().await;
    rig.stop().await;
}

/// A viewer on a raw socket.
struct RawViewer {
    session: String,
    server: std::net::SocketAddr,
    socket: UdpSocket,
    peer: ClientPeer,
}

impl RawViewer {
    async fn join(rig: &Rig) -> RawViewer {
        let (ice, certificate) = (credentials(0), certificate());
        let answer = post(rig, offer(&ice, &certificate)).await;
        assert_eq!(answer.status(), 201);
        let session = format!("http://{}{}", rig.http, answer.headers()[LOCATION].to_str().unwrap());
        let answered = Answered::parse(&answer.text().await.unwrap()).unwrap();
        RawViewer {
            session,
            server: answered.candidates[0],
            socket: socket(),
            peer: ClientPeer::new(&ice, &answered, true, certificate, onecast_udp::clock::now()),
        }
    }

    /// Requests a restart and moves to another socket.
    async fn restart(&mut self, rig: &Rig, number: u32) {
        let ice = credentials(number);
        let fragment = format!(
            "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n",
            ice.ufrag, ice.pwd
        );
        let request = reqwest::Client::new()
            .patch(&self.session)
            .header(CONTENT_TYPE, "application/trickle-ice-sdpfrag")
            .header(IF_MATCH, "*")
            .body(fragment);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers().contains_key(ETAG));
        // Until it has moved, media arrives at the old socket.
        tokio::task::block_in_place(|| self.watch(20));
        assert_eq!(rig.counter("ice_restarts"), u64::from(number) - 1);
        let answered = Answered::parse(&response.text().await.unwrap()).unwrap();
        self.server = answered.candidates[0];
        self.socket = socket();
        self.peer.restart(&ice, answered.ice, onecast_udp::clock::now());
    }

    /// Receives this many media datagrams.
    fn watch(&mut self, media: usize) {
        let begun: Instant = onecast_udp::clock::now();
        let (mut seen, mut buffer) = (0, [0; 2_048]);
        while seen < media {
            let now = onecast_udp::clock::now();
            assert!(now - begun < Duration::from_secs(20), "{seen} of {media} datagrams");
            if self.peer.poll_timeout() <= now {
                self.peer.handle_timeout(now);
            }
            if let Ok(len) = self.socket.recv(&mut buffer)
                && let Some(ClientEvent::Media) = self.peer.handle_datagram(now, &buffer[..len])
            {
                seen += 1;
            }
            while let Some(datagram) = self.peer.poll_transmit() {
                self.socket.send_to(&datagram, self.server).unwrap();
            }
        }
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    socket
}

fn certificate() -> Certificate {
    Certificate::generate().unwrap()
}

fn credentials(number: u32) -> IceCredentials {
    IceCredentials {
        ufrag: format!("raw{number}").into(),
        pwd: format!("password-of-raw-viewer-{number}").into(),
    }
}

fn offer(ice: &IceCredentials, certificate: &Certificate) -> String {
    write_offer(&OfferParams {
        ice,
        fingerprint: certificate.fingerprint(),
        active: true,
        publishes: false,
        rtx: true,
    })
}

async fn post(rig: &Rig, offer: String) -> reqwest::Response {
    let request = reqwest::Client::new().post(rig.whep("live"));
    let request = request.header(CONTENT_TYPE, "application/sdp").body(offer);
    request.send().await.unwrap()
}
