//! The fake service's conference rooms: who joins is listed, and the server's offers come when a test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use onecast::http::feeds::{Presence, RoomFeed};
use onecast_control::conference::{Change, MemberInfo, MemberState, OfferedTrack, Roster, ServerOffer, TrackState};
use onecast_control::port::{Conference, JoinedRoom, MemberOffer, PasteRights, Request};
use onecast_control::{Purpose, Refusal, SessionId, SessionNumber, StreamName};
use onecast_rtc::rtp::Kind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fake::{Fake, answer};
use super::refused::{refusal_by_name, refusal_by_text};

/// All rooms, and how many follow one.
#[derive(Debug, Default)]
pub(crate) struct Hall {
    state: Mutex<State>,
    present: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    rooms: BTreeMap<StreamName, watch::Sender<Arc<Roster>>>,
    members: BTreeMap<SessionId, Member>,
    last_id: u64,
    words: Vec<MemberInfo>,
    may_send: Vec<bool>,
    answers: Vec<String>,
}

#[derive(Debug)]
struct Member {
    id: SessionNumber,
    room: StreamName,
    wakes: watch::Sender<u64>,
    follower: CancellationToken,
    offers: u64,
    pending: Option<Pending>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pending {
    Due,
    Sent,
}

impl Hall {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes an offer of the server's due, for the first time or again.
    pub(crate) fn offer_to(&self, peer: &str) {
        let mut state = self.state();
        let member = state.members.get_mut(&id_of(peer)).expect("a member");
        if member.pending.replace(Pending::Due).is_none() {
            member.offers += 1;
        }
        member.wakes.send_modify(|wakes| *wakes += 1);
    }

    /// Changes the roster of a room.
    pub(crate) fn change_room(&self, room: &str, change: impl FnOnce(&mut Roster)) {
        let state = self.state();
        let room = &state.rooms[&room.parse::<StreamName>().unwrap()];
        room.send_modify(|roster| change(Arc::make_mut(roster)));
    }

    /// What the last join or offer said beside its SDP.
    pub(crate) fn last_words(&self) -> MemberInfo {
        self.state().words.last().cloned().expect("an offer came")
    }

    pub(crate) fn last_may_send(&self) -> bool {
        *self.state().may_send.last().expect("a later offer came")
    }

    pub(crate) fn answers(&self) -> usize {
        self.state().answers.len()
    }

    /// Members that were joined and have not left.
    pub(crate) fn members(&self) -> usize {
        self.state().members.len()
    }

    /// WebSockets that follow a room.
    pub(crate) fn present(&self) -> usize {
        self.present.load(Ordering::Acquire)
    }

    /// Requests that wait for a member's next offer, or follow its room.
    pub(crate) fn waiting(&self, peer: &str) -> usize {
        let state = self.state();
        let member = state.members.get(&id_of(peer));
        member.map_or(0, |member| member.wakes.receiver_count())
    }
}

/// The session of `peer-…`.
pub(crate) fn id_of(peer: &str) -> SessionId {
    peer.strip_prefix("peer-").unwrap().parse().unwrap()
}

impl State {
    fn member(&mut self, peer: SessionId) -> Result<&mut Member, Refusal> {
        self.members.get_mut(&peer).ok_or(Refusal::UnknownSession)
    }

    fn enter(&mut self, room: &StreamName, words: &MemberInfo, sends: bool) -> SessionNumber {
        self.last_id += 1;
        let id = SessionNumber(self.last_id);
        let track = TrackState {
            stream: format!("m{id}.0").into(),
            kind: Kind::Video,
            label: words.labels.get("0").cloned(),
            muted: false,
            codec: None,
        };
        let member = MemberState {
            id,
            name: words.name.clone(),
            broadcast: false,
            since_unix: Duration::from_secs(1_709_210_096),
            speaking: false,
            tracks: if sends { vec![track] } else { vec![] },
        };
        let empty = || Roster {
            room: room.clone(),
            members: vec![],
            speaker: None,
        };
        let sender = self.rooms.entry(room.clone());
        let sender = sender.or_insert_with(|| watch::Sender::new(Arc::new(empty())));
        sender.send_modify(|roster| Arc::make_mut(roster).members.push(member));
        id
    }
}

/// Whether an offer has something to send.
fn sends(offer: &str) -> bool {
    offer.contains("a=sendonly")
}

impl Conference for Fake {
    fn join(&self, request: Request<'_>, rights: PasteRights<'_>, words: &MemberInfo) -> Result<JoinedRoom, Refusal> {
        refusal_by_name(request.stream.as_str())?;
        refusal_by_text(request.offer)?;
        let sends = sends(request.offer);
        let right = if sends { rights.publish } else { rights.watch };
        let right = right.ok_or(Refusal::NotAllowed(Purpose::Publish))?;
        let peer = self.open_member(&request, right);
        let mut state = self.hall.state();
        let id = state.enter(request.stream, words, sends);
        let member = Member {
            id,
            room: request.stream.clone(),
            wakes: watch::Sender::new(0),
            follower: CancellationToken::new(),
            offers: 0,
            pending: None,
        };
        state.members.insert(peer, member);
        state.words.push(words.clone());
        Ok(JoinedRoom {
            peer,
            id,
            answer: answer(request.stream.as_str()),
        })
    }

