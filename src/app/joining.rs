//! From an offer to a session: the door, the place, the answer, and the word to the shards.

use super::*;

impl App {
    /// Whether a client may go on, before anything is done that costs.
    pub(super) fn knock(&self, client: SocketAddr, purpose: Purpose) -> Result<(), Refusal> {
        self.takes_clients()?;
        let address = client.ip();
        let knocked = lock(&self.inner.registry).knock(clock::now(), Caller { purpose, address });
        knocked.map_err(Refusal::Busy)
    }

    /// Whether it would be refused whatever it offers.
    pub(super) fn may_knock(&self, client: SocketAddr, purpose: Purpose) -> Result<(), Refusal> {
        self.takes_clients()?;
        let address = client.ip();
        let checked = lock(&self.inner.registry).check_door(clock::now(), Caller { purpose, address });
        checked.map_err(Refusal::Busy)
    }

    fn takes_clients(&self) -> Result<(), Refusal> {
        if self.inner.closing.load(Ordering::Acquire) {
            return Err(Refusal::ShuttingDown);
        }
        if lock(&self.inner.drain).is_some() {
            return Err(Refusal::Draining);
        }
        Ok(())
    }

    pub(super) fn join(
        &self,
        request: &Request<'_>,
        offer: &Offer,
        purpose: Purpose,
        patience: Duration,
    ) -> Result<Accepted, Refusal> {
        let inner = &self.inner;
        let now = clock::now();
        let address = request.client.ip();
        let id = SessionId::from_random(random());
        let right = request.right.clone();
        if purpose == Purpose::Publish && lock(&inner.registry).is_of_same_right(request.stream, &right) {
            self.try_answer(request, offer)?;
        }
        let terms = Terms { patience, right };
        let admitted = lock(&inner.registry)
            .admit(now, request.stream, Caller { purpose, address }, id, terms, || {
                u32::from_be_bytes(random())
            })
            .map_err(refusal)?;
        if let Some(displaced) = admitted.displaced {
            let why = if admitted.takes_over {
                EndReason::TakenOver
            } else {
                EndReason::MadeRoom
            };
            inner.end(displaced, why);
        }
        let local = credentials();
        let tracks = admitted.tracks;
        let role = match purpose {
            Purpose::Publish => Role::Publisher,
            Purpose::Watch | Purpose::Confer => Role::Viewer(TrackSsrcs {
                video: tracks.video.ssrc(),
                video_rtx: tracks.video.rtx_ssrc(),
                audio: tracks.audio.ssrc(),
            }),
        };
        let params = AnswerParams {
            ice: &local,
            fingerprint: inner.certificate.fingerprint(),
            candidates: &self.candidates(request.local, request.client),
            session_id: u64::from_be_bytes(random()) >> 2,
            stream: request.stream.as_str(),
        };
        let Answer { sdp, negotiated } = offer.answer(role, &params).map_err(|error| {
            lock(&inner.registry).remove(now, id);
            sdp_refusal(&error)
        })?;
        if purpose == Purpose::Watch {
            let live = lock(&inner.registry).codecs(request.stream);
            codecs::check(&negotiated, live).inspect_err(|_| drop(lock(&inner.registry).remove(now, id)))?;
        }
        let line = |line: &Option<MediaLine>| line.as_ref().map(ViewerLine::new);
        let (direction, plan) = match purpose {
            Purpose::Publish => (Direction::SendOnly, Plan::publish(tracks, negotiated)),
            Purpose::Watch | Purpose::Confer => (
                Direction::ReceiveOnly,
                Plan::watch(tracks, line(&negotiated.audio), line(&negotiated.video)),
            ),
        };
        let tag = entity_tag(&local).into();
        let session = Session::new(id, local, offer.remote().clone(), direction, plan, now);
        let session = Arc::new(session);
        inner.expect(id, session)?;
        debug!(stream = %request.stream, client = %request.client, ?purpose, "offer answered");
        Ok(Accepted {
            session: id,
            tag,
            answer: sdp,
        })
    }

    /// Whether a publisher's offer can be answered: nobody makes room for one that cannot.
    fn try_answer(&self, request: &Request<'_>, offer: &Offer) -> Result<(), Refusal> {
        let params = AnswerParams {
            ice: &credentials(),
            fingerprint: self.inner.certificate.fingerprint(),
            candidates: &[],
            session_id: 0,
            stream: request.stream.as_str(),
        };
        let answer = offer.answer(Role::Publisher, &params);
        answer.map(drop).map_err(|error| sdp_refusal(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_control::{Right, StreamName};

    #[tokio::test]
    async fn a_client_that_no_media_thread_can_hear_of_is_told_so_and_leaves_nothing_behind() {
        let app = App::start(AppConfig::on_loopback(1)).unwrap();
        assert!(app.shutdown(Duration::from_secs(10)).await);
        // Nobody empties the mailbox any more.
        while app.inner.broadcast(&Command::PeersMax(1)) {}
        let offer = parse(include_str!("../../tests/data/offers/chromium156-watch.sdp")).unwrap();
        let (stream, right) = (StreamName::default(), Right::default());
        let request = Request {
            stream: &stream,
            offer: "",
            client: ([127, 0, 0, 1], 1).into(),
            local: ([127, 0, 0, 1], 2).into(),
            right: &right,
        };
        let refused = app.join(&request, &offer, Purpose::Watch, PATIENCE).unwrap_err();
        assert_eq!(refused, Refusal::Overloaded);
        assert!(app.streams().is_empty());
    }
}
