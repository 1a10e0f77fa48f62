//! A viewer that has its answer and no socket yet.

use std::net::SocketAddr;

use onecast_rtc::client_peer::{Answered, ClientPeer, OfferParams, write_offer};
use onecast_rtc::{Certificate, IceCredentials};
use onecast_udp::clock;
use reqwest::header::{CONTENT_TYPE, LOCATION};

pub(crate) struct RawViewer {
    /// Path of its session.
    pub(crate) session: String,
    pub(crate) peer: ClientPeer,
    /// Where its datagrams go.
    pub(crate) server: SocketAddr,
}

impl RawViewer {
    pub(crate) async fn join(whep: &str) -> RawViewer {
        let certificate = Certificate::generate().unwrap();
        let ice = IceCredentials {
            ufrag: "viewer".into(),
            pwd: "0123456789012345678901".into(),
        };
        let offer = write_offer(&OfferParams {
            ice: &ice,
            fingerprint: certificate.fingerprint(),
            active: true,
            publishes: false,
            rtx: true,
        });
        let request = reqwest::Client::new()
            .post(whep)
            .header(CONTENT_TYPE, "application/sdp");
        let response = request.body(offer).send().await.unwrap();
        assert_eq!(response.status(), 201);
        let session = response.headers()[LOCATION].to_str().unwrap().to_owned();
        let answered = Answered::parse(&response.text().await.unwrap()).unwrap();
        RawViewer {
            session,
            peer: ClientPeer::new(&ice, &answered, true, certificate, clock::now()),
            server: answered.candidates[0],
        }
    }
}
