//! All rooms, and the ways into them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_engine::fanout::{Plan, Session};
use onecast_engine::media::StreamTracks;
use onecast_engine::media::lane::StreamKey;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::sdp::{MemberDescription, ReceivedLine};
use onecast_rtc::{RemoteTransport, SessionId};

use super::ice_restart::IceRestart;
use super::initial_offer::{InitialOffer, check_may_send};
use super::member::{Member, MemberSignalling};
use super::room::Room;
use super::streams::{MemberStream, MemberStreams};
use super::{Change, MemberInfo, Roster, ServerOffer};
use crate::StreamName;
use crate::ended::EndReason;
use crate::refusal::Refusal;
use crate::registry::SessionNumber;

/// Every conference room, and its members.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: BTreeMap<StreamName, Room>,
    /// The room of each member.
    homes: HashMap<SessionId, StreamName>,
    /// Taken out after each call; the number of members bounds them.
    effects: VecDeque<RoomEffect>,
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
pub enum RoomEffect {
    /// What a member sends and is sent, or where the packets of a broadcast's publisher go, for the shards.
    Plan(Arc<Session>, Arc<Plan>),
    /// There may be an offer for a member.
    Wake(SessionId),
    /// The roster has changed.
    Roster(Arc<Roster>),
    /// Viewers of the room see another member, or something else of the same one, or nothing.
    Program(StreamName),
    /// A member has to be ended.
    End(SessionId, EndReason),
    /// Tracks that no later command mentions.
    Close(Arc<StreamTracks>),
}

/// A client that joins a room.
#[derive(Debug)]
pub struct Joining<'a> {
    /// Its session, which has been admitted.
    pub id: SessionId,
    /// Its public number.
    pub number: SessionNumber,
    /// The room.
    pub room: &'a StreamName,
    /// The tracks of the room's own stream.
    pub program: &'a Arc<StreamTracks>,
    /// Its offer.
    pub offer: InitialOffer,
    /// What it says beside.
    pub words: &'a MemberInfo,
    /// The time since 1970.
    pub unix: Duration,
}

/// A member that has joined, for the shards.
#[derive(Debug)]
pub struct NewMember {
    /// The client's side of the connection.
    pub remote: RemoteTransport,
    /// What it sends and is sent.
    pub membership: Arc<Plan>,
}

/// The publisher of the broadcast that has the room's name.
#[derive(Debug, Clone)]
pub struct Broadcast {
    /// Its session.
    pub session: Arc<Session>,
    /// Its public number.
    pub number: SessionNumber,
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
    /// It is the broadcast of that name, and not a member.
    pub is_broadcast: bool,
}

/// Gives the tracks of another stream of this name.
pub type OpenTracks<'a> = &'a mut dyn FnMut(&str) -> Arc<StreamTracks>;

impl Rooms {
    /// A client joins a room. The others do not see it before it has connected.
    pub fn join(&mut self, now: Instant, joining: Joining<'_>, open: OpenTracks<'_>) -> NewMember {
        let InitialOffer { call, params, remote } = joining.offer;
        let mut streams = MemberStreams::default();
        let signalling = MemberSignalling::new(now, call, params, joining.words);
        take_lines(&mut streams, &signalling, joining.number, open);
        let name = joining.room;
        let room = self.rooms.entry(name.clone());
        let room = room.or_insert_with(|| Room::new(name.clone(), joining.program.clone()));
        room.belongs_to(joining.program);
        room.members.push(Member {
            id: joining.id,
            number: joining.number,
            name: joining.words.name.clone(),
            since_unix: joining.unix,
            connected: false,
            session: None,
            streams,
            signalling: Some(Box::new(signalling)),
            lifted: None,
        });
        room.ranking.join(joining.number);
        self.homes.insert(joining.id, name.clone());
        self.settle(now, name);
        let signalling = self.signalling(joining.id).expect("it has just got one");
        let membership = signalling.membership.clone();
        NewMember { remote, membership }
    }

    /// The shards know the member now, with the membership that [`join`](Self::join) gave.
    pub fn answered(&mut self, id: SessionId, session: Arc<Session>) {
        let Ok(member) = self.member(id) else { return };
        let told = session.plan.number;
        member.session = Some(session.clone());
        if let Some(signalling) = member
            .signalling
            .as_ref()
            .filter(|signalling| signalling.membership.number > told)
        {
            let membership = signalling.membership.clone();
            self.effects.push_back(RoomEffect::Plan(session, membership));
        }
    }

    /// The member's handshake is complete: the others see it from now on.
    pub fn connected(&mut self, now: Instant, id: SessionId) {
        if let Ok(member) = self.member(id) {
            member.connected = true;
            self.settle_at_home(now, id);
        }
    }

