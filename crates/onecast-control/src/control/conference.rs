//! Conference rooms, as their clients use them. What [`Rooms`](crate::conference::Rooms) decides is applied to the registry and becomes
//! effects.

use onecast_engine::fanout::{Command, Direction, Plan, Session};
use onecast_engine::media::lane::StreamKey;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::sdp::{MemberDescription, SdpError};
use onecast_rtc::{IceCredentials, SessionId};

use super::join::{Join, Route};
use super::{Control, Now};
use crate::StreamName;
use crate::conference::{Broadcast, Change, IceRestart, InitialOffer, Joining, MemberInfo, RoomEffect, ServerOffer};
use crate::effect::{Effect, Notice, Party};
use crate::ended::EndReason;
use crate::port::PasteRights;
use crate::refusal::Refusal;
use crate::registry::{Purpose, Registry, SessionNumber, Via};

/// A later offer of a member, whose text has been read.
#[derive(Debug)]
pub struct NextOffer<'a> {
    /// The SDP.
    pub description: MemberDescription<'a>,
    /// What the member says about its lines.
    pub words: &'a MemberInfo,
    /// Whether it may send on lines on which it sent nothing before.
    pub may_send: bool,
    /// Our new ICE credentials, if the offer restarts ICE.
    pub ice: IceCredentials,
}

impl Control {
    /// A client's first offer to a room. Gives the member's public number. The rights take the place of the grant in `join`.
    ///
    /// # Errors
    /// When the offer cannot be used, the rights do not permit it, or a limit is reached; then nothing has changed.
    pub fn handle_room_join(
        &mut self,
        now: Now,
        join: Join<'_>,
        rights: PasteRights<'_>,
        offer: Result<InitialOffer, SdpError>,
        words: &MemberInfo,
    ) -> Result<SessionNumber, Refusal> {
        self.take_token(now, join.client, Purpose::Participate)?;
        let watch = rights.watch.ok_or(Refusal::NotAllowed(Purpose::Watch))?;
        let grant = rights.publish.unwrap_or(watch);
        let route = Route {
            purpose: Purpose::Participate,
            via: Via::Conference,
            timeout: Control::CONNECT_TIMEOUT,
        };
        let (program, offer) = self.enter(now, Join { grant, ..join }, route, |_| {
            let offer = offer?;
            offer.check_may_send(rights.publish.is_some())?;
            Ok(offer)
        })?;
        let number = self.registry.number(join.id).expect("it has just entered");
        let joining = Joining {
            id: join.id,
            number,
            room: join.stream,
            program: &program,
            offer,
            words,
            unix: now.unix,
        };
        let tracks = &mut self.registry.tracks;
        let member = self
            .rooms
            .join(now.instant, joining, &mut |name| tracks.open(now.instant, name));
        if let Some(roster) = self.rooms.roster(join.stream).cloned() {
            self.effects.push_back(Effect::MemberJoined { id: join.id, roster });
        }
        let (local, plan) = (join.local.clone(), Plan::clone(&member.membership));
        let direction = Direction::SendReceive;
        let session = self.expect(Session::new(
            join.id,
            local,
            member.remote,
            direction,
            plan,
            now.instant,
        ));
        self.rooms.answered(join.id, session);
        self.apply_room_effects(now);
        self.join_broadcast(now, join.stream);
        Ok(number)
    }

    /// A later offer of a member. Gives the answer's SDP.
    ///
    /// # Errors
    /// When there is no such member, an offer of the server waits for its answer (the client is the polite side, and answers first), or the
    /// offer cannot be used; then nothing has changed.
    pub fn handle_room_offer(&mut self, now: Now, id: SessionId, offer: NextOffer<'_>) -> Result<String, Refusal> {
        let NextOffer {
            description,
            words,
            may_send,
            ice,
        } = offer;
        let Registry { tracks, sessions, .. } = &mut self.registry;
        let (effects, busy) = (&mut self.effects, self.shards_busy);
        let restart = IceRestart {
            ice,
            start: &mut |theirs, ours| {
                let restart = sessions.restart_ice(now.instant, id, theirs, ours, busy)?;
                effects.push_back(Effect::Command(Command::Restart(restart)));
                Ok(())
            },
        };
        let mut open = |name: &str| tracks.open(now.instant, name);
        let said = (description, words);
        let answered = self.rooms.offer(now.instant, id, said, may_send, &mut open, restart);
        self.after_rooms(now, id, answered)
    }

    /// A member's answer to our offer, whose number the client may say.
    ///
    /// # Errors
    /// When there is no such member, no offer waits, it is for an older one, or it cannot be used; then the offer still waits.
    pub fn handle_room_answer(
        &mut self,
        now: Now,
        id: SessionId,
        number: Option<u64>,
        answer: MemberDescription<'_>,
    ) -> Result<(), Refusal> {
        let tracks = &mut self.registry.tracks;
        let mut open = |name: &str| tracks.open(now.instant, name);
        let answered = self.rooms.answer(now.instant, id, number, answer, &mut open);
        self.after_rooms(now, id, answered)
    }

