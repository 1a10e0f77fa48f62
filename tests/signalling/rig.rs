//! The server in front of the fake service, on a port of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use onecast::auth::Authority;
use onecast::http::{HttpLimits, Pages, ReverseProxy, Server, Serving};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::fake::Fake;
use super::wire::{Reply, Wire, request};

pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) fake: Arc<Fake>,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<()>,
    _stop_at_the_end: DropGuard,
}

pub(crate) const SDP: (&str, &str) = ("Content-Type", "application/sdp");
pub(crate) const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");
pub(crate) const OFFER: &str = "v=0\r\no=- 7 7 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

/// Short enough for a test to wait for, long enough for a busy machine.
pub(crate) const SHORT: Duration = Duration::from_millis(1_200);

impl Rig {
    pub(crate) async fn start() -> Rig {
        Rig::with(Pages::built_in(), HttpLimits::default(), "127.0.0.1:0").await
    }

    /// Gives up waiting early.
    pub(crate) async fn impatient() -> Rig {
        let limits = HttpLimits {
            header_timeout: SHORT,
            body_timeout: SHORT,
            ..HttpLimits::default()
        };
        Rig::with(Pages::built_in(), limits, "127.0.0.1:0").await
    }

    /// Asks this authority.
    pub(crate) async fn guarded(authority: Authority) -> Rig {
        Rig::with_authority(Pages::built_in(), HttpLimits::default(), "127.0.0.1:0", authority).await
    }

    /// Has this in front of it.
    pub(crate) async fn behind(proxy: ReverseProxy, authority: Authority) -> Rig {
        Rig::start_as("127.0.0.1:0", HttpLimits::default(), |serving| Serving {
            authority: Arc::new(authority),
            proxy,
            ..serving
        })
        .await
    }

    pub(crate) async fn with(pages: Pages, limits: HttpLimits, listen: &str) -> Rig {
        Rig::with_authority(pages, limits, listen, Authority::off()).await
    }

    async fn with_authority(pages: Pages, limits: HttpLimits, listen: &str, authority: Authority) -> Rig {
        Rig::start_as(listen, limits, |serving| Serving {
            authority: Arc::new(authority),
            pages,
            ..serving
        })
        .await
    }

    async fn start_as(listen: &str, limits: HttpLimits, change: impl FnOnce(Serving) -> Serving) -> Rig {
        let fake = Arc::new(Fake::default());
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = change(Serving::open(fake.clone(), Pages::built_in()));
        let server = Server::new(serving, limits);
        let running = tokio::spawn(server.run(listener, stop.clone()));
        Rig {
            address,
            fake,
            running,
            _stop_at_the_end: stop.clone().drop_guard(),
            stop,
        }
    }

    pub(crate) async fn connect(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// Sends bytes on a connection of their own and gives the response.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> Reply {
        let mut wire = self.connect().await;
        wire.send(bytes).await;
        wire.reply().await.expect("a response")
    }

    pub(crate) async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut wire = self.connect().await;
        wire.send(request(method, path, headers, body)).await;
        let reply = if method == "HEAD" {
            wire.reply_to_head().await
        } else {
            wire.reply().await
        };
        reply.expect("a response")
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], "").await
    }

    /// Opens a session and gives its URL's path.
    pub(crate) async fn session(&self, endpoint: &str) -> String {
        let reply = self.request("POST", endpoint, &[SDP], OFFER).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.header("location").unwrap().to_owned()
    }
}