    /// A later offer of a member, with what it says about the lines in it.
    ///
    /// # Errors
    /// When an offer of the server waits for its answer, offers come too fast, or it cannot be used; then nothing has changed.
    pub fn offer(
        &mut self,
        now: Instant,
        id: SessionId,
        (offer, words): (MemberDescription<'_>, &MemberInfo),
        may_send: bool,
        open: OpenTracks<'_>,
        restart: IceRestart<'_>,
    ) -> Result<String, Refusal> {
        let member = self.member(id)?;
        let signalling = member.signalling.as_deref_mut().ok_or(Refusal::UnknownSession)?;
        signalling.allowance.take(now)?;
        if let Some(number) = signalling.offers.waiting() {
            return Err(Refusal::OfferPending { number });
        }
        let before = signalling.call.clone();
        let lines: Vec<ReceivedLine> = signalling.call.received().cloned().collect();
        let answered = signalling.renegotiate(offer, restart, |signalling| {
            check_may_send(&signalling.call, &lines, may_send)
        });
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => {
                signalling.call = before;
                return Err(error);
            }
        };
        signalling.labels.extend(words.labels.clone());
        let received: BTreeSet<&str> = signalling.call.received().map(|line| &*line.line.mid).collect();
        signalling.labels.retain(|mid, _| received.contains(&**mid));
        let ended = take_lines(&mut member.streams, signalling, member.number, open);
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
        answer: MemberDescription<'_>,
        open: OpenTracks<'_>,
    ) -> Result<(), Refusal> {
        let member = self.member(id)?;
        let signalling = member.signalling.as_deref_mut().ok_or(Refusal::UnknownSession)?;
        signalling.offers.check_answer(number)?;
        let before: Vec<ReceivedLine> = signalling.call.received().cloned().collect();
        signalling.take_answer(answer)?;
        signalling.offers.answered();
        // The client may have switched lines of its own on or off meanwhile; none that it never sent on before.
        let number = member.number;
        let ended = take_lines(&mut member.streams, signalling, number, open);
        if signalling.call.received().eq(&before) {
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
    pub fn next_offer(&mut self, now: Instant, id: SessionId) -> Result<Option<ServerOffer>, Refusal> {
        let room = self.home(id)?;
        Ok(room.next_offer(now, id))
    }

    /// Something that a member changes about itself.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn change(&mut self, now: Instant, id: SessionId, change: &Change) -> Result<(), Refusal> {
        let member = self.member(id)?;
        if let Some(signalling) = &mut member.signalling {
            signalling.changes.take(now)?;
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
        if let (Some(signalling), Some(last_n)) = (&mut member.signalling, change.last_n) {
            signalling.last_n = last_n;
        }
        self.settle_at_home(now, id);
        Ok(())
    }

    /// The session of a member, or of a broadcast's publisher, has ended.
    pub fn leave(&mut self, now: Instant, id: SessionId) {
        let Some(name) = self.homes.remove(&id) else { return };
        let Some(room) = self.rooms.get_mut(&name) else { return };
        let Some(place) = room.members.iter().position(|member| member.id == id) else {
            return;
        };
        let member = room.members.remove(place);
        if member.is_broadcast() {
            room.renew_program();
        }
        room.ranking.leave(member.number);
        self.settle(now, &name);
        self.close(member.streams.into_all());
        if self.rooms.get(&name).is_some_and(|room| room.members.is_empty()) {
            self.rooms.remove(&name);
        }
    }

    /// The stream that has a room's name has a publisher. Nothing happens while the room has no member.
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
            let stream = MemberStream::of_broadcast(open(&stream_name(broadcast.number, 0)), &broadcast);
            room.ranking.join(broadcast.number);
            room.members.push(Member {
                id,
                number: broadcast.number,
                name: None,
                since_unix: broadcast.since_unix,
                connected: true,
                session: Some(broadcast.session),
                streams: MemberStreams::of(stream),
                signalling: None,
                lifted: None,
            });
            self.homes.insert(id, name.clone());
            room.renew_program();
        }
        self.settle(now, name);
    }