    /// The offer that the member is to answer, if there is one and it is time to send it, for the first time or again.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn next_offer(&mut self, now: Now, id: SessionId) -> Result<Option<ServerOffer>, Refusal> {
        let offer = self.rooms.next_offer(now.instant, id);
        self.after_rooms(now, id, offer)
    }

    /// Something that a member changes about itself.
    ///
    /// # Errors
    /// When there is no such member, or it changes too often.
    pub fn handle_change(&mut self, now: Now, id: SessionId, change: &Change) -> Result<(), Refusal> {
        let changed = self.rooms.change(now.instant, id, change);
        self.after_rooms(now, id, changed)
    }

    /// The member leaves.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn handle_leave(&mut self, now: Now, id: SessionId) -> Result<(), Refusal> {
        if self.registry.purpose(id) != Some(Purpose::Participate) {
            return Err(self.gone(id));
        }
        self.end(now, id, EndReason::Goodbye);
        Ok(())
    }

    /// The member has a connection on which it follows the room. Gives the number by which [`handle_unfollow`](Self::handle_unfollow)
    /// knows it.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn handle_follow(&mut self, now: Now, id: SessionId) -> Result<u64, Refusal> {
        let followed = self.rooms.follow(now.instant, id);
        self.after_rooms(now, id, followed)
    }

    /// That connection is gone.
    pub fn handle_unfollow(&mut self, now: Now, id: SessionId, follower: u64) {
        self.rooms.unfollow(now.instant, id, follower);
        self.apply_room_effects(now);
    }

    /// The room of a member, and its public number.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn membership(&self, id: SessionId) -> Result<(StreamName, SessionNumber), Refusal> {
        let (room, number) = self.rooms.whereabouts(id).ok_or_else(|| self.gone(id))?;
        Ok((room.clone(), number))
    }

    /// What follows from something that a member has asked for.
    fn after_rooms<T>(&mut self, now: Now, id: SessionId, done: Result<T, Refusal>) -> Result<T, Refusal> {
        self.apply_room_effects(now);
        done.map_err(|refusal| match refusal {
            Refusal::UnknownSession => self.gone(id),
            other => other,
        })
    }

    pub(super) fn apply_room_effects(&mut self, now: Now) {
        while let Some(effect) = self.rooms.poll_effect() {
            match effect {
                RoomEffect::Plan(session, plan) => self.command(Command::Plan(session, plan)),
                RoomEffect::Wake(id) => self.effects.push_back(Effect::Wake(id)),
                RoomEffect::Roster(roster) => self.effects.push_back(Effect::Roster(roster)),
                RoomEffect::Program(room) => {
                    self.update_program(now, &room);
                    self.announce(now, &room);
                }
                RoomEffect::End(id, why) => self.ends.push(id, why),
                RoomEffect::Close(tracks) => self.registry.tracks.close(tracks.key),
            }
        }
    }

    fn update_program(&mut self, now: Now, room: &StreamName) {
        let program = self.rooms.program(room);
        self.registry.set_program(now.instant, now.unix, room, program);
    }

    /// Nothing stays in the room of a member, or of a broadcast, that has ended.
    pub(super) fn leave_room(&mut self, now: Now, id: SessionId, room: &StreamName) {
        if self.rooms.roster(room).is_none() {
            return;
        }
        self.rooms.leave(now.instant, id);
        self.apply_room_effects(now);
        // A publisher took its stream's state along, and viewers may see a member all the same.
        if self.rooms.program(room).is_some() {
            self.update_program(now, room);
        }
        self.effects.push_back(Effect::MemberLeft(id));
        if self.rooms.roster(room).is_none() {
            self.effects.push_back(Effect::RoomClosed(room.clone()));
        }
    }

    /// If the stream's name is that of a room, its publisher takes part in it.
    pub(super) fn join_broadcast(&mut self, now: Now, name: &StreamName) {
        if self.rooms.roster(name).is_none() {
            return;
        }
        let Some(publisher) = self.registry.publisher(name) else {
            return;
        };
        let broadcast = Broadcast {
            session: publisher.session,
            number: publisher.session_number,
            since_unix: publisher.since_unix,
            codecs: publisher.codecs,
        };
        let tracks = &mut self.registry.tracks;
        let mut open = |name: &str| tracks.open(now.instant, name);
        self.rooms.broadcast(now.instant, name, broadcast, &mut open);
        self.apply_room_effects(now);
    }

    pub(super) fn member_media(&mut self, now: Now, id: SessionId, stream: StreamKey, kind: Kind, codec: Codec) {
        let known = self.membership(id);
        self.rooms.media(now.instant, id, stream, (kind, codec));
        self.apply_room_effects(now);
        if let Ok((stream, number)) = known {
            let party = Party::Member(number);
            self.notice(Notice::Sends {
                stream,
                party,
                kind,
                codec,
            });
        }
    }
}
