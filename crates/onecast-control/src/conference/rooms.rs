//! All rooms, and the ways into them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::member::{Member, Seat};
use super::restarting::IceRestart;
use super::room::Room;
use super::streams::{Stream, Streams};
use super::{Change, RoomError, Roster, ServerOffer, Words};
use crate::StreamName;
use crate::ended::EndReason;
use onecast_engine::fanout::{Plan, Session};
use onecast_engine::media::StreamTracks;
use onecast_engine::media::lane::StreamKey;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::sdp::{Call, CallError, CallParams, ReceivedLine};
use onecast_rtc::{RemoteTransport, SessionId};

/// Every conference room, and who is in it.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: BTreeMap<StreamName, Room>,
    /// Where each member is.
    homes: HashMap<SessionId, StreamName>,
    /// Taken out after each call; a room's members bound their number.
    effects: VecDeque<Effect>,
}

/// Bounds of rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomLimits {
    /// Most members of one room, connecting ones included.
    pub members: usize,
}

impl RoomLimits {
    /// A hundred: beyond that a broadcast is the better form.
    pub const DEFAULT: RoomLimits = RoomLimits { members: 100 };
}

impl Default for RoomLimits {
    fn default() -> RoomLimits {
        RoomLimits::DEFAULT
    }
}

/// What follows for the rest of the server.
#[derive(Debug)]
pub enum Effect {
    /// The shards are to be told what a member sends and is sent.
    Membership(Arc<Session>, Arc<Plan>),
    /// The shards are to be told where the packets of a broadcast's publisher go.
    Lift(Arc<Session>, Arc<Plan>),
    /// There is an offer for a member.
    Wake(SessionId),
    /// Another roster.
    Roster(Arc<Roster>),
    /// Viewers of the room see somebody else, or something else of the same, or nothing.
    Air(StreamName),
    /// A member is to be ended.
    End(SessionId, EndReason),
    /// Tracks that no shard is told of any more.
    Close(Arc<StreamTracks>),
}

/// Somebody who comes in.
#[derive(Debug)]
pub struct Joining<'a> {
    /// Its session, which has a place already.
    pub id: SessionId,
    /// Its public number.
    pub handle: u64,
    /// Where to.
    pub room: &'a StreamName,
    /// The tracks of the room's own stream.
    pub program: &'a Arc<StreamTracks>,
    /// The SDP.
    pub offer: &'a str,
    /// Our side of the connection.
    pub params: CallParams,
    /// Whether it may send.
    pub may_send: bool,
    /// What it says beside.
    pub words: &'a Words,
    /// The time since 1970.
    pub unix: Duration,
}

/// What comes of that.
#[derive(Debug)]
pub struct Joined {
    /// The answer's SDP.
    pub answer: String,
    /// The client's side of the connection.
    pub remote: RemoteTransport,
    /// What it sends.
    pub membership: Arc<Plan>,
}

/// The publisher of the broadcast that has the room's name.
#[derive(Debug, Clone)]
pub struct Broadcast {
    /// Its session.
    pub session: Arc<Session>,
    /// Its public number.
    pub handle: u64,
    /// Since when, as time since 1970.
    pub since_unix: Duration,
    /// What it sends at this moment: audio, video.
    pub codecs: [Option<Codec>; 2],
}

/// What viewers of the stream that has a room's name see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// What it is sent in: audio, video.
    pub codecs: [Option<Codec>; 2],
    /// It is the broadcast of that name, and no member in the proper sense.
    pub is_broadcast: bool,
}

/// Gives the tracks of another stream of this name.
pub type OpenTracks<'a> = &'a mut dyn FnMut(&str) -> Arc<StreamTracks>;

impl Rooms {
    /// Somebody comes in, and is answered. It stays unknown to the others until it has connected.
    ///
    /// # Errors
    /// When the offer cannot be used, or may not be made.
    pub fn join(&mut self, now: Instant, joining: Joining<'_>, open: OpenTracks<'_>) -> Result<Joined, RoomError> {
        let mut call = Call::new();
        let answer = call
            .handle_offer(joining.offer, &joining.params)
            .map_err(RoomError::Call)?;
        let remote = call.remote().cloned().ok_or(RoomError::UnknownMember)?;
        let mut streams = Streams::default();
        let seat = Seat::new(now, call, joining.params, joining.words);
        check_right(&seat, &[], joining.may_send)?;
        take_lines(&mut streams, &seat, joining.handle, open);
        let name = joining.room;
        let room = self.rooms.entry(name.clone());
        let room = room.or_insert_with(|| Room::new(name.clone(), joining.program.clone()));
        room.belongs_to(joining.program);
        room.members.push(Member {
            id: joining.id,
            handle: joining.handle,
            name: joining.words.name.clone(),
            since_unix: joining.unix,
            connected: false,
            session: None,
            streams,
            seat: Some(Box::new(seat)),
            lifted: None,
        });
        room.ranking.join(joining.handle);
        self.homes.insert(joining.id, name.clone());
        self.settle(now, name);
        let membership = self.seat(joining.id).map(|seat| seat.membership.clone())?;
        Ok(Joined {
            answer,
            remote,
            membership,
        })
    }

