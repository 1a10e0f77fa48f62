//! The whole server in this process, and what a test may put between it and its clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use onecast::app::{App, AppConfig};
use onecast::auth::Authority;
use onecast::http::feeds::{EventFeed, Feeds, RoomFeed};
use onecast::http::{HttpLimits, Pages, Server, Serving};
use onecast_control::layers::{LayerChoice, ViewerLayer};
use onecast_control::port::{
    Accepted, PasteRights, PasteRole, Patch, Patched, Protocol, Request, Service, SessionGuard, ShardReading,
    StreamStatus,
};
use onecast_control::whep_events::{EventSet, EventStreamId};
use onecast_control::{Limits, Purpose, Refusal, SessionId};
use onecast_metrics::{AdmissionCounts, ShardCounts};
use onecast_udp::socket::MediaSocketConfig;
use tokio_util::sync::CancellationToken;

use crate::relay::Relay;

/// Limits of the server, and what happens between it and its clients.
#[derive(Clone, Copy, Default)]
pub(crate) struct Detours {
    /// Percentage that a relay drops each way.
    pub(crate) loss: u32,
    /// Offers contain `setup:passive`.
    pub(crate) passive: bool,
    /// Media threads.
    pub(crate) shards: usize,
    /// One datagram per system call.
    pub(crate) portable: bool,
    /// Limits of sessions.
    pub(crate) sessions: onecast_control::SessionLimits,
    /// Most members of a room; 0 for the default.
    pub(crate) room_members: usize,
    /// Joins accepted per second; 0 for the default.
    pub(crate) joins_per_second: u32,
    /// Time for the first frame of a WebSocket; `None` for the default.
    pub(crate) header_timeout: Option<Duration>,
}

impl Detours {
    fn limits(&self, usual: Limits) -> Limits {
        let mut limits = Limits {
            sessions: self.sessions,
            ..usual
        };
        if self.room_members > 0 {
            limits.rooms.members = self.room_members;
        }
        if self.joins_per_second > 0 {
            limits.admission.joins_per_second = self.joins_per_second;
        }
        limits
    }

    fn http_limits(&self) -> HttpLimits {
        let usual = HttpLimits::default();
        HttpLimits {
            header_timeout: self.header_timeout.unwrap_or(usual.header_timeout),
            ..usual
        }
    }
}

/// A running server.
pub(crate) struct Rig {
    pub(crate) app: App,
    pub(crate) http: SocketAddr,
    stop: CancellationToken,
    _relay: Option<Relay>,
}

impl Rig {
    pub(crate) async fn start(detours: Detours) -> Rig {
        Rig::guarded(detours, Authority::off()).await
    }

    /// Starts with access control.
    pub(crate) async fn guarded(detours: Detours, authority: Authority) -> Rig {
        let config = AppConfig::on_loopback(detours.shards.max(1));
        let app = App::start(AppConfig {
            sockets: MediaSocketConfig {
                portable: detours.portable,
                ..config.sockets
            },
            limits: detours.limits(config.limits),
            ..config
        })
        .unwrap();
        let media = onecast::serve::MediaServer::media_address(&app);
        let relay = if detours.loss > 0 {
            Some(Relay::start(media, detours.loss).await)
        } else {
            None
        };
        let service = Detoured {
            app: app.clone(),
            passive: detours.passive,
            relay: relay.as_ref().map(Relay::port),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = Serving {
            authority: Arc::new(authority),
            ..Serving::open(Arc::new(service), Pages::built_in())
        };
        let server = Server::new(serving, detours.http_limits());
        tokio::spawn(server.run(listener, stop.clone()));
        Rig {
            app,
            http,
            stop,
            _relay: relay,
        }
    }

    pub(crate) fn whip(&self, stream: &str) -> String {
        format!("http://{}/whip/{stream}", self.http)
    }

    pub(crate) fn whep(&self, stream: &str) -> String {
        format!("http://{}/whep/{stream}", self.http)
    }

    /// URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.http)
    }

