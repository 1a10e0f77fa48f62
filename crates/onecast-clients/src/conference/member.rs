//! A member of a room: joins, answers the server's offers, and counts what the other members send.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use webrtc::media_stream::track_remote::TrackRemote;

use super::http_client::HttpClient;
use super::messages::{OfferMessage, shown};
use super::negotiation::Negotiation;
use super::received::{self, ReceivedTrack, ReceivedTracks};
use super::sdp_fixes;
use super::session::{self, JoinedRoom, SignallingSession};
use super::web_socket::WebSocket;
use crate::load::layers::AnsweredLayers;
use crate::peer::{Peer, PeerConfig, PeerError, in_library};
use crate::publish::{self, Sending};
use crate::source::Source;
use crate::trust::Trust;
use crate::watch::lock;
use onecast_rtc::rtp::Kind;
use onecast_udp::clock;

/// How a member receives the server's offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalling {
    /// Requests that the server holds until it has an offer.
    LongPoll,
    /// A request at this interval.
    Poll(Duration),
    /// A WebSocket.
    Socket,
}

/// Configuration of a member.
pub struct MemberConfig {
    /// The server, such as `http://127.0.0.1:8080`.
    pub to: String,
    /// The room.
    pub room: String,
    /// Its display name.
    pub name: Option<String>,
    /// How many videos it wants; `None` for the server's default.
    pub last_n: Option<u32>,
    /// How it receives offers.
    pub signalling: Signalling,
    /// What it sends; may be empty.
    pub sources: Vec<Box<dyn Source>>,
    /// Bearer token.
    pub token: Option<String>,
    /// Trusted certificates.
    pub trust: Trust,
    /// Retry while the server is busy.
    pub retries_when_busy: bool,
    /// Called for every event.
    pub on_event: OnEvent,
}

/// Callback for events.
pub type OnEvent = Arc<dyn Fn(MemberEvent) + Send + Sync>;

/// An event of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberEvent {
    /// The server is busy; the member retries.
    Busy {
        /// The server's explanation.
        why: String,
        /// Time until the retry.
        wait: Duration,
    },
    /// It has joined, and media flows.
    Connected {
        /// The first characters of its secret peer id.
        peer: String,
        /// Its number.
        id: u64,
    },
    /// The server sent an offer.
    Offered {
        /// The number of the offer.
        number: u64,
        /// Tracks in it.
        tracks: usize,
    },
    /// The offer was answered.
    Answered {
        /// Its number.
        number: u64,
    },
    /// The server answered the member's own offer.
    Accepted,
    /// A track started.
    Track {
        /// The sending member.
        member: u64,
        /// `audio` or `video`.
        kind: String,
        /// Its media line.
        mid: String,
    },
    /// Another member joined. Only over WebSockets, like [`Left`](Self::Left).
    Joined {
        /// Its number.
        member: u64,
        /// Its name.
        name: Option<String>,
    },
    /// Another member left.
    Left {
        /// Its number.
        member: u64,
    },
    /// The WebSocket broke; the member opens another one.
    SocketBroken,
    /// A new WebSocket replaced the broken one.
    Resumed,
}

/// What a member sent and received.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MemberReport {
    /// Its number.
    pub id: u64,
    /// Offers of the server that it answered.
    pub offers_answered: u64,
    /// RTP packets that it sent.
    pub sent_packets: u64,
    /// Their payload, bytes.
    pub sent_bytes: u64,
    /// Keyframe requests that it received.
    pub keyframe_requests: u64,
    /// Tracks of the other members.
    pub tracks: Vec<ReceivedTrack>,
}

/// A member of a room.
pub struct Member {
    id: u64,
    peer_id: String,
    http: HttpClient,
    peer: Arc<Peer>,
    received: Arc<Mutex<ReceivedTracks>>,
    negotiation: Arc<Mutex<Negotiation>>,
    wanted: Arc<Notify>,
    sending: Sending,
    session: JoinHandle<PeerError>,
}

impl Member {
    /// Joins, and sends as soon as media can flow.
    ///
    /// # Errors
    /// When the server refuses, or no connection is established.
    pub async fn join(config: MemberConfig) -> Result<Member, PeerError> {
        let http = HttpClient::new(&config.to, config.token.as_deref(), &config.trust)?;
        let (received, on_event) = (Arc::<Mutex<ReceivedTracks>>::default(), config.on_event);
        let mut peer = peer(&config.to, config.trust, received.clone(), on_event.clone()).await?;
        let attached = publish::attach(&peer, config.sources).await?;
        if attached.is_empty() {
            listen(&peer).await?;
        }
        let offer = peer.offer().await?;
        let offer_message = OfferMessage {
            sdp: &offer,
            room: Some(&config.room),
            name: config.name.as_deref(),
            last_n: config.last_n,
            ..OfferMessage::default()
        };
        let on_busy = config.retries_when_busy.then_some(&*on_event);
        let JoinedRoom { joined, socket } =
            session::join_room(&http, config.signalling, offer_message, on_busy).await?;
        if let Err(error) = connect(&mut peer, offer, joined.sdp).await {
            http.leave(&joined.peer_id).await;
            return Err(error);
        }
        let session = SignallingSession::new(http, peer, joined.peer_id, received, on_event);
        Ok(Member::of(
            joined.id,
            session,
            publish::start(attached, &AnsweredLayers::default()),
            config.signalling,
            socket,
        ))
    }

