//! Conference rooms: what a room decides, brought to the shards and to those who wait.

use std::collections::HashMap;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::patching::patch_refusal;
use super::*;
use crate::http::conference::{Change, Joined, MemberOffer, Presence, RoomFeed, RoomRefusal, ServerOffer, Words};
use crate::http::operation::Operation as _;
use onecast_control::StreamName;
use onecast_control::conference::{Broadcast, Effect, IceRestart, Joining, RoomError, Rooms, Roster};
use onecast_control::ice_session::PatchRefused;
use onecast_engine::media::lane::StreamKey;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::sdp::{CallError, CallParams};

/// The rooms, and those who wait for news of them. Locked before the event streams and the registry where more than one is.
#[derive(Debug, Default)]
pub(super) struct Conferences {
    rooms: Rooms,
    /// Changes when there may be an offer for a member.
    wakes: HashMap<SessionId, watch::Sender<u64>>,
    rosters: HashMap<StreamName, watch::Sender<Arc<Roster>>>,
    /// Ends the present follower of a member.
    followers: HashMap<SessionId, CancellationToken>,
}

impl Conference for App {
    fn join(&self, request: Request<'_>, rights: PasteRights<'_>, words: &Words) -> Result<Joined, Refusal> {
        self.knock(request.client, Purpose::Confer)?;
        rights.watch.ok_or(Refusal::NotAllowed(Purpose::Watch))?;
        let inner = &self.inner;
        let now = clock::now();
        let id = SessionId::from_random(random());
        let caller = Caller {
            purpose: Purpose::Confer,
            address: request.client.ip(),
        };
        let right = rights.publish.or(rights.watch).cloned().unwrap_or_default();
        let patience = PATIENCE;
        let admitted = lock(&inner.registry)
            .admit(now, request.stream, caller, id, Terms { patience, right }, dice)
            .map_err(refusal)?;
        let handle = lock(&inner.registry).handle(id).ok_or(Refusal::UnknownSession)?;
        let params = CallParams {
            ice: credentials(),
            fingerprint: inner.certificate.fingerprint(),
            candidates: self.candidates(request.local, request.client),
            session_id: u64::from_be_bytes(random()) >> 2,
        };
        let joining = Joining {
            id,
            handle,
            room: request.stream,
            program: &admitted.tracks,
            offer: request.offer,
            params,
            may_send: rights.publish.is_some(),
            words,
            unix: clock::unix_time(),
        };
        let joined = inner.enter_room(now, joining);
        let (joined, session) = joined.inspect_err(|_| drop(lock(&inner.registry).remove(now, id)))?;
        inner
            .expect(id, session)
            .inspect_err(|_| inner.forget_member(id, request.stream))?;
        self.introduce(id, Via::Conference, request.client);
        inner.take_broadcast_along(request.stream);
        debug!(room = %request.stream, client = %request.client, "offer of member {handle} answered");
        Ok(joined)
    }

    fn offer(&self, peer: SessionId, offer: MemberOffer<'_>) -> Result<String, Refusal> {
        let inner = &self.inner;
        let mut open = |name: &str| inner.open_tracks(name);
        let said = (offer.sdp, offer.words);
        let answered = inner.in_rooms(|rooms| {
            let now = clock::now();
            match rooms.offer(now, peer, said, offer.may_send, &mut open) {
                Err(RoomError::RestartsIce) => {
                    let restart = IceRestart {
                        ice: credentials(),
                        tell: &mut |theirs, ours| inner.restart_ice(now, peer, theirs, ours),
                    };
                    rooms.restart(now, peer, said, offer.may_send, &mut open, restart)
                }
                answered => answered,
            }
        });
        answered.map_err(|error| self.room_refusal(peer, error))
    }

    fn answer(&self, peer: SessionId, number: Option<u64>, answer: &str) -> Result<(), Refusal> {
        let inner = &self.inner;
        let mut open = |name: &str| inner.open_tracks(name);
        let answered = inner.in_rooms(|rooms| rooms.answer(clock::now(), peer, number, answer, &mut open));
        answered.map_err(|error| self.room_refusal(peer, error))
    }

    fn next_offer(&self, peer: SessionId) -> Result<Option<ServerOffer>, Refusal> {
        let offer = self.inner.in_rooms(|rooms| rooms.next_offer(clock::now(), peer));
        offer.map_err(|error| self.room_refusal(peer, error))
    }

    fn change(&self, peer: SessionId, change: &Change) -> Result<(), Refusal> {
        let changed = self.inner.in_rooms(|rooms| rooms.change(clock::now(), peer, change));
        changed.map_err(|error| self.room_refusal(peer, error))
    }

