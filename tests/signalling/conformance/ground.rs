//! The real server, and offers of clients that could connect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use onecast::app::{App, AppConfig};
use onecast::http::{HttpLimits, Pages, Server, Serving};
use onecast_control::registry::SessionLimits;
use onecast_control::{AdmissionLimits, Limits};
use onecast_rtc::client_peer::{OfferParams, write_offer};
use onecast_rtc::{Fingerprint, IceCredentials};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::rig::SDP;
use crate::wire::{Reply, Wire, request};

/// A running server.
pub(super) struct Ground {
    pub(super) strict: bool,
    app: App,
    address: SocketAddr,
    stop: CancellationToken,
    made: AtomicU32,
}

/// A session, and what its client knows of it.
pub(super) struct Session {
    pub(super) path: String,
    pub(super) tag: String,
    pub(super) ice: IceCredentials,
    pub(super) answer: String,
}

/// Room enough for any row.
pub(super) fn limits() -> Limits {
    Limits {
        sessions: SessionLimits::default(),
        rooms: Default::default(),
        streams: 3,
        viewers: 40,
        admission: AdmissionLimits::default(),
    }
}

/// Both endpoints.
pub(super) const ENDPOINTS: [&str; 2] = ["/whip/live", "/whep/live"];

impl Ground {
    pub(super) async fn start(strict: bool) -> Ground {
        Ground::with(strict, limits()).await
    }

    pub(super) async fn with(strict: bool, limits: Limits) -> Ground {
        Ground::serving(strict, limits, |open| open).await
    }

    /// What is served may be another than what is open to all.
    pub(super) async fn serving(strict: bool, limits: Limits, change: impl FnOnce(Serving) -> Serving) -> Ground {
        let app = App::start(AppConfig {
            limits,
            ..AppConfig::on_loopback(2)
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = change(Serving {
            strict_etags: strict,
            ..Serving::open(Arc::new(app.clone()), Pages::built_in())
        });
        tokio::spawn(Server::new(serving, HttpLimits::default()).run(listener, stop.clone()));
        Ground {
            strict,
            app,
            address,
            stop,
            made: AtomicU32::new(0),
        }
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        assert!(self.app.shutdown(Duration::from_secs(5)).await);
    }

    pub(super) async fn connect(&self) -> Wire {
        Wire::connect(self.address).await
    }

    pub(super) async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut wire = self.connect().await;
        wire.send(request(method, path, headers, body)).await;
        let reply = if method == "HEAD" {
            wire.reply_to_head().await
        } else {
            wire.reply().await
        };
        reply.expect("a response")
    }

    /// Unique credentials.
    pub(super) fn credentials(&self) -> IceCredentials {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        IceCredentials {
            ufrag: format!("client{number}").into(),
            pwd: format!("password-of-the-client-{number}").into(),
        }
    }

    /// The client's offer for an endpoint.
    pub(super) fn offer(&self, endpoint: &str, ice: &IceCredentials) -> String {
        write_offer(&OfferParams {
            ice,
            fingerprint: Fingerprint([7; 32]),
            active: true,
            publishes: endpoint.starts_with("/whip"),
            rtx: true,
        })
    }

    pub(super) async fn post(&self, endpoint: &str) -> Reply {
        let offer = self.offer(endpoint, &self.credentials());
        self.request("POST", endpoint, &[SDP], &offer).await
    }

    pub(super) async fn session(&self, endpoint: &str) -> Session {
        let ice = self.credentials();
        let reply = self
            .request("POST", endpoint, &[SDP], &self.offer(endpoint, &ice))
            .await;
        assert_eq!(reply.status, 201, "{reply:?}");
        Session {
            path: reply.header("location").unwrap().to_owned(),
            tag: reply.header("etag").unwrap().to_owned(),
            ice,
            answer: reply.text().to_owned(),
        }
    }

    /// PATCHes a session with a fragment.
    pub(super) async fn patch(&self, session: &Session, if_match: Option<&str>, fragment: &str) -> Reply {
        let tag = if_match.map(|value| ("If-Match", value));
        let headers: Vec<_> = std::iter::once(crate::rig::FRAGMENT).chain(tag).collect();
        self.request("PATCH", &session.path, &headers, fragment).await
    }
}

/// A fragment with these credentials and a candidate, as a browser's.
pub(super) fn fragment(ice: &IceCredentials) -> String {
    format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n{CANDIDATES}", ice.ufrag, ice.pwd)
}

pub(super) const CANDIDATES: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
    a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 network-id 1\r\na=end-of-candidates\r\n";
