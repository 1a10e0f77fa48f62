//! From an offer to a session.
//!
//! Everything that may refuse a client is asked before anything changes, so a join happens as a whole or not at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use onecast_engine::fanout::{Command, Direction, Plan, Session, ViewerLine};
use onecast_engine::media::StreamTracks;
use onecast_rtc::rtp::Codec;
use onecast_rtc::sdp::{CounterAnswer, CounterOffer, Negotiated, SdpError};
use onecast_rtc::{IceCredentials, RemoteTransport, SessionId};

use super::{Control, Now};
use crate::admission::Caller;
use crate::codecs;
use crate::port::{PasteRights, PasteRole};
use crate::refusal::Refusal;
use crate::registry::{Applicant, Purpose, Via};
use crate::{Grant, StreamName};

/// A client that wants to join, and the random numbers of its session.
#[derive(Debug, Clone, Copy)]
pub struct Join<'a> {
    /// Id of the session that it will have.
    pub id: SessionId,
    /// Our ICE credentials in that session.
    pub local: &'a IceCredentials,
    /// The stream, or the room.
    pub stream: &'a StreamName,
    /// The other end of the HTTP connection.
    pub client: SocketAddr,
    /// What permits it.
    pub grant: &'a Grant,
}

/// An offer that has been parsed. Whether it can be answered matters only to a client that has a place.
#[derive(Debug)]
pub struct ParsedOffer {
    /// The lines on which media will flow, or why the offer cannot be answered.
    pub negotiated: Result<Negotiated, SdpError>,
    /// Index of the m-line on which video will flow.
    pub video_line: Option<u8>,
    /// The client's side of the connection.
    pub remote: RemoteTransport,
}

/// The same where the client may become a publisher or a viewer.
#[derive(Debug)]
pub struct PastedOffer {
    /// It has a line that can send.
    pub can_send: bool,
    /// It has a line that can receive.
    pub can_receive: bool,
    /// What it comes to if the client publishes.
    pub as_publisher: Result<Negotiated, SdpError>,
    /// What it comes to if the client watches.
    pub as_viewer: Result<Negotiated, SdpError>,
    /// The client's side of the connection.
    pub remote: RemoteTransport,
}

/// A viewer that was sent an offer of the server.
#[derive(Debug)]
pub struct CounterOffered {
    /// The tracks in the offer.
    pub tracks: Arc<StreamTracks>,
    /// What the stream is sent in at this moment: audio, video.
    pub codecs: [Option<Codec>; 2],
}

/// How a session comes about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) purpose: Purpose,
    pub(super) via: Via,
    pub(super) timeout: Duration,
}

impl Route {
    const WHIP: Route = Route {
        purpose: Purpose::Publish,
        via: Via::Whip,
        timeout: Control::CONNECT_TIMEOUT,
    };
    const WHEP: Route = Route {
        purpose: Purpose::Watch,
        via: Via::Whep,
        timeout: Control::CONNECT_TIMEOUT,
    };
}

impl Control {
    /// How long a client may take from our answer to its finished handshake.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
    /// The same where a person carries the answer from one window to another.
    pub const PASTE_TIMEOUT: Duration = Duration::from_secs(300);

    /// Whether a client that has not sent its offer yet may send it. It takes no token.
    ///
    /// # Errors
    /// When it would be refused whatever it offers.
    pub fn check_join(&mut self, now: Now, caller: Caller) -> Result<(), Refusal> {
        self.lifecycle.check_open()?;
        self.registry.check_admission(now.instant, caller)
    }

    /// An offer of a publisher. Gives the tracks of its stream.
    ///
    /// A bad offer is refused only after it has taken its admission token, so that it costs its sender as much as a good one.
    ///
    /// # Errors
    /// When the offer cannot be used, the stream has a publisher, or a limit is reached; then nothing has changed.
    pub fn handle_publish(
        &mut self,
        now: Now,
        join: Join<'_>,
        offer: Result<ParsedOffer, SdpError>,
    ) -> Result<Arc<StreamTracks>, Refusal> {
        self.admit_and_join(now, join, Route::WHIP, offer)
    }