    fn leave(&self, peer: SessionId) -> Result<(), Refusal> {
        if lock(&self.inner.registry).purpose(peer) != Some(Purpose::Confer) {
            return Err(Refusal::gone(self.why_ended(peer)));
        }
        self.inner.end_session(peer, EndReason::Goodbye);
        Ok(())
    }

    fn follow(&self, peer: SessionId) -> Result<RoomFeed, Refusal> {
        let gone = || Refusal::gone(self.why_ended(peer));
        let mut conferences = lock(&self.inner.conferences);
        let number = conferences.rooms.follow(clock::now(), peer).map_err(|_| gone())?;
        let (room, id) = conferences.rooms.whereabouts(peer).ok_or_else(gone)?;
        let room = room.clone();
        let ended = CancellationToken::new();
        if let Some(before) = conferences.followers.insert(peer, ended.clone()) {
            before.cancel();
        }
        let roster = conferences.roster(&room).ok_or_else(gone)?;
        let wakes = conferences.wakes.get(&peer).ok_or_else(gone)?.subscribe();
        let inner = self.inner.clone();
        let presence = Presence::new(move || inner.in_rooms(|rooms| rooms.unfollow(clock::now(), peer, number)));
        Ok(RoomFeed {
            id,
            roster,
            wakes,
            ended,
            presence,
        })
    }

    fn wakes(&self, peer: SessionId) -> Result<watch::Receiver<u64>, Refusal> {
        let wakes = lock(&self.inner.conferences)
            .wakes
            .get(&peer)
            .map(watch::Sender::subscribe);
        wakes.ok_or_else(|| Refusal::gone(self.why_ended(peer)))
    }

    fn roster(&self, room: &StreamName) -> Option<Arc<Roster>> {
        lock(&self.inner.conferences).rooms.roster(room).cloned()
    }
}

impl App {
    fn room_refusal(&self, peer: SessionId, error: RoomError) -> Refusal {
        match error {
            RoomError::UnknownMember => Refusal::gone(self.why_ended(peer)),
            error => refused_by_room(error),
        }
    }
}

impl Inner {
    /// Does something with the rooms, and what follows from it.
    pub(super) fn in_rooms<T>(&self, act: impl FnOnce(&mut Rooms) -> T) -> T {
        let mut conferences = lock(&self.conferences);
        let done = act(&mut conferences.rooms);
        let ends = self.bring_about(&mut conferences);
        drop(conferences);
        for (id, why) in ends {
            self.end_session(id, why);
        }
        done
    }

    /// Gives who has to be ended, which takes the lock again.
    fn bring_about(&self, conferences: &mut Conferences) -> Vec<(SessionId, EndReason)> {
        let mut ends = Vec::new();
        while let Some(effect) = conferences.rooms.poll_effect() {
            match effect {
                Effect::Membership(session, plan) | Effect::Lift(session, plan) => {
                    self.tell(&Command::Plan(session, plan));
                }
                Effect::Wake(id) => {
                    if let Some(wakes) = conferences.wakes.get(&id) {
                        wakes.send_modify(|wakes| *wakes += 1);
                    }
                }
                Effect::Roster(roster) => {
                    if let Some(rosters) = conferences.rosters.get(&roster.room) {
                        rosters.send_replace(roster);
                    }
                }
                Effect::Air(name) => {
                    let codecs = conferences.rooms.on_air(&name);
                    lock(&self.registry).set_air(clock::now(), &name, codecs, clock::unix_time());
                    self.tell_followers(&name);
                }
                Effect::End(id, why) => ends.push((id, why)),
                Effect::Close(tracks) => lock(&self.registry).close_tracks(&tracks),
            }
        }
        ends
    }

    fn tell(&self, command: &Command) {
        if !self.broadcast(command) {
            warn!("a media thread is overloaded and has not heard of a change in a room; the next change brings it");
        }
    }

    fn enter_room(&self, now: Instant, joining: Joining<'_>) -> Result<(Joined, Arc<Session>), Refusal> {
        let (id, handle, room) = (joining.id, joining.handle, joining.room.clone());
        let local = joining.params.ice.clone();
        let mut open = |name: &str| self.open_tracks(name);
        let mut conferences = lock(&self.conferences);
        let joined = conferences
            .rooms
            .join(now, joining, &mut open)
            .map_err(refused_by_room)?;
        conferences.wakes.insert(id, watch::Sender::new(0));
        if let Some(roster) = conferences.rooms.roster(&room).cloned() {
            conferences
                .rosters
                .entry(room)
                .or_insert_with(|| watch::Sender::new(roster));
        }
        let plan = Plan::clone(&joined.membership);
        let session = Session::new(id, local, joined.remote, Direction::SendReceive, plan, now);
        let session = Arc::new(session);
        conferences.rooms.answered(id, session.clone());
        // Nobody is ended because somebody comes.
        self.bring_about(&mut conferences);
        let answer = joined.answer;
        Ok((
            Joined {
                peer: id,
                id: handle,
                answer,
            },
            session,
        ))
    }

