//! One room: from what its members send and say follows what each of them is sent.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::member::{Member, Shown, wanted};
use super::ranking::Ranking;
use super::rooms::{Program, RoomEffect};
use super::{Roster, ServerOffer};
use crate::StreamName;
use crate::registry::SessionNumber;
use onecast_engine::fanout::{Plan, SourceSpec, SubscriptionSpec};
use onecast_engine::media::StreamTracks;
use onecast_rtc::SessionId;
use onecast_rtc::sdp::TrackId;

/// A room that has members.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: StreamName,
    /// The stream of the whole room, for viewers.
    program: Arc<StreamTracks>,
    /// In the order in which they joined.
    pub(super) members: Vec<Member>,
    pub(super) ranking: Ranking,
    /// The tracks that others can be sent, and how often they have changed.
    shown: (Vec<Shown>, u64),
    air: Option<ActiveSpeaker>,
    /// What was announced of it: the stream's serial number, and the program. `None` when it has to be announced again.
    told_program: Option<Told>,
    roster: Arc<Roster>,
}

/// The member that viewers of the room see.
#[derive(Debug, Clone, Copy)]
struct ActiveSpeaker {
    member: SessionNumber,
    /// The stream's serial number.
    stream: u32,
    since: Instant,
}

type Told = (Option<u32>, Option<Program>);

impl Room {
    /// The active speaker stays for this long even if another member speaks: a faster change is hard to watch.
    const HOLD: Duration = Duration::from_secs(2);
    /// In a larger room only the audio of this many recent speakers is sent: more voices at once cannot be understood.
    const AUDIBLE: usize = 25;

    pub(super) fn new(name: StreamName, program: Arc<StreamTracks>) -> Room {
        let roster = Roster {
            room: name.clone(),
            members: Vec::new(),
            speaker: None,
        };
        Room {
            name,
            program,
            members: Vec::new(),
            ranking: Ranking::default(),
            shown: (Vec::new(), 0),
            air: None,
            told_program: Some((None, None)),
            roster: Arc::new(roster),
        }
    }

    pub(super) fn member(&mut self, id: SessionId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    pub(super) fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// Computes what follows from the present state.
    pub(super) fn settle(&mut self, now: Instant, effects: &mut VecDeque<RoomEffect>) {
        self.choose_active_speaker(now);
        self.show();
        for place in 0..self.members.len() {
            self.update_shards(place, effects);
            self.wake_for_offer(place, effects);
        }
        self.update_program(effects);
        self.update_roster(effects);
    }

    /// Computes what follows when one member has answered and nothing else has changed.
    pub(super) fn settle_answer(&mut self, id: SessionId, effects: &mut VecDeque<RoomEffect>) {
        if let Some(place) = self.members.iter().position(|member| member.id == id) {
            self.update_shards(place, effects);
            self.wake_for_offer(place, effects);
        }
    }

    /// When the active speaker changes without further input.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let air = self.air?;
        let next = self.next_speaker()?;
        (next.0 != air.member).then_some(air.since + Room::HOLD)
    }

    /// The offer that a member is to be sent now, for the first time or again.
    pub(super) fn next_offer(&mut self, now: Instant, id: SessionId) -> Option<ServerOffer> {
        let place = self.members.iter().position(|member| member.id == id)?;
        let (shown, version) = (&self.shown.0, self.shown.1);
        let member = &mut self.members[place];
        let signalling = member.signalling.as_mut()?;
        if signalling.offers.waiting().is_some() {
            return signalling.offers.repeat(now, signalling.follower > 0);
        }
        if !signalling.needs_offer(member.number, shown, version) {
            return None;
        }
        let sdp = signalling.call.offer(&wanted(shown, member.number), &signalling.params);
        let labels = self.labels();
        let label = |id: TrackId| labels.iter().find(|(of, _)| *of == id).map(|(_, label)| label.clone());
        let signalling = self.members[place].signalling.as_mut()?;
        let tracks = signalling.offered(&self.shown.0, label);
        Some(signalling.offers.send(now, sdp, tracks))
    }

    fn show(&mut self) {
        let shown: Vec<Shown> = self.members.iter().flat_map(Member::shown).collect();
        if shown != self.shown.0 {
            self.shown = (shown, self.shown.1 + 1);
        }
    }

