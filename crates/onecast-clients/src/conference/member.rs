//! A member of a room: joins, answers the server's offers as they come, and counts what everybody else sends.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use webrtc::media_stream::track_remote::TrackRemote;

use super::course::Course;
use super::door::Door;
use super::lines;
use super::received::{self, Received, ReceivedTrack};
use super::socket::Socket;
use super::talk::{self, Entered, Talk};
use super::words::{OfferSaid, shown};
use crate::peer::{Peer, PeerConfig, PeerError, in_library};
use crate::publish::{self, Sending};
use crate::source::Source;
use crate::trust::Trust;
use crate::watch::lock;
use onecast_rtc::rtp::Kind;
use onecast_udp::clock;

/// How a member hears of the server's offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalling {
    /// A request that the server keeps until there is something to say.
    LongPoll,
    /// A request every so often.
    Poll(Duration),
    /// A WebSocket.
    Socket,
}

/// What a member is to be.
pub struct MemberConfig {
    /// The server, such as `http://127.0.0.1:8080`.
    pub to: String,
    /// The room.
    pub room: String,
    /// What it calls itself.
    pub name: Option<String>,
    /// How many videos it wants; `None` for the server's default.
    pub last_n: Option<u32>,
    /// How it hears of offers.
    pub signalling: Signalling,
    /// What it sends; nothing is allowed.
    pub sources: Vec<Box<dyn Source>>,
    /// Its right to be there.
    pub token: Option<String>,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// Whether a busy server is asked again.
    pub patient: bool,
    /// Hears of everything that happens.
    pub on_event: OnEvent,
}

/// Somebody who hears of everything that happens to a member.
pub type OnEvent = Arc<dyn Fn(MemberEvent) + Send + Sync>;

/// Something that happened to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberEvent {
    /// The server is busy, and is asked again after a while.
    Busy {
        /// What it says.
        why: String,
        /// Until it is asked again.
        wait: Duration,
    },
    /// It is in the room, and media flows.
    Connected {
        /// The beginning of its secret name.
        peer: String,
        /// Its number.
        id: u64,
    },
    /// The server has offered.
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
    /// An offer of our own was answered.
    Accepted,
    /// A track has begun.
    Track {
        /// Whose it is.
        member: u64,
        /// `audio` or `video`.
        kind: String,
        /// Its line.
        mid: String,
    },
    /// Somebody has come. Told over WebSockets only, as is [`Left`](Self::Left).
    Joined {
        /// Who.
        member: u64,
        /// Its name.
        name: Option<String>,
    },
    /// Somebody has gone.
    Left {
        /// Who.
        member: u64,
    },
    /// The socket is broken, and another is tried.
    SocketBroken,
    /// Another socket has taken its place.
    Resumed,
}

/// What a member did and got.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MemberReport {
    /// Its number.
    pub id: u64,
    /// Offers of the server's that it has answered.
    pub offers_answered: u64,
    /// RTP packets that it has sent.
    pub sent_packets: u64,
    /// Their payload, bytes.
    pub sent_bytes: u64,
    /// Requests for a keyframe that came.
    pub keyframe_requests: u64,
    /// What came of everybody else's tracks.
    pub tracks: Vec<ReceivedTrack>,
}

/// Somebody in a room.
pub struct Member {
    id: u64,
    peer_id: String,
    door: Door,
    peer: Arc<Peer>,
    received: Arc<Mutex<Received>>,
    course: Arc<Mutex<Course>>,
    wanted: Arc<Notify>,
    sending: Sending,
    talk: JoinHandle<PeerError>,
}

