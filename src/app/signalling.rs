//! Publishing and watching. SDP is read before the control plane is asked, and written afterwards: neither needs its lock.

use std::net::SocketAddr;
use std::sync::Arc;

use onecast_control::admission::Caller;
use onecast_control::ice_session::entity_tag;
use onecast_control::layers::{LayerChoice, ViewerLayer};
use onecast_control::port::{
    Accepted, Conference, Operation, PasteRights, PasteRole, Patch, Patched, Protocol, Request, Service, SessionGuard,
    ShardReading, StreamStatus,
};
use onecast_control::registry::Purpose;
use onecast_control::whep_events::{EventSet, EventStreamId, NewEvents};
use onecast_control::{Control, Join, Now, ParsedOffer, PastedOffer, Refusal};
use onecast_engine::media::StreamTracks;
use onecast_metrics::AdmissionCounts;
use onecast_rtc::rtp::{Codec, Ssrc};
use onecast_rtc::sdp::{
    Agreement, AnswerParams, CounterAnswer, CounterOffer, Fragment, FragmentParams, Negotiated, Offer, Role, SdpError,
    TrackSsrcs,
};
use onecast_rtc::{IceCredentials, SessionId};
use tracing::debug;

use super::App;
use super::random::{credentials, random, sdp_session_id};