    /// An offer of a viewer. Gives the tracks that it will be sent.
    ///
    /// # Errors
    /// When the offer cannot be used or a limit is reached; then nothing has changed.
    pub fn handle_watch(
        &mut self,
        now: Now,
        join: Join<'_>,
        offer: Result<ParsedOffer, SdpError>,
    ) -> Result<Arc<StreamTracks>, Refusal> {
        self.admit_and_join(now, join, Route::WHEP, offer)
    }

    /// A pasted offer: its direction, the client's rights and the stream's publisher decide what the client becomes. The grant of `join`
    /// counts for nothing.
    ///
    /// # Errors
    /// As [`handle_publish`](Self::handle_publish) and [`handle_watch`](Self::handle_watch), and when the rights do not permit it.
    pub fn handle_paste(
        &mut self,
        now: Now,
        join: Join<'_>,
        offer: Result<PastedOffer, SdpError>,
        rights: PasteRights<'_>,
    ) -> Result<(Arc<StreamTracks>, PasteRole), Refusal> {
        let may_publish = rights.publish.is_some() && !self.registry.is_taken(join.stream);
        // The offer alone says whether the client wants to publish; admission comes before it, and takes the client for a publisher if
        // it could be one.
        let likely = if may_publish { Purpose::Publish } else { Purpose::Watch };
        self.take_token(now, join.client, likely)?;
        let offer = offer.map_err(Refusal::of_broadcast)?;
        let publishes = offer.can_send && (!offer.can_receive || may_publish);
        let (purpose, role, grant, negotiated) = if publishes {
            (
                Purpose::Publish,
                PasteRole::Broadcaster,
                rights.publish,
                offer.as_publisher,
            )
        } else {
            (Purpose::Watch, PasteRole::Viewer, rights.watch, offer.as_viewer)
        };
        let grant = grant.ok_or(Refusal::NotAllowed(purpose))?;
        let route = Route {
            purpose,
            via: Via::Paste,
            timeout: Control::PASTE_TIMEOUT,
        };
        let offer = ParsedOffer {
            negotiated,
            // A pasted session has no event stream.
            video_line: None,
            remote: offer.remote,
        };
        let tracks = self.join(now, Join { grant, ..join }, route, offer)?;
        Ok((tracks, role))
    }

    /// A viewer asks for an offer of the server. It has [`CONNECT_TIMEOUT`](Self::CONNECT_TIMEOUT) to answer it.
    ///
    /// # Errors
    /// When a limit is reached; then nothing has changed.
    pub fn handle_counter_offer(&mut self, now: Now, join: Join<'_>) -> Result<CounterOffered, Refusal> {
        self.take_token(now, join.client, Purpose::Watch)?;
        let (tracks, ()) = self.enter(now, join, Route::WHEP, |_| Ok(()))?;
        self.registry.set_offered(join.id, join.local.clone());
        Ok(CounterOffered {
            tracks,
            codecs: self.registry.codecs(join.stream),
        })
    }

    /// A viewer's answer to the offer of [`handle_counter_offer`](Self::handle_counter_offer).
    ///
    /// # Errors
    /// When there is no such session, it waits for no answer, or the answer cannot be used; then it waits for a better one.
    pub fn handle_viewer_answer(
        &mut self,
        now: Now,
        id: SessionId,
        answer: Result<CounterAnswer, SdpError>,
    ) -> Result<(), Refusal> {
        if self.registry.purpose(id) != Some(Purpose::Watch) {
            return Err(self.gone(id));
        }
        if !self.registry.awaits_answer(id) {
            return Err(Refusal::NoAnswerAwaited);
        }
        let CounterAnswer { negotiated, remote } = answer?;
        let stream = self.registry.stream_of(id).ok_or(Refusal::UnknownSession)?;
        codecs::check(&negotiated, self.registry.codecs(&stream))?;
        self.check_shards()?;
        let offered = self
            .registry
            .take_offered(now.instant, id, Control::CONNECT_TIMEOUT)
            .ok_or(Refusal::NoAnswerAwaited)?;
        let video_line = negotiated.video.as_ref().map(|_| CounterOffer::VIDEO_LINE);
        self.registry.set_video_line(id, video_line);
        let plan = self.watch(id, offered.tracks, &negotiated);
        let direction = Direction::ReceiveOnly;
        self.expect(Session::new(id, offered.local, remote, direction, plan, now.instant));
        Ok(())
    }