    fn offer(&self, peer: SessionId, offer: MemberOffer<'_>) -> Result<String, Refusal> {
        let mut state = self.hall.state();
        let member = state.member(peer)?;
        let (number, room) = (member.offers, member.room.clone());
        if member.pending == Some(Pending::Sent) {
            return Err(Refusal::OfferPending { number });
        }
        refusal_by_text(offer.sdp)?;
        state.words.push(offer.words.clone());
        state.may_send.push(offer.may_send);
        if sends(offer.sdp) && !offer.may_send {
            return Err(Refusal::NotAllowed(Purpose::Publish));
        }
        Ok(answer(room.as_str()))
    }

    fn answer(&self, peer: SessionId, number: Option<u64>, answer: &str) -> Result<(), Refusal> {
        let mut state = self.hall.state();
        let member = state.member(peer)?;
        if member.pending != Some(Pending::Sent) {
            return Err(Refusal::NothingToAnswer);
        }
        if number.is_some_and(|number| number != member.offers) {
            let number = member.offers;
            return Err(Refusal::StaleAnswer { number });
        }
        refusal_by_text(answer)?;
        member.pending = None;
        state.answers.push(answer.to_owned());
        Ok(())
    }

    fn next_offer(&self, peer: SessionId) -> Result<Option<ServerOffer>, Refusal> {
        let mut state = self.hall.state();
        let member = state.member(peer)?;
        if member.pending != Some(Pending::Due) {
            return Ok(None);
        }
        member.pending = Some(Pending::Sent);
        let track = OfferedTrack {
            mid: "s0".into(),
            member: SessionNumber(12),
            stream: "m12.0".into(),
            kind: Kind::Video,
            label: Some("screen".into()),
        };
        Ok(Some(ServerOffer {
            number: member.offers,
            sdp: answer("offer").into(),
            tracks: [track].into(),
        }))
    }

    fn change(&self, peer: SessionId, change: &Change) -> Result<(), Refusal> {
        let (id, room) = {
            let mut state = self.hall.state();
            let member = state.member(peer)?;
            (member.id, member.room.clone())
        };
        self.hall.change_room(room.as_str(), |roster| {
            let member = roster.members.iter_mut().find(|member| member.id == id).unwrap();
            member.name = change.name.clone().or(member.name.take());
            for track in &mut member.tracks {
                track.muted = change.video_muted.unwrap_or(track.muted);
            }
        });
        Ok(())
    }

    fn leave(&self, peer: SessionId) -> Result<(), Refusal> {
        let member = self.hall.state().members.remove(&peer).ok_or(Refusal::UnknownSession)?;
        self.close_member(peer);
        self.hall.change_room(member.room.as_str(), |roster| {
            roster.members.retain(|other| other.id != member.id);
        });
        member.follower.cancel();
        Ok(())
    }

    fn roster(&self, room: &StreamName) -> Option<Arc<Roster>> {
        let state = self.hall.state();
        state.rooms.get(room).map(|roster| roster.borrow().clone())
    }
}

impl Fake {
    pub(super) fn follow_hall(&self, peer: SessionId) -> Result<RoomFeed, Refusal> {
        let mut state = self.hall.state();
        let member = state.member(peer)?;
        member.follower.cancel();
        member.follower = CancellationToken::new();
        let (id, wakes, ended) = (member.id, member.wakes.subscribe(), member.follower.clone());
        let room = member.room.clone();
        let present = self.hall.present.clone();
        present.fetch_add(1, Ordering::AcqRel);
        Ok(RoomFeed {
            id,
            roster: state.rooms[&room].subscribe(),
            wakes,
            ended,
            presence: Presence::new(move || {
                present.fetch_sub(1, Ordering::AcqRel);
            }),
        })
    }

    pub(super) fn wakes_of(&self, peer: SessionId) -> Result<watch::Receiver<u64>, Refusal> {
        Ok(self.hall.state().member(peer)?.wakes.subscribe())
    }
}