impl Member {
    /// Joins, and begins to send when media can flow.
    ///
    /// # Errors
    /// When the server refuses, or no connection comes about.
    pub async fn join(config: MemberConfig) -> Result<Member, PeerError> {
        let door = Door::new(&config.to, config.token.as_deref(), &config.trust)?;
        let (received, on_event) = (Arc::<Mutex<Received>>::default(), config.on_event);
        let mut peer = peer(&config.to, config.trust, received.clone(), on_event.clone()).await?;
        let attached = publish::attach(&peer, config.sources).await?;
        if attached.is_empty() {
            listen(&peer).await?;
        }
        let offer = peer.offer().await?;
        let said = OfferSaid {
            sdp: &offer,
            room: Some(&config.room),
            name: config.name.as_deref(),
            last_n: config.last_n,
            ..OfferSaid::default()
        };
        let on_busy = config.patient.then_some(&*on_event);
        let Entered { joined, socket } = talk::enter(&door, config.signalling, said, on_busy).await?;
        if let Err(error) = connect(&mut peer, offer, joined.sdp).await {
            door.leave(&joined.peer_id).await;
            return Err(error);
        }
        let talk = Talk::new(door, peer, joined.peer_id, received, on_event);
        Ok(Member::of(
            joined.id,
            talk,
            publish::start(attached),
            config.signalling,
            socket,
        ))
    }

    /// Media flows: the conversation begins.
    fn of(id: u64, talk: Talk, sending: Sending, signalling: Signalling, socket: Option<Socket>) -> Member {
        (talk.on_event)(MemberEvent::Connected {
            peer: shown(&talk.peer_id),
            id,
        });
        Member {
            id,
            peer_id: talk.peer_id.clone(),
            door: talk.door.clone(),
            peer: talk.peer.clone(),
            received: talk.received.clone(),
            course: talk.course.clone(),
            wanted: talk.wanted.clone(),
            sending,
            talk: tokio::spawn(talk.follow(signalling, socket)),
        }
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Offers its own lines anew, when no offer of the server's waits.
    pub fn offer_again(&self) {
        self.wanted.notify_one();
    }

    /// Begins ICE anew with the next offer, from whatever addresses there are then. Media goes on meanwhile.
    pub fn restart_ice(&self) {
        lock(&self.course).want_restart();
        self.wanted.notify_one();
    }

    /// What it did and got so far.
    pub fn report(&self) -> MemberReport {
        self.told(lock(&self.received).report())
    }

    /// Returns when it is in the room no more, with the reason.
    pub async fn ended(&mut self) -> PeerError {
        (&mut self.talk).await.unwrap_or(PeerError::Lost)
    }

    /// Leaves the room.
    pub async fn leave(self) -> MemberReport {
        self.sending.stop();
        self.talk.abort();
        self.door.leave(&self.peer_id).await;
        self.peer.hang_up().await;
        let tracks = lock(&self.received).finish();
        self.told(tracks)
    }

    /// Is gone without a word, as when a process is killed.
    pub async fn vanish(self) {
        self.sending.stop();
        self.talk.abort();
        self.peer.hang_up().await;
    }

    fn told(&self, tracks: Vec<ReceivedTrack>) -> MemberReport {
        let counts = &self.sending.counts;
        MemberReport {
            id: self.id,
            offers_answered: lock(&self.course).answers(),
            sent_packets: counts.packets.load(Ordering::Relaxed),
            sent_bytes: counts.bytes.load(Ordering::Relaxed),
            keyframe_requests: counts.keyframe_requests.load(Ordering::Relaxed),
            tracks,
        }
    }
}

/// The peer of a member, which counts what comes.
async fn peer(to: &str, trust: Trust, received: Arc<Mutex<Received>>, on_event: OnEvent) -> Result<Peer, PeerError> {
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
    let candidates = lines::skipped_candidates(&answer);
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

async fn receive(track: Arc<dyn TrackRemote>, received: Arc<Mutex<Received>>, on_event: OnEvent) {
    let (stream, kind) = (track.stream_id().await, track.kind().await.to_string());
    let about = lock(&received).opened(clock::now(), &stream, &kind);
    on_event(MemberEvent::Track {
        member: about.id,
        kind,
        mid: about.mid,
    });
    received::count(track, stream, received).await;
}

/// Lines on which others may be heard and seen: an offer has at least one.
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