/// A call of the control plane that decides about an offer.
type Decide = fn(&mut Control, Now, Join<'_>, Result<ParsedOffer, SdpError>) -> Result<Arc<StreamTracks>, Refusal>;

/// A viewer before the SSRCs that it will be sent are known.
const VIEWER: Role = Role::Viewer(TrackSsrcs {
    video: Ssrc(0),
    video_rtx: Ssrc(0),
    audio: Ssrc(0),
});

impl Service for App {
    fn check_join(&self, client: SocketAddr, purpose: Purpose) -> Result<(), Refusal> {
        let address = client.ip();
        let caller = Caller { purpose, address };
        self.plane().control(|control, now| control.check_join(now, caller))
    }

    fn publish(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        self.join(request, Role::Publisher, Control::handle_publish)
    }

    fn watch(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        self.join(request, VIEWER, Control::handle_watch)
    }

    fn paste(&self, request: Request<'_>, rights: PasteRights<'_>) -> Result<(Accepted, PasteRole), Refusal> {
        let offer = Offer::parse(request.offer);
        let [publisher, viewer] = [Role::Publisher, VIEWER].map(|role| self.negotiate(&offer, role));
        let pasted = offer.as_ref().map_err(Clone::clone).map(|offer| PastedOffer {
            can_send: offer.can_send(),
            can_receive: offer.can_receive(),
            as_publisher: negotiated(&publisher),
            as_viewer: negotiated(&viewer),
            remote: offer.remote().clone(),
        });
        let (id, local) = new_session();
        let join = join_of(&request, id, &local);
        let (tracks, role) = self
            .plane()
            .control(|control, now| control.handle_paste(now, join, pasted, rights))?;
        let (sdp_role, agreement) = match role {
            PasteRole::Broadcaster => (Role::Publisher, publisher),
            PasteRole::Viewer => (Role::Viewer(ssrcs(&tracks)), viewer),
        };
        let answer = self.write(&request, &local, agreement, sdp_role);
        Ok((accepted(id, &local, answer), role))
    }

    fn counter_offer(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        let (id, local) = new_session();
        let join = join_of(&request, id, &local);
        let offered = self
            .plane()
            .control(|control, now| control.handle_counter_offer(now, join))?;
        let live: Vec<Codec> = offered.codecs.into_iter().flatten().collect();
        let offer = self.with_params(&request, &local, |params| {
            let offer = CounterOffer {
                params,
                ssrcs: ssrcs(&offered.tracks),
                live: &live,
            };
            offer.write()
        });
        debug!(stream = %request.stream, client = %request.client, "sent an offer to a viewer");
        Ok(Accepted {
            may_choose_layers: self.accepts_layers(),
            ..accepted(id, &local, offer)
        })
    }

    fn take_answer(&self, session: SessionId, answer: &str) -> Result<(), Refusal> {
        let answer = CounterAnswer::parse(answer);
        self.plane()
            .control(|control, now| control.handle_viewer_answer(now, session, answer))
    }

    fn open_events(&self, session: SessionId, wanted: EventSet) -> Result<EventStreamId, Refusal> {
        let new = NewEvents {
            id: EventStreamId::from_random(random()),
            jitter: u32::from_be_bytes(random()),
        };
        let opened = self
            .plane()
            .control(|control, now| control.handle_open_events(now, session, wanted, new));
        opened.map(|()| new.id)
    }

    fn close_events(&self, events: EventStreamId) -> Result<(), Refusal> {
        self.plane().control(|control, _| control.handle_close_events(events))
    }

    fn choose_layer(&self, session: SessionId, choice: &LayerChoice) -> Result<(), Refusal> {
        self.plane()
            .control(|control, now| control.handle_choose_layer(now, session, choice))
    }

    fn viewer_layer(&self, session: SessionId) -> Result<ViewerLayer, Refusal> {
        self.plane().control(|control, _| control.viewer_layer(session))
    }

    fn patch(&self, patch: Patch<'_>) -> Result<Patched, Refusal> {
        let fragment = Fragment::parse(patch.fragment);
        let fresh = credentials();
        let session = (patch.session, patch.protocol);
        let restart = self.plane().control(|control, now| {
            let fragment = fragment.as_ref().map_err(Clone::clone);
            control.handle_patch(now, session, patch.condition, fragment, &fresh)
        })?;
        if restart.is_none() {
            return Ok(Patched::Trickled);
        }
        debug!(client = %patch.client, "ICE restart answered");
        let params = FragmentParams {
            ice: &fresh,
            candidates: &self.candidates(patch.local, patch.client),
            line: fragment.as_ref().ok().and_then(|fragment| fragment.line.as_ref()),
        };
        Ok(Patched::Restarted {
            tag: entity_tag(&fresh).into(),
            fragment: params.write(),
        })
    }

    fn close(&self, session: SessionId, protocol: Protocol) -> Result<(), Refusal> {
        self.plane()
            .control(|control, now| control.handle_close(now, session, protocol))
    }

    fn exists(&self, session: SessionId, protocol: Protocol) -> bool {
        self.plane().control(|control, _| control.exists(session, protocol))
    }

    fn guard(&self, session: SessionId) -> Result<Option<SessionGuard>, Refusal> {
        self.plane().control(|control, _| control.guard(session))
    }

    fn streams(&self) -> Vec<StreamStatus> {
        self.plane().control(|control, now| control.streams(now))
    }

    fn shards(&self) -> Vec<ShardReading> {
        self.shard_readings()
    }

    fn operation(&self) -> &dyn Operation {
        self
    }

    fn conference(&self) -> &dyn Conference {
        self
    }

    fn admission(&self) -> AdmissionCounts {
        self.plane().control(|control, _| control.admission())
    }
}

impl App {
    fn join(&self, request: Request<'_>, role: Role, decide: Decide) -> Result<Accepted, Refusal> {
        let offer = Offer::parse(request.offer);
        let agreement = self.negotiate(&offer, role);
        let parsed = offer.as_ref().map_err(Clone::clone).map(|offer| ParsedOffer {
            negotiated: negotiated(&agreement),
            video_line: video_line(&agreement),
            remote: offer.remote().clone(),
        });
        let (id, local) = new_session();
        let join = join_of(&request, id, &local);
        let tracks = self
            .plane()
            .control(|control, now| decide(control, now, join, parsed))?;
        let role = match role {
            Role::Publisher => Role::Publisher,
            Role::Viewer(_) => Role::Viewer(ssrcs(&tracks)),
        };
        let answer = self.write(&request, &local, agreement, role);
        debug!(stream = %request.stream, client = %request.client, "offer answered");
        Ok(Accepted {
            may_choose_layers: self.accepts_layers() && role != Role::Publisher,
            ..accepted(id, &local, answer)
        })
    }

    /// What an offer and the server have in common. Once the client has a place, nothing about its offer can fail any more.
    fn negotiate<'a>(&self, offer: &'a Result<Offer, SdpError>, role: Role) -> Result<Agreement<'a>, SdpError> {
        let agreement = offer.as_ref().map_err(Clone::clone)?.negotiate(role)?;
        Ok(match role {
            Role::Publisher if self.accepts_layers() => agreement.with_layers(),
            Role::Publisher | Role::Viewer(_) => agreement,
        })
    }

    /// The answer to an offer that the control plane has taken, which it does only if there is an agreement.
    fn write(
        &self,
        request: &Request<'_>,
        local: &IceCredentials,
        agreement: Result<Agreement<'_>, SdpError>,
        role: Role,
    ) -> String {
        let agreement = agreement.expect("the control plane refuses an offer without agreement");
        self.with_params(request, local, |params| agreement.write(role, params))
    }

    /// Our side of a session's description.
    fn with_params<T>(
        &self,
        request: &Request<'_>,
        local: &IceCredentials,
        write: impl FnOnce(&AnswerParams<'_>) -> T,
    ) -> T {
        write(&AnswerParams {
            ice: local,
            fingerprint: self.fingerprint(),
            candidates: &self.candidates(request.local, request.client),
            session_id: sdp_session_id(),
            stream: request.stream.as_str(),
        })
    }
}

