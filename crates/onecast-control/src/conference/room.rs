//! One room: from what its members send and say follows what each of them is sent.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::member::{Member, Shown, wanted};
use super::ranking::Ranking;
use super::rooms::{Effect, Program};
use super::{Roster, ServerOffer};
use crate::StreamName;
use onecast_engine::fanout::{Plan, SourceSpec, SubscriptionSpec};
use onecast_engine::media::StreamTracks;
use onecast_rtc::SessionId;
use onecast_rtc::sdp::TrackId;

/// A room with somebody in it.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: StreamName,
    /// The stream of the whole room, for viewers.
    program: Arc<StreamTracks>,
    /// In the order in which they came.
    pub(super) members: Vec<Member>,
    pub(super) ranking: Ranking,
    /// What of its members others can be sent, and how often that has changed.
    shown: (Vec<Shown>, u64),
    air: Option<OnAir>,
    /// What was told of that: the stream's serial number, and what it is. `None` when it is to be told anew.
    told_air: Option<Told>,
    roster: Arc<Roster>,
}

/// What viewers of the room see.
#[derive(Debug, Clone, Copy)]
struct OnAir {
    member: u64,
    /// The stream's serial number.
    stream: u32,
    since: Instant,
}

type Told = (Option<u32>, Option<Program>);

