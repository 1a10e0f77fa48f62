//! Viewers who want to be sent an offer: a session begins with ours, and the shards hear of it when its answer has come.

use super::*;
use crate::http::operation::Operation as _;
use onecast_rtc::rtp::Codec;
use onecast_rtc::sdp::{OwnAnswer, OwnOffer};

impl App {
    pub(super) fn offer(&self, request: &Request<'_>) -> Result<Accepted, Refusal> {
        self.knock(request.client, Purpose::Watch)?;
        let inner = &self.inner;
        let caller = Caller {
            purpose: Purpose::Watch,
            address: request.client.ip(),
        };
        let id = SessionId::from_random(random());
        let local = credentials();
        let terms = Terms {
            patience: PATIENCE,
            right: request.right.clone(),
        };
        let mut registry = lock(&inner.registry);
        let admitted = registry
            .admit(clock::now(), request.stream, caller, id, terms, || {
                u32::from_be_bytes(random())
            })
            .map_err(refusal)?;
        registry.offered(id, local.clone());
        let live: Vec<Codec> = registry.codecs(request.stream).into_iter().flatten().collect();
        drop(registry);
        let tracks = admitted.tracks;
        let params = AnswerParams {
            ice: &local,
            fingerprint: inner.certificate.fingerprint(),
            candidates: &self.candidates(request.local, request.client),
            session_id: u64::from_be_bytes(random()) >> 2,
            stream: request.stream.as_str(),
        };
        let offer = OwnOffer {
            params: &params,
            ssrcs: TrackSsrcs {
                video: tracks.video.ssrc(),
                video_rtx: tracks.video.rtx_ssrc(),
                audio: tracks.audio.ssrc(),
            },
            live: &live,
        };
        debug!(stream = %request.stream, client = %request.client, "offered to a viewer");
        Ok(Accepted {
            session: id,
            tag: entity_tag(&local).into(),
            answer: offer.write(),
        })
    }

    pub(super) fn answered(&self, id: SessionId, answer: &str) -> Result<(), Refusal> {
        if !self.exists(id, Protocol::Whep) {
            return Err(Refusal::gone(self.why_ended(id)));
        }
        let inner = &self.inner;
        if !lock(&inner.registry).awaits_answer(id) {
            return Err(Refusal::NoAnswerAwaited);
        }
        let answer = OwnAnswer::parse(answer).map_err(|error| {
            Refusal::Sdp(SdpRefusal {
                unusable: error.is_unusable(),
                detail: error.to_string(),
                hint: error.hint().map(str::to_owned),
                codecs: None,
            })
        })?;
        let stream = lock(&inner.registry).stream_of(id).ok_or(Refusal::UnknownSession)?;
        let live = lock(&inner.registry).codecs(&stream);
        codecs::check(&answer.negotiated, live)?;
        let now = clock::now();
        let offered = lock(&inner.registry).take_offered(now, id, PATIENCE);
        // Another answer may have come meanwhile.
        let offered = offered.ok_or(Refusal::NoAnswerAwaited)?;
        let negotiated = answer.negotiated;
        let line = |line: &Option<MediaLine>| line.as_ref().map(ViewerLine::new);
        let plan = Plan::watch(offered.tracks, line(&negotiated.audio), line(&negotiated.video));
        let session = Session::new(id, offered.local, answer.remote, Direction::ReceiveOnly, plan, now);
        inner.expect(id, Arc::new(session))
    }
}

impl Inner {
    /// Tells the shards of a session whose client will now send checks; unless it was taken over or ended while its answer was made.
    pub(super) fn expect(&self, id: SessionId, session: Arc<Session>) -> Result<(), Refusal> {
        if !lock(&self.registry).answered(id, session.clone()) {
            return Err(Refusal::gone(lock(&self.registry).why_ended(id)));
        }
        if self.broadcast(&Command::Expect(session.clone())) {
            return Ok(());
        }
        self.end_session(id, EndReason::Overloaded);
        Err(Refusal::Overloaded)
    }
}