    /// Starts the signalling of a member that has joined.
    fn of(
        id: u64,
        session: SignallingSession,
        sending: Sending,
        signalling: Signalling,
        socket: Option<WebSocket>,
    ) -> Member {
        (session.on_event)(MemberEvent::Connected {
            peer: shown(&session.peer_id),
            id,
        });
        Member {
            id,
            peer_id: session.peer_id.clone(),
            http: session.http.clone(),
            peer: session.peer.clone(),
            received: session.received.clone(),
            negotiation: session.negotiation.clone(),
            wanted: session.wanted.clone(),
            sending,
            session: tokio::spawn(session.run(signalling, socket)),
        }
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Renegotiates its own lines, as soon as no offer of the server is pending.
    pub fn offer_again(&self) {
        self.wanted.notify_one();
    }

    /// Restarts ICE with the next offer, from the addresses at that time. Media continues meanwhile.
    pub fn restart_ice(&self) {
        lock(&self.negotiation).want_restart();
        self.wanted.notify_one();
    }

    /// What it sent and received so far.
    pub fn report(&self) -> MemberReport {
        self.told(lock(&self.received).report())
    }

    /// Returns the reason when it is no longer in the room.
    pub async fn ended(&mut self) -> PeerError {
        (&mut self.session).await.unwrap_or(PeerError::Lost)
    }

    /// Leaves the room.
    pub async fn leave(self) -> MemberReport {
        self.sending.stop();
        self.session.abort();
        self.http.leave(&self.peer_id).await;
        self.peer.close_shared().await;
        let tracks = lock(&self.received).finish();
        self.told(tracks)
    }

    /// Disappears without notice, as a killed process does.
    pub async fn vanish(self) {
        self.sending.stop();
        self.session.abort();
        self.peer.close_shared().await;
    }

    fn told(&self, tracks: Vec<ReceivedTrack>) -> MemberReport {
        let counts = &self.sending.counts;
        MemberReport {
            id: self.id,
            offers_answered: lock(&self.negotiation).answers(),
            sent_packets: counts.packets.load(Ordering::Relaxed),
            sent_bytes: counts.bytes.load(Ordering::Relaxed),
            keyframe_requests: counts.keyframe_requests.load(Ordering::Relaxed),
            tracks,
        }
    }
}

/// The peer of a member, which counts what arrives.
async fn peer(
    to: &str,
    trust: Trust,
    received: Arc<Mutex<ReceivedTracks>>,
    on_event: OnEvent,
) -> Result<Peer, PeerError> {
    let config = PeerConfig {
        member: true,
        trust,
        ..PeerConfig::towards(to, received::CODECS.to_vec())
    };
    Peer::new(config, move |track| {
        tokio::spawn(receive(track, received.clone(), on_event.clone()));
    })
    .await
}

async fn connect(peer: &mut Peer, offer: String, answer: String) -> Result<(), PeerError> {
    let candidates = sdp_fixes::skipped_candidates(&answer);
    peer.take_answer(offer, answer).await?;
    for candidate in candidates {
        let candidate = RTCIceCandidateInit {
            candidate,
            sdp_mline_index: Some(0),
            ..RTCIceCandidateInit::default()
        };
        peer.connection().add_ice_candidate(candidate).await?;
    }
    peer.connected().await
}

async fn receive(track: Arc<dyn TrackRemote>, received: Arc<Mutex<ReceivedTracks>>, on_event: OnEvent) {
    let (stream, kind) = (track.stream_id().await, track.kind().await.to_string());
    let about = lock(&received).opened(clock::now(), &stream, &kind);
    on_event(MemberEvent::Track {
        member: about.id,
        kind,
        mid: about.mid,
    });
    received::count(track, stream, received).await;
}

/// Adds lines to receive on: an offer needs at least one.
async fn listen(peer: &Peer) -> Result<(), PeerError> {
    for kind in [Kind::Audio, Kind::Video] {
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            streams: vec![],
            send_encodings: vec![],
        };
        peer.connection()
            .add_transceiver_from_kind(in_library(kind), Some(init))
            .await?;
    }
    Ok(())
}
