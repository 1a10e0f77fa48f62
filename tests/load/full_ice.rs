//! Another kind of server: a full ICE agent, built on the `webrtc` crate, which sends checks to us. It sends no media.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use onecast_clients::peer::{Peer, PeerConfig};
use onecast_rtc::rtp::Codec;
use webrtc::peer_connection::RTCSessionDescription;

/// Starts it. It lives as long as the test's runtime.
pub(crate) async fn start() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peers = Arc::new(Mutex::new(Vec::new()));
    let join = move |offer: String| {
        let peers = peers.clone();
        async move {
            let (peer, answer) = answer(offer).await;
            peers.lock().unwrap().push(peer);
            let headers = [(header::CONTENT_TYPE, "application/sdp")];
            (StatusCode::CREATED, headers, answer).into_response()
        }
    };
    let router = axum::Router::new().route("/{protocol}", post(join));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn answer(offer: String) -> (Peer, String) {
    let config = PeerConfig {
        codecs: vec![Codec::Opus, Codec::Vp8],
        local: [127, 0, 0, 1].into(),
        srtp_profiles: vec![],
        on_busy: None,
        trust: Default::default(),
        member: false,
    };
    let peer = Peer::new(config, |_| {}).await.unwrap();
    let connection = peer.connection();
    let offer = RTCSessionDescription::offer(offer).unwrap();
    connection.set_remote_description(offer).await.unwrap();
    let answer = connection.create_answer(None).await.unwrap();
    connection.set_local_description(answer).await.unwrap();
    for _ in 0..100 {
        let local = connection.local_description().await.map(|local| local.sdp);
        if let Some(sdp) = local.filter(|sdp| sdp.contains("a=candidate:")) {
            return (peer, sdp);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no candidate within 2 s");
}