impl Room {
    /// Somebody who has the floor keeps it for so long, whoever else speaks: viewers shall see more than heads turning.
    const HOLD: Duration = Duration::from_secs(2);
    /// Whose audio is sent to everybody, in a room of more: the last who spoke. Nobody understands more at once.
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
            told_air: Some((None, None)),
            roster: Arc::new(roster),
        }
    }

    pub(super) fn member(&mut self, id: SessionId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    pub(super) fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// Members in the proper sense.
    pub(super) fn seats(&self) -> usize {
        self.members.iter().filter(|member| !member.is_broadcast()).count()
    }

    /// Brings about what follows from how things are now.
    pub(super) fn settle(&mut self, now: Instant, effects: &mut VecDeque<Effect>) {
        self.choose_who_is_on_air(now);
        self.show();
        for place in 0..self.members.len() {
            self.tell_shards(place, effects);
            self.wake_for_offer(place, effects);
        }
        self.tell_viewers(effects);
        self.tell_everybody(effects);
    }

    /// Brings about what follows when one member has answered, and nothing else is different.
    pub(super) fn settle_answer(&mut self, id: SessionId, effects: &mut VecDeque<Effect>) {
        if let Some(place) = self.members.iter().position(|member| member.id == id) {
            self.tell_shards(place, effects);
            self.wake_for_offer(place, effects);
        }
    }

    /// When somebody else gets the floor without anything happening.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let air = self.air?;
        let next = self.next_on_air()?;
        (next.0 != air.member).then_some(air.since + Room::HOLD)
    }

    /// The offer that a member is to be sent now, for the first time or again.
    pub(super) fn next_offer(&mut self, now: Instant, id: SessionId) -> Option<ServerOffer> {
        let place = self.members.iter().position(|member| member.id == id)?;
        let (shown, version) = (&self.shown.0, self.shown.1);
        let member = &mut self.members[place];
        let seat = member.seat.as_mut()?;
        if seat.offers.waiting().is_some() {
            return seat.offers.repeat(now, seat.follower > 0);
        }
        if !seat.needs_offer(member.handle, shown, version) {
            return None;
        }
        let sdp = seat.call.offer(&wanted(shown, member.handle), &seat.params);
        let labels = self.labels();
        let label = |id: TrackId| labels.iter().find(|(of, _)| *of == id).map(|(_, label)| label.clone());
        let seat = self.members[place].seat.as_mut()?;
        let tracks = seat.offered(&self.shown.0, label);
        Some(seat.offers.send(now, sdp, tracks))
    }

    fn show(&mut self) {
        let shown: Vec<Shown> = self.members.iter().flat_map(Member::shown).collect();
        if shown != self.shown.0 {
            self.shown = (shown, self.shown.1 + 1);
        }
    }

    fn labels(&self) -> Vec<(TrackId, Box<str>)> {
        let streams = self.members.iter().flat_map(|member| member.streams.iter());
        let label = |stream: &super::streams::Stream, kind| Some((stream.track(kind), stream.label(kind)?.into()));
        streams
            .flat_map(|stream| {
                onecast_rtc::rtp::Kind::ALL
                    .into_iter()
                    .filter_map(|kind| label(stream, kind))
            })
            .collect()
    }

    /// The first of the ranking who has something to see, with the stream that is shown of it.
    fn next_on_air(&self) -> Option<(u64, u32)> {
        self.ranking.iter().find_map(|handle| {
            let member = self.members.iter().find(|member| member.handle == handle)?;
            Some((handle, member.for_viewers()?.serial()))
        })
    }

    fn choose_who_is_on_air(&mut self, now: Instant) {
        let next = self.next_on_air();
        let holds = self.air.filter(|air| {
            let holder = self.members.iter().find(|member| member.handle == air.member);
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
        self.air = next.map(|(member, stream)| OnAir {
            member,
            stream,
            since: now,
        });
    }

    fn tell_viewers(&mut self, effects: &mut VecDeque<Effect>) {
        let told = (self.air.map(|air| air.stream), self.on_air());
        if self.told_air != Some(told) {
            self.told_air = Some(told);
            effects.push_back(Effect::Air(self.name.clone()));
        }
    }

    /// A broadcast begins or ends under the room's name, which takes the stream of the whole room for a moment: whoever is on air is to
    /// take it back.
    pub(super) fn renew_air(&mut self) {
        self.told_air = None;
        let holder = self.air.map(|air| air.member);
        let holder = self.members.iter_mut().find(|member| Some(member.handle) == holder);
        let Some(holder) = holder else { return };
        match &mut holder.seat {
            Some(seat) => seat.renewed = true,
            // The broadcast of before: that it is on air is told as news.
            None => holder.lifted = holder.lifted.map(|(number, _)| (number, false)),
        }
    }

    /// The stream of the room's name has these tracks. They are others when the last of the room left while somebody came.
    pub(super) fn belongs_to(&mut self, program: &Arc<StreamTracks>) {
        if self.program.key != program.key {
            self.program = program.clone();
            self.told_air = None;
            self.members.iter_mut().for_each(|member| {
                member.lifted = member.lifted.map(|(number, on_air)| (number, !on_air));
            });
        }
    }

    /// What the shards have to know of a member, if it is not what they know.
    fn tell_shards(&mut self, place: usize, effects: &mut VecDeque<Effect>) {
        if self.members[place].is_broadcast() {
            return self.tell_lift(place, effects);
        }
        let sources = self.sources(place);
        // Taken out, because what it is sent is decided by what all others send.
        let Some(mut seat) = self.members[place].seat.take() else {
            return;
        };
        let decided = seat.decide(&self.turns(place, seat.last_n));
        let member = &mut self.members[place];
        let seat = member.seat.insert(seat);
        let renewed = std::mem::take(&mut seat.renewed);
        if !renewed && decided.is_none() && are_same_sources(&sources, &seat.membership.sources) {
            return;
        }
        let subscriptions = decided.map(Vec::into_boxed_slice);
        let next = Plan {
            number: seat.membership.number + 1,
            sources: sources.into(),
            subscriptions: subscriptions.unwrap_or_else(|| seat.membership.subscriptions.clone()),
        };
        if !renewed && is_same(&next, &seat.membership) {
            return;
        }
        seat.membership = Arc::new(next);
        if let Some(session) = &member.session {
            effects.push_back(Effect::Membership(session.clone(), seat.membership.clone()));
        }
    }

    fn tell_lift(&mut self, place: usize, effects: &mut VecDeque<Effect>) {
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
        effects.push_back(Effect::Lift(session.clone(), Arc::new(plan)));
    }

    fn sources(&self, place: usize) -> Vec<SourceSpec> {
        let air = self.air.map(|air| air.stream);
        let streams = self.members[place].streams.iter();
        let source = |stream: &super::streams::Stream| {
            let on_air = air == Some(stream.serial());
            stream.source(on_air.then(|| self.program.clone()))
        };
        streams.map(source).collect()
    }

    /// The streams of all others, each with the kinds that have their turn to be sent to this member.
    fn turns(&self, place: usize, last_n: usize) -> Vec<(&Arc<StreamTracks>, [bool; 2])> {
        let handle = self.members[place].handle;
        let audible: BTreeSet<u64> = self.ranking.first_for(handle, Room::AUDIBLE).collect();
        let visible: BTreeSet<u64> = self.ranking.first_for(handle, last_n).collect();
        let others = self.members.iter().filter(|other| other.handle != handle);
        let streams = others.flat_map(|other| {
            let turns = [audible.contains(&other.handle), visible.contains(&other.handle)];
            other.streams.iter().map(move |stream| (stream, turns))
        });
        let presented = streams.map(|(stream, turns)| {
            let presents = stream.is_presentation();
            (&stream.tracks, turns.map(|has_turn| has_turn || presents))
        });
        presented.collect()
    }

    fn wake_for_offer(&mut self, place: usize, effects: &mut VecDeque<Effect>) {
        let member = &mut self.members[place];
        let Some(seat) = &mut member.seat else { return };
        if seat.offers.waiting().is_none() && seat.needs_offer(member.handle, &self.shown.0, self.shown.1) {
            effects.push_back(Effect::Wake(member.id));
        }
    }

    fn tell_everybody(&mut self, effects: &mut VecDeque<Effect>) {
        let connected = self.members.iter().filter(|member| member.connected);
        let roster = Roster {
            room: self.name.clone(),
            members: connected.map(Member::state).collect(),
            speaker: self.air.map(|air| air.member),
        };
        if roster != *self.roster {
            self.roster = Arc::new(roster);
            effects.push_back(Effect::Roster(self.roster.clone()));
        }
    }

    /// What viewers see, and in which codecs it is sent.
    pub(super) fn on_air(&self) -> Option<Program> {
        let air = self.air?;
        let member = self.members.iter().find(|member| member.handle == air.member)?;
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