    /// The shards were told of the member, and of the membership that [`join`](Self::join) gave.
    pub fn answered(&mut self, id: SessionId, session: Arc<Session>) {
        let Ok(member) = self.member(id) else { return };
        let told = session.plan.number;
        member.session = Some(session.clone());
        if let Some(seat) = member.seat.as_ref().filter(|seat| seat.membership.number > told) {
            let membership = seat.membership.clone();
            self.effects.push_back(Effect::Membership(session, membership));
        }
    }

    /// The member's handshake is finished: the others hear of it.
    pub fn connected(&mut self, now: Instant, id: SessionId) {
        if let Ok(member) = self.member(id) {
            member.connected = true;
            self.settle_at_home(now, id);
        }
    }

    /// A later offer of a member. `words` are about the lines in it.
    ///
    /// # Errors
    /// When an offer of ours waits for its answer, offers come too fast, it restarts ICE, which [`restart`](Self::restart) does, or it
    /// cannot be used; then nothing has changed.
    pub fn offer(
        &mut self,
        now: Instant,
        id: SessionId,
        said: (&str, &Words),
        may_send: bool,
        open: OpenTracks<'_>,
    ) -> Result<String, RoomError> {
        self.seat(id)?.allowance.take(now)?;
        self.take_offer(now, id, said, may_send, open, None)
    }