    /// A publisher connected under the room's name and was refused, but its shard gave it the room's stream for a moment.
    pub fn renew_program(&mut self, now: Instant, name: &StreamName) {
        if let Some(room) = self.rooms.get_mut(name) {
            room.renew_program();
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

    /// A member begins to speak, or stops.
    pub fn speaking(&mut self, now: Instant, id: SessionId, stream: StreamKey, speaking: bool) {
        let Ok(room) = self.home(id) else { return };
        let Some(member) = room.member(id) else { return };
        let number = member.number;
        let Some(stream) = member.streams.find(stream.serial) else {
            return;
        };
        stream.speaking = speaking;
        if speaking {
            room.ranking.speak(number);
        }
        self.settle_at_home(now, id);
    }

    /// The member has a WebSocket; gives the number by which [`unfollow`](Self::unfollow) knows it.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn follow(&mut self, now: Instant, id: SessionId) -> Result<u64, Refusal> {
        let signalling = self.signalling(id)?;
        signalling.follower += 1;
        signalling.gone_since = None;
        signalling.offers.send_again_at_once(now);
        Ok(signalling.follower)
    }

    /// That WebSocket is gone. It does not matter if there is another one already.
    pub fn unfollow(&mut self, now: Instant, id: SessionId, follower: u64) {
        if let Ok(signalling) = self.signalling(id)
            && signalling.follower == follower
        {
            signalling.gone_since = Some(now);
        }
    }

    /// Whether a member has not answered or come back in time.
    pub(crate) fn is_overdue(&self, now: Instant, id: SessionId) -> bool {
        let room = self.homes.get(&id).and_then(|name| self.rooms.get(name));
        let member = room.and_then(|room| room.members.iter().find(|member| member.id == id));
        member
            .and_then(|member| member.signalling.as_ref()?.overdue(now))
            .is_some()
    }

    /// Ends members that do not answer or do not come back, and changes the active speaker if one has waited for that.
    pub fn handle_timeout(&mut self, now: Instant) {
        let names: Vec<StreamName> = self.rooms.keys().cloned().collect();
        for name in names {
            let Some(room) = self.rooms.get_mut(&name) else {
                continue;
            };
            let members = room
                .members
                .iter()
                .filter_map(|member| Some((member.id, member.signalling.as_ref()?)));
            let due = members.filter_map(|(id, signalling)| Some((id, signalling.overdue(now)?)));
            self.effects.extend(due.map(|(id, why)| RoomEffect::End(id, why)));
            if room.deadline().is_some_and(|at| at <= now) {
                room.settle(now, &mut self.effects);
            }
        }
    }

    /// The next thing that follows for the rest of the server.
    pub fn poll_effect(&mut self) -> Option<RoomEffect> {
        self.effects.pop_front()
    }

    /// The members of a room.
    pub fn roster(&self, name: &StreamName) -> Option<&Arc<Roster>> {
        Some(self.rooms.get(name)?.roster())
    }

    /// The room of a member, and its public number.
    pub fn whereabouts(&self, id: SessionId) -> Option<(&StreamName, SessionNumber)> {
        let name = self.homes.get(&id)?;
        let member = self.rooms.get(name)?.members.iter().find(|member| member.id == id)?;
        Some((name, member.number))
    }

    /// What a room's viewers see; `None` while they see nothing.
    pub fn program(&self, name: &StreamName) -> Option<Program> {
        self.rooms.get(name)?.program()
    }

    /// Streams that have ended. This comes after the commands that end them for their receivers: a slot is reused only then.
    fn close(&mut self, ended: Vec<MemberStream>) {
        self.effects
            .extend(ended.into_iter().map(|stream| RoomEffect::Close(stream.tracks)));
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

    fn home(&mut self, id: SessionId) -> Result<&mut Room, Refusal> {
        let name = self.homes.get(&id).ok_or(Refusal::UnknownSession)?;
        self.rooms.get_mut(name).ok_or(Refusal::UnknownSession)
    }

    fn member(&mut self, id: SessionId) -> Result<&mut Member, Refusal> {
        self.home(id)?.member(id).ok_or(Refusal::UnknownSession)
    }

    fn signalling(&mut self, id: SessionId) -> Result<&mut MemberSignalling, Refusal> {
        self.member(id)?
            .signalling
            .as_deref_mut()
            .ok_or(Refusal::UnknownSession)
    }
}

/// What tests look at.
#[cfg(test)]
impl Rooms {
    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let first = |room: &Room| {
            let members = room.members.iter().filter_map(|member| member.signalling.as_ref());
            members.filter_map(|signalling| signalling.deadline()).min()
        };
        let rooms = self.rooms.values();
        rooms
            .flat_map(|room| room.deadline().into_iter().chain(first(room)))
            .min()
    }

    /// Members of a room without a broadcast's publisher, connecting ones included.
    pub(super) fn participants(&self, name: &StreamName) -> usize {
        let members = self.rooms.get(name).into_iter().flat_map(|room| &room.members);
        members.filter(|member| !member.is_broadcast()).count()
    }
}

/// Groups the lines on which the client sends now into streams. Gives the streams that have ended.
fn take_lines(
    streams: &mut MemberStreams,
    signalling: &MemberSignalling,
    number: SessionNumber,
    open: OpenTracks<'_>,
) -> Vec<MemberStream> {
    let received: Vec<ReceivedLine> = signalling.call.received().cloned().collect();
    let label = |mid: &str| signalling.labels.get(mid).cloned();
    streams.apply(&received, label, |index| open(&stream_name(number, index)))
}

/// How others know a stream of a member: `a=msid` and CNAME towards them.
fn stream_name(member: SessionNumber, stream: usize) -> String {
    format!("m{member}.{stream}")
}