    fn labels(&self) -> Vec<(TrackId, Box<str>)> {
        let streams = self.members.iter().flat_map(|member| member.streams.iter());
        let label =
            |stream: &super::streams::MemberStream, kind| Some((stream.track(kind), stream.label(kind)?.into()));
        streams
            .flat_map(|stream| {
                onecast_rtc::rtp::Kind::ALL
                    .into_iter()
                    .filter_map(|kind| label(stream, kind))
            })
            .collect()
    }

    /// The first member of the ranking that sends something, with the stream that viewers see of it.
    fn next_speaker(&self) -> Option<(SessionNumber, u32)> {
        self.ranking.iter().find_map(|number| {
            let member = self.members.iter().find(|member| member.number == number)?;
            Some((number, member.for_viewers()?.serial()))
        })
    }

    fn choose_active_speaker(&mut self, now: Instant) {
        let next = self.next_speaker();
        let holds = self.air.filter(|air| {
            let holder = self.members.iter().find(|member| member.number == air.member);
            let still = holder.and_then(Member::for_viewers);
            still.is_some_and(|stream| stream.serial() == air.stream)
        });
        if let (Some(air), Some((member, _))) = (holds, next)
            && (air.member == member || now < air.since + Room::HOLD)
        {
            return;
        }
        let before = self.air.map(|air| (air.member, air.stream));
        if before == next {
            return;
        }
        self.air = next.map(|(member, stream)| ActiveSpeaker {
            member,
            stream,
            since: now,
        });
    }

    fn update_program(&mut self, effects: &mut VecDeque<RoomEffect>) {
        let told = (self.air.map(|air| air.stream), self.program());
        if self.told_program != Some(told) {
            self.told_program = Some(told);
            effects.push_back(RoomEffect::Program(self.name.clone()));
        }
    }

    /// A broadcast begins or ends under the room's name, and its shard has the room's stream for a moment: the active speaker is to take
    /// it back.
    pub(super) fn renew_program(&mut self) {
        self.told_program = None;
        let holder = self.air.map(|air| air.member);
        let holder = self.members.iter_mut().find(|member| Some(member.number) == holder);
        let Some(holder) = holder else { return };
        match &mut holder.signalling {
            Some(signalling) => signalling.renewed = true,
            // The broadcast that was on air before: it is announced again.
            None => holder.lifted = holder.lifted.map(|(number, _)| (number, false)),
        }
    }

    /// The stream that has the room's name has these tracks: others than before if the room was empty in between.
    pub(super) fn belongs_to(&mut self, program: &Arc<StreamTracks>) {
        if self.program.key != program.key {
            self.program = program.clone();
            self.told_program = None;
            self.members.iter_mut().for_each(|member| {
                member.lifted = member.lifted.map(|(number, on_air)| (number, !on_air));
            });
        }
    }

    /// Tells the shards what a member sends and is sent, if that has changed.
    fn update_shards(&mut self, place: usize, effects: &mut VecDeque<RoomEffect>) {
        if self.members[place].is_broadcast() {
            return self.update_lift(place, effects);
        }
        let sources = self.sources(place);
        // Taken out, because what it is sent is decided by what all others send.
        let Some(mut signalling) = self.members[place].signalling.take() else {
            return;
        };
        let decided = signalling.decide(&self.turns(place, signalling.last_n));
        let member = &mut self.members[place];
        let signalling = member.signalling.insert(signalling);
        let renewed = std::mem::take(&mut signalling.renewed);
        if !renewed && decided.is_none() && are_same_sources(&sources, &signalling.membership.sources) {
            return;
        }
        let subscriptions = decided.map(Vec::into_boxed_slice);
        let next = Plan {
            number: signalling.membership.number + 1,
            sources: sources.into(),
            subscriptions: subscriptions.unwrap_or_else(|| signalling.membership.subscriptions.clone()),
        };
        if !renewed && is_same(&next, &signalling.membership) {
            return;
        }
        signalling.membership = Arc::new(next);
        if let Some(session) = &member.session {
            effects.push_back(RoomEffect::Plan(session.clone(), signalling.membership.clone()));
        }
    }