    /// A session that was in a room, or whose broadcast was, is no more.
    pub(super) fn leave_room(&self, ended: &Ended) {
        if ended.purpose == Purpose::Watch {
            return;
        }
        self.forget_member(ended.id, &ended.stream);
    }

    /// Nothing stays of a member, or of a broadcast in a room. Once more does no harm.
    fn forget_member(&self, id: SessionId, room: &StreamName) {
        let now = clock::now();
        self.in_rooms(|rooms| rooms.leave(now, id));
        let mut conferences = lock(&self.conferences);
        // A publisher took its stream's state along, and viewers may see a member all the same.
        let codecs = conferences.rooms.on_air(room);
        if codecs.is_some() {
            lock(&self.registry).set_air(now, room, codecs, clock::unix_time());
        }
        conferences.wakes.remove(&id);
        if let Some(follower) = conferences.followers.remove(&id) {
            follower.cancel();
        }
        if conferences.rooms.roster(room).is_none() {
            conferences.rosters.remove(room);
        }
    }

    /// If there is a room of the stream's name, the stream's publisher is in it.
    pub(super) fn take_broadcast_along(&self, name: &StreamName) {
        let now = clock::now();
        let mut open = |name: &str| self.open_tracks(name);
        self.in_rooms(|rooms| {
            // Asked under the lock of the rooms: who leaves meanwhile leaves the room afterwards.
            let publisher = lock(&self.registry).publisher(name);
            if let Some(publisher) = publisher.filter(|_| rooms.roster(name).is_some()) {
                let broadcast = Broadcast {
                    session: publisher.session,
                    handle: publisher.handle,
                    since_unix: publisher.since_unix,
                    codecs: publisher.codecs,
                };
                rooms.broadcast(now, name, broadcast, &mut open);
            }
        });
    }

    pub(super) fn member_connected(&self, id: SessionId) {
        self.in_rooms(|rooms| rooms.connected(clock::now(), id));
    }

    pub(super) fn member_media(&self, id: SessionId, stream: StreamKey, kind: Kind, codec: Codec) {
        self.in_rooms(|rooms| {
            let known = rooms.whereabouts(id).map(|(room, handle)| (room.clone(), handle));
            rooms.media(clock::now(), id, stream, (kind, codec));
            if let Some((room, member)) = known {
                info!(%room, "member {member} sends {kind} in {codec}");
            }
        });
    }

    pub(super) fn speaking(&self, id: SessionId, stream: StreamKey, speaking: bool) {
        self.in_rooms(|rooms| rooms.speaking(clock::now(), id, stream, speaking));
    }

    pub(super) fn sweep_rooms(&self, now: Instant) {
        self.in_rooms(|rooms| rooms.handle_timeout(now));
    }

    fn open_tracks(&self, name: &str) -> Arc<onecast_engine::media::StreamTracks> {
        lock(&self.registry).open_tracks(clock::now(), name, dice)
    }
}

impl Conferences {
    fn roster(&self, room: &StreamName) -> Option<watch::Receiver<Arc<Roster>>> {
        Some(self.rosters.get(room)?.subscribe())
    }
}

fn refused_by_room(error: RoomError) -> Refusal {
    let of_room = |refusal| Refusal::Room(refusal);
    match error {
        RoomError::UnknownMember => Refusal::UnknownSession,
        RoomError::Call(error) => of_call(&error),
        RoomError::OfferPending { number } => of_room(RoomRefusal::OfferPending { number }),
        RoomError::NothingToAnswer => of_room(RoomRefusal::NothingToAnswer),
        RoomError::StaleAnswer { number } => of_room(RoomRefusal::StaleAnswer { number }),
        RoomError::TooManyOffers => of_room(RoomRefusal::TooManyOffers),
        RoomError::MayNotSend => Refusal::NotAllowed(Purpose::Publish),
        RoomError::OtherCertificate => of_room(RoomRefusal::OtherCertificate),
        RoomError::JoinAnew | RoomError::RestartsIce => of_room(RoomRefusal::JoinAnew),
        // What came before the newest ICE session cannot be gone back to.
        RoomError::Restart(PatchRefused::Stale) => of_room(RoomRefusal::JoinAnew),
        RoomError::Restart(refused) => patch_refusal(refused),
    }
}

fn of_call(error: &CallError) -> Refusal {
    Refusal::Sdp(SdpRefusal {
        unusable: error.is_unusable(),
        detail: error.to_string(),
        hint: error.hint().map(str::to_owned),
        codecs: None,
    })
}

fn dice() -> u32 {
    u32::from_be_bytes(random())
}