    /// An offer, which restarts ICE if there is a `restart` for that.
    pub(super) fn take_offer(
        &mut self,
        now: Instant,
        id: SessionId,
        (offer, words): (&str, &Words),
        may_send: bool,
        open: OpenTracks<'_>,
        restart: Option<IceRestart<'_>>,
    ) -> Result<String, RoomError> {
        let member = self.member(id)?;
        let seat = member.seat.as_deref_mut().ok_or(RoomError::UnknownMember)?;
        if let Some(number) = seat.offers.waiting() {
            return Err(RoomError::OfferPending { number });
        }
        let before = seat.call.clone();
        let lines: Vec<ReceivedLine> = seat.call.received().cloned().collect();
        let answered = seat.renegotiate(offer, restart, |seat| check_right(seat, &lines, may_send));
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => {
                seat.call = before;
                return Err(error);
            }
        };
        seat.labels.extend(words.labels.clone());
        let received: BTreeSet<&str> = seat.call.received().map(|line| &*line.line.mid).collect();
        seat.labels.retain(|mid, _| received.contains(&**mid));
        let ended = take_lines(&mut member.streams, seat, member.handle, open);
        self.settle_at_home(now, id);
        self.close(ended);
        Ok(answer)
    }

    /// An answer to our offer, whose number the client may have said.
    ///
    /// # Errors
    /// When none is waited for, it is for another offer, or it cannot be used; then a better one is waited for.
    pub fn answer(
        &mut self,
        now: Instant,
        id: SessionId,
        number: Option<u64>,
        answer: &str,
        open: OpenTracks<'_>,
    ) -> Result<(), RoomError> {
        let member = self.member(id)?;
        let seat = member.seat.as_deref_mut().ok_or(RoomError::UnknownMember)?;
        seat.offers.check_answer(number)?;
        let before: Vec<ReceivedLine> = seat.call.received().cloned().collect();
        seat.take_answer(answer)?;
        seat.offers.answered();
        // The client may have switched lines of its own on or off meanwhile; none that it never sent on before.
        let handle = member.handle;
        let ended = take_lines(&mut member.streams, seat, handle, open);
        if seat.call.received().eq(&before) {
            let Some(room) = self.homes.get(&id).and_then(|name| self.rooms.get_mut(name)) else {
                return Ok(());
            };
            room.settle_answer(id, &mut self.effects);
        } else {
            self.settle_at_home(now, id);
        }
        self.close(ended);
        Ok(())
    }

    /// The offer that a member is to be sent now, for the first time or again.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn next_offer(&mut self, now: Instant, id: SessionId) -> Result<Option<ServerOffer>, RoomError> {
        let room = self.home(id)?;
        Ok(room.next_offer(now, id))
    }

    /// What a member says of itself.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn change(&mut self, now: Instant, id: SessionId, change: &Change) -> Result<(), RoomError> {
        let member = self.member(id)?;
        if let Some(seat) = &mut member.seat {
            seat.changes.take(now)?;
        }
        if change.name.is_some() {
            member.name.clone_from(&change.name);
        }
        if let Some(stream) = member.streams.first() {
            let muted = [change.audio_muted, change.video_muted];
            for (place, muted) in stream.muted.iter_mut().zip(muted) {
                *place = muted.unwrap_or(*place);
            }
        }
        if let (Some(seat), Some(last_n)) = (&mut member.seat, change.last_n) {
            seat.last_n = last_n;
        }
        self.settle_at_home(now, id);
        Ok(())
    }

    /// The member, or the publisher of a broadcast, is no more.
    pub fn leave(&mut self, now: Instant, id: SessionId) {
        let Some(name) = self.homes.remove(&id) else { return };
        let Some(room) = self.rooms.get_mut(&name) else { return };
        let Some(place) = room.members.iter().position(|member| member.id == id) else {
            return;
        };
        let member = room.members.remove(place);
        if member.is_broadcast() {
            room.renew_air();
        }
        room.ranking.leave(member.handle);
        self.settle(now, &name);
        self.close(member.streams.into_all());
        if self.rooms.get(&name).is_some_and(|room| room.members.is_empty()) {
            self.rooms.remove(&name);
        }
    }

    /// Somebody publishes the stream that has a room's name. Nothing happens while nobody is in the room.
    pub fn broadcast(&mut self, now: Instant, name: &StreamName, broadcast: Broadcast, open: OpenTracks<'_>) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        let id = broadcast.session.id;
        if let Some(known) = room.member(id) {
            let codecs = Kind::ALL.into_iter().zip(broadcast.codecs);
            let playing = codecs.filter_map(|(kind, codec)| Some((kind, codec?)));
            playing.for_each(|(kind, codec)| {
                known
                    .streams
                    .first()
                    .into_iter()
                    .for_each(|s| s.set_playing(kind, codec))
            });
        } else {
            let stream = Stream::of_broadcast(open(&stream_name(broadcast.handle, 0)), &broadcast);
            room.ranking.join(broadcast.handle);
            room.members.push(Member {
                id,
                handle: broadcast.handle,
                name: None,
                since_unix: broadcast.since_unix,
                connected: true,
                session: Some(broadcast.session),
                streams: Streams::of(stream),
                seat: None,
                lifted: None,
            });
            self.homes.insert(id, name.clone());
            room.renew_air();
        }
        self.settle(now, name);
    }

    /// A publisher connected under the room's name and was refused, but took the stream of the whole room for a moment.
    pub fn renew_air(&mut self, now: Instant, name: &StreamName) {
        if let Some(room) = self.rooms.get_mut(name) {
            room.renew_air();
            self.settle(now, name);
        }
    }

    /// A stream of a member has begun, or goes on in another codec.
    pub fn media(&mut self, now: Instant, id: SessionId, stream: StreamKey, (kind, codec): (Kind, Codec)) {
        let Ok(member) = self.member(id) else { return };
        if let Some(stream) = member.streams.find(stream.serial) {
            stream.set_playing(kind, codec);
            self.settle_at_home(now, id);
        }
    }

    /// Somebody has begun to speak, or is silent again.
    pub fn speaking(&mut self, now: Instant, id: SessionId, stream: StreamKey, speaking: bool) {
        let Ok(room) = self.home(id) else { return };
        let Some(member) = room.member(id) else { return };
        let handle = member.handle;
        let Some(stream) = member.streams.find(stream.serial) else {
            return;
        };
        stream.speaking = speaking;
        if speaking {
            room.ranking.speak(handle);
        }
        self.settle_at_home(now, id);
    }

    /// The member has a WebSocket; gives the number by which [`unfollow`](Self::unfollow) knows it.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn follow(&mut self, now: Instant, id: SessionId) -> Result<u64, RoomError> {
        let seat = self.seat(id)?;
        seat.follower += 1;
        seat.gone_since = None;
        seat.offers.send_again_at_once(now);
        Ok(seat.follower)
    }

    /// That WebSocket is broken. Nothing follows from it if there is another one already.
    pub fn unfollow(&mut self, now: Instant, id: SessionId, follower: u64) {
        if let Ok(seat) = self.seat(id)
            && seat.follower == follower
        {
            seat.gone_since = Some(now);
        }
    }

    /// Ends members who do not answer or do not come back, and gives the floor to whoever has waited for it.
    pub fn handle_timeout(&mut self, now: Instant) {
        let names: Vec<StreamName> = self.rooms.keys().cloned().collect();
        for name in names {
            let Some(room) = self.rooms.get_mut(&name) else {
                continue;
            };
            let seats = room
                .members
                .iter()
                .filter_map(|member| Some((member.id, member.seat.as_ref()?)));
            let due = seats.filter_map(|(id, seat)| Some((id, seat.overdue(now)?)));
            self.effects.extend(due.map(|(id, why)| Effect::End(id, why)));
            if room.deadline().is_some_and(|at| at <= now) {
                room.settle(now, &mut self.effects);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let seats = |room: &Room| {
            let seats = room.members.iter().filter_map(|member| member.seat.as_ref());
            seats.filter_map(|seat| seat.deadline()).min()
        };
        let rooms = self.rooms.values();
        rooms
            .flat_map(|room| room.deadline().into_iter().chain(seats(room)))
            .min()
    }

    /// The next thing that follows for the rest of the server.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Who is in a room.
    pub fn roster(&self, name: &StreamName) -> Option<&Arc<Roster>> {
        Some(self.rooms.get(name)?.roster())
    }

    /// The room of a member, and its public number.
    pub fn whereabouts(&self, id: SessionId) -> Option<(&StreamName, u64)> {
        let name = self.homes.get(&id)?;
        let member = self.rooms.get(name)?.members.iter().find(|member| member.id == id)?;
        Some((name, member.handle))
    }

    /// What a room's viewers see; `None` while they see nothing.
    pub fn on_air(&self, name: &StreamName) -> Option<Program> {
        self.rooms.get(name)?.on_air()
    }

    /// Members of a room in the proper sense, connecting ones included.
    pub fn seats(&self, name: &StreamName) -> usize {
        self.rooms.get(name).map_or(0, Room::seats)
    }

    /// Streams that have ended: only after whoever was sent them has been told.
    fn close(&mut self, ended: Vec<Stream>) {
        self.effects
            .extend(ended.into_iter().map(|stream| Effect::Close(stream.tracks)));
    }

    fn settle(&mut self, now: Instant, name: &StreamName) {
        if let Some(room) = self.rooms.get_mut(name) {
            room.settle(now, &mut self.effects);
        }
    }

    fn settle_at_home(&mut self, now: Instant, id: SessionId) {
        if let Some(name) = self.homes.get(&id).cloned() {
            self.settle(now, &name);
        }
    }

    fn home(&mut self, id: SessionId) -> Result<&mut Room, RoomError> {
        let name = self.homes.get(&id).ok_or(RoomError::UnknownMember)?;
        self.rooms.get_mut(name).ok_or(RoomError::UnknownMember)
    }

    fn member(&mut self, id: SessionId) -> Result<&mut Member, RoomError> {
        self.home(id)?.member(id).ok_or(RoomError::UnknownMember)
    }

    fn seat(&mut self, id: SessionId) -> Result<&mut Seat, RoomError> {
        self.member(id)?.seat.as_deref_mut().ok_or(RoomError::UnknownMember)
    }
}

/// The lines on which the client sends now become streams. Gives those that have ended.
fn take_lines(streams: &mut Streams, seat: &Seat, handle: u64, open: OpenTracks<'_>) -> Vec<Stream> {
    let received: Vec<ReceivedLine> = seat.call.received().cloned().collect();
    let label = |mid: &str| seat.labels.get(mid).cloned();
    streams.apply(&received, label, |number| open(&stream_name(handle, number)))
}

/// Who may not send keeps what it had, if anything.
fn check_right(seat: &Seat, before: &[ReceivedLine], may_send: bool) -> Result<(), RoomError> {
    let is_new = |line: &ReceivedLine| before.iter().all(|known| known.line.mid != line.line.mid);
    if !may_send && seat.call.received().any(is_new) {
        return Err(RoomError::MayNotSend);
    }
    Ok(())
}

/// How others know a stream of a member: `a=msid` and CNAME towards them.
fn stream_name(member: u64, stream: usize) -> String {
    format!("m{member}.{stream}")
}

impl RoomError {
    /// Whether the SDP is at fault.
    pub fn of_sdp(&self) -> Option<&CallError> {
        match self {
            RoomError::Call(error) => Some(error),
            _ => None,
        }
    }
}