    /// Sum of a counter over all shards.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let mut all = ShardCounts::default();
        self.app.counters().iter().for_each(|shard| all.merge(&shard.read()));
        let found = all.iter().find(|(metric, _)| metric.name == name);
        found.expect("a counter of this name").1
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        assert!(
            self.app.shutdown(Duration::from_secs(5)).await,
            "the media threads end in time"
        );
    }
}

/// The server behind the detours.
struct Detoured {
    app: App,
    passive: bool,
    relay: Option<u16>,
}

impl Detoured {
    fn join(
        &self,
        request: Request<'_>,
        join: impl Fn(&App, Request<'_>) -> Result<Accepted, Refusal>,
    ) -> Result<Accepted, Refusal> {
        let offer = match self.passive {
            true => request.offer.replace("a=setup:actpass", "a=setup:passive"),
            false => request.offer.to_owned(),
        };
        let mut accepted = join(
            &self.app,
            Request {
                offer: &offer,
                ..request
            },
        )?;
        if let Some(port) = self.relay {
            let direct = onecast::serve::MediaServer::media_address(&self.app).port();
            accepted.answer = accepted
                .answer
                .replace(&format!(" 127.0.0.1 {direct} typ"), &format!(" 127.0.0.1 {port} typ"));
        }
        Ok(accepted)
    }
}

impl Feeds for Detoured {
    fn follow_events(&self, events: EventStreamId) -> Result<EventFeed, Refusal> {
        self.app.follow_events(events)
    }

    fn follow_room(&self, peer: SessionId) -> Result<RoomFeed, Refusal> {
        self.app.follow_room(peer)
    }

    fn wakes(&self, peer: SessionId) -> Result<tokio::sync::watch::Receiver<u64>, Refusal> {
        self.app.wakes(peer)
    }
}

impl Service for Detoured {
    fn check_join(&self, client: SocketAddr, purpose: Purpose) -> Result<(), Refusal> {
        self.app.check_join(client, purpose)
    }

    fn publish(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        self.join(request, |app, request| app.publish(request))
    }
    fn watch(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        self.join(request, |app, request| app.watch(request))
    }
    fn paste(&self, request: Request<'_>, rights: PasteRights<'_>) -> Result<(Accepted, PasteRole), Refusal> {
        self.app.paste(request, rights)
    }
    fn patch(&self, patch: Patch<'_>) -> Result<Patched, Refusal> {
        self.app.patch(patch)
    }
    fn close(&self, session: SessionId, protocol: Protocol) -> Result<(), Refusal> {
        self.app.close(session, protocol)
    }
    fn counter_offer(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        self.app.counter_offer(request)
    }
    fn take_answer(&self, session: SessionId, answer: &str) -> Result<(), Refusal> {
        self.app.take_answer(session, answer)
    }
    fn open_events(&self, session: SessionId, wanted: EventSet) -> Result<EventStreamId, Refusal> {
        self.app.open_events(session, wanted)
    }
    fn choose_layer(&self, session: SessionId, choice: &LayerChoice) -> Result<(), Refusal> {
        self.app.choose_layer(session, choice)
    }

    fn viewer_layer(&self, session: SessionId) -> Result<ViewerLayer, Refusal> {
        self.app.viewer_layer(session)
    }
    fn close_events(&self, events: EventStreamId) -> Result<(), Refusal> {
        self.app.close_events(events)
    }
    fn exists(&self, session: SessionId, protocol: Protocol) -> bool {
        self.app.exists(session, protocol)
    }
    fn guard(&self, session: SessionId) -> Result<Option<SessionGuard>, Refusal> {
        self.app.guard(session)
    }
    fn streams(&self) -> Vec<StreamStatus> {
        self.app.streams()
    }

    fn operation(&self) -> &dyn onecast_control::port::Operation {
        self.app.operation()
    }

    fn conference(&self) -> &dyn onecast_control::port::Conference {
        self.app.conference()
    }

    fn shards(&self) -> Vec<ShardReading> {
        self.app.shards()
    }

    fn admission(&self) -> AdmissionCounts {
        self.app.admission()
    }
}