/// Id and ICE credentials of a session.
pub(super) fn new_session() -> (SessionId, IceCredentials) {
    (SessionId::from_random(random()), credentials())
}

pub(super) fn join_of<'a>(request: &Request<'a>, id: SessionId, local: &'a IceCredentials) -> Join<'a> {
    Join {
        id,
        local,
        stream: request.stream,
        client: request.client,
        grant: request.grant,
    }
}

fn negotiated(agreement: &Result<Agreement<'_>, SdpError>) -> Result<Negotiated, SdpError> {
    agreement.as_ref().map(Agreement::negotiated).map_err(Clone::clone)
}

fn video_line(agreement: &Result<Agreement<'_>, SdpError>) -> Option<u8> {
    let line = agreement.as_ref().ok()?.video_line()?;
    line.try_into().ok()
}

fn accepted(session: SessionId, local: &IceCredentials, answer: String) -> Accepted {
    Accepted {
        session,
        tag: entity_tag(local).into(),
        answer,
        may_choose_layers: false,
    }
}

fn ssrcs(tracks: &StreamTracks) -> TrackSsrcs {
    TrackSsrcs {
        video: tracks.video.ssrc(),
        video_rtx: tracks.video.rtx_ssrc(),
        audio: tracks.audio.ssrc(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use onecast_control::{Grant, StreamName};

    use super::*;
    use crate::app::AppConfig;

    const PUBLISH: &str = include_str!("../../tests/data/offers/chromium156-publish.sdp");
    const WATCH: &str = include_str!("../../tests/data/offers/chromium156-watch.sdp");

    fn paste(app: &App, offer: &str) -> Result<(String, PasteRole), Refusal> {
        let (stream, grant) = (StreamName::default(), Grant::default());
        let request = Request {
            stream: &stream,
            offer,
            client: ([127, 0, 0, 1], 1).into(),
            local: ([127, 0, 0, 1], 2).into(),
            grant: &grant,
        };
        let rights = PasteRights {
            publish: Some(&grant),
            watch: Some(&grant),
        };
        let (accepted, role) = app.paste(request, rights)?;
        assert!(app.exists(accepted.session, protocol(role)));
        Ok((accepted.answer, role))
    }

    fn protocol(role: PasteRole) -> Protocol {
        match role {
            PasteRole::Broadcaster => Protocol::Whip,
            PasteRole::Viewer => Protocol::Whep,
        }
    }

    #[tokio::test]
    async fn a_pasted_offer_is_answered_for_the_role_that_its_client_gets() {
        let app = App::start(AppConfig::on_loopback(1)).unwrap();
        let both = PUBLISH.replace("a=sendonly", "a=sendrecv");
        let count = |answer: &str, line: &str| answer.lines().filter(|known| known.starts_with(line)).count();
        for (offer, role, direction) in [
            (&*both, PasteRole::Broadcaster, "a=recvonly"),
            (&*both, PasteRole::Viewer, "a=sendonly"),
            (WATCH, PasteRole::Viewer, "a=sendonly"),
        ] {
            let (answer, given) = paste(&app, offer).unwrap();
            assert_eq!((given, count(&answer, direction)), (role, 2), "{answer}");
            // Only a viewer learns what it will be sent: not the placeholders of a stream that is not known yet.
            assert_eq!(count(&answer, "a=ssrc:") > 0, role == PasteRole::Viewer, "{answer}");
            assert_eq!(count(&answer, "a=ssrc:0 "), 0, "{answer}");
        }
        assert!(matches!(paste(&app, "v=1"), Err(Refusal::Sdp(_))));
        assert!(app.shutdown(Duration::from_secs(10)).await);
    }
}