    fn update_lift(&mut self, place: usize, effects: &mut VecDeque<RoomEffect>) {
        let air = self.air.map(|air| air.stream);
        let program = &self.program;
        let member = &mut self.members[place];
        let (Some(session), Some(stream)) = (&member.session, member.streams.iter().next()) else {
            return;
        };
        let on_air = air == Some(stream.serial());
        if member.lifted.is_some_and(|(_, was)| was == on_air) {
            return;
        }
        let number = member.lifted.map_or(1, |(number, _)| number + 1);
        member.lifted = Some((number, on_air));
        let plan = Plan {
            number,
            sources: Box::new([stream.source(on_air.then(|| program.clone()))]),
            subscriptions: Box::default(),
        };
        effects.push_back(RoomEffect::Plan(session.clone(), Arc::new(plan)));
    }

    fn sources(&self, place: usize) -> Vec<SourceSpec> {
        let air = self.air.map(|air| air.stream);
        let streams = self.members[place].streams.iter();
        let source = |stream: &super::streams::MemberStream| {
            let on_air = air == Some(stream.serial());
            stream.source(on_air.then(|| self.program.clone()))
        };
        streams.map(source).collect()
    }

    /// The streams of all others, each with the kinds that are to be sent to this member.
    fn turns(&self, place: usize, last_n: usize) -> Vec<(&Arc<StreamTracks>, [bool; 2])> {
        let number = self.members[place].number;
        let audible: BTreeSet<SessionNumber> = self.ranking.first_for(number, Room::AUDIBLE).collect();
        let visible: BTreeSet<SessionNumber> = self.ranking.first_for(number, last_n).collect();
        let others = self.members.iter().filter(|other| other.number != number);
        let streams = others.flat_map(|other| {
            let turns = [audible.contains(&other.number), visible.contains(&other.number)];
            other.streams.iter().map(move |stream| (stream, turns))
        });
        let presented = streams.map(|(stream, turns)| {
            let presents = stream.is_presentation();
            (&stream.tracks, turns.map(|has_turn| has_turn || presents))
        });
        presented.collect()
    }

    fn wake_for_offer(&mut self, place: usize, effects: &mut VecDeque<RoomEffect>) {
        let member = &mut self.members[place];
        let Some(signalling) = &mut member.signalling else {
            return;
        };
        if signalling.offers.waiting().is_none() && signalling.needs_offer(member.number, &self.shown.0, self.shown.1) {
            effects.push_back(RoomEffect::Wake(member.id));
        }
    }

    fn update_roster(&mut self, effects: &mut VecDeque<RoomEffect>) {
        let connected = self.members.iter().filter(|member| member.connected);
        let roster = Roster {
            room: self.name.clone(),
            members: connected.map(Member::state).collect(),
            speaker: self.air.map(|air| air.member),
        };
        if roster != *self.roster {
            self.roster = Arc::new(roster);
            effects.push_back(RoomEffect::Roster(self.roster.clone()));
        }
    }

    /// What viewers see, and in which codecs it is sent.
    pub(super) fn program(&self) -> Option<Program> {
        let air = self.air?;
        let member = self.members.iter().find(|member| member.number == air.member)?;
        let stream = member.for_viewers()?;
        Some(Program {
            codecs: onecast_rtc::rtp::Kind::ALL.map(|kind| stream.codec(kind).filter(|_| stream.sends(kind))),
            is_broadcast: member.is_broadcast(),
        })
    }
}

fn are_same_sources(one: &[SourceSpec], other: &[SourceSpec]) -> bool {
    let key = |tracks: &Option<Arc<StreamTracks>>| tracks.as_ref().map(|tracks| tracks.key);
    let are_same = |(a, b): (&SourceSpec, &SourceSpec)| {
        a.tracks.key == b.tracks.key && a.audio == b.audio && a.video == b.video && key(&a.program) == key(&b.program)
    };
    one.len() == other.len() && one.iter().zip(other).all(are_same)
}

fn is_same(one: &Plan, other: &Plan) -> bool {
    let subscriptions = |a: &SubscriptionSpec, b: &SubscriptionSpec| {
        a.tracks.key == b.tracks.key && a.audio == b.audio && a.video == b.video
    };
    are_same_sources(&one.sources, &other.sources)
        && one.subscriptions.len() == other.subscriptions.len()
        && one
            .subscriptions
            .iter()
            .zip(&other.subscriptions)
            .all(|(a, b)| subscriptions(a, b))
}