    /// Admission, before anything else is asked: the client takes a token.
    pub(super) fn take_token(&mut self, now: Now, client: SocketAddr, purpose: Purpose) -> Result<(), Refusal> {
        self.lifecycle.check_open()?;
        let address = client.ip();
        self.registry.admit(now.instant, Caller { purpose, address })
    }

    fn admit_and_join(
        &mut self,
        now: Now,
        join: Join<'_>,
        route: Route,
        offer: Result<ParsedOffer, SdpError>,
    ) -> Result<Arc<StreamTracks>, Refusal> {
        self.take_token(now, join.client, route.purpose)?;
        self.join(now, join, route, offer.map_err(Refusal::of_broadcast)?)
    }

    fn join(
        &mut self,
        now: Now,
        join: Join<'_>,
        route: Route,
        offer: ParsedOffer,
    ) -> Result<Arc<StreamTracks>, Refusal> {
        let ParsedOffer {
            negotiated,
            video_line,
            remote,
        } = offer;
        let (tracks, negotiated) = self.enter(now, join, route, |codecs| {
            let negotiated = negotiated.map_err(Refusal::of_broadcast)?;
            if route.purpose == Purpose::Watch {
                codecs::check(&negotiated, codecs)?;
            }
            Ok(negotiated)
        })?;
        let (direction, plan) = match route.purpose {
            Purpose::Publish => (Direction::SendOnly, Plan::publish(tracks.clone(), negotiated)),
            Purpose::Watch | Purpose::Participate => {
                self.registry.set_video_line(join.id, video_line);
                let plan = self.watch(join.id, tracks.clone(), &negotiated);
                (Direction::ReceiveOnly, plan)
            }
        };
        let local = join.local.clone();
        self.expect(Session::new(join.id, local, remote, direction, plan, now.instant));
        Ok(tracks)
    }

    /// Gives a client its place, or changes nothing. `check` decides about its offer, given the codecs of the stream: after the search for a
    /// place, because a client without one need not change its offer. What `check` gives is returned with the tracks.
    pub(super) fn enter<T>(
        &mut self,
        now: Now,
        join: Join<'_>,
        route: Route,
        check: impl FnOnce([Option<Codec>; 2]) -> Result<T, Refusal>,
    ) -> Result<(Arc<StreamTracks>, T), Refusal> {
        let applicant = Applicant {
            id: join.id,
            stream: join.stream,
            purpose: route.purpose,
            via: route.via,
            client: join.client,
            grant: join.grant,
            timeout: route.timeout,
        };
        let slot = self.registry.find_slot(now.instant, &applicant)?;
        let checked = check(self.registry.codecs(join.stream))?;
        self.check_shards()?;
        // Nothing below can fail.
        if let Some((displaced, why)) = slot.displaces() {
            self.end(now, displaced, why);
        }
        Ok((self.registry.enter(now.instant, &applicant, &slot), checked))
    }

    /// The client of this session will now send STUN checks, to any shard.
    pub(super) fn expect(&mut self, session: Session) -> Arc<Session> {
        let session = Arc::new(session);
        self.registry.set_session(session.clone());
        self.command(Command::Expect(session.clone()));
        session
    }

    /// The first plan of a viewer.
    fn watch(&mut self, id: SessionId, tracks: Arc<StreamTracks>, negotiated: &Negotiated) -> Plan {
        let audio = negotiated.audio.as_ref().map(ViewerLine::new);
        let video = negotiated.video.as_ref().map(ViewerLine::new);
        let limit = self.registry.layer_limit(id);
        Plan::watch(tracks, audio, video).with_limit(limit)
    }

    /// For a session that does not exist.
    pub(super) fn gone(&self, id: SessionId) -> Refusal {
        Refusal::gone(self.registry.why_ended(id))
    }
}
