//! Rooms in simulated time, with clients of which the tests decide every word.

mod ends;
mod offers;
mod restarts;
mod sight;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::{EndReason, Purpose, Refusal, SdpRefusal, SessionNumber, StreamName, TrackMaker};
use onecast_engine::fanout::{Direction, Plan, Session};
use onecast_engine::media::StreamTracks;
use onecast_engine::media::lane::StreamKey;
use onecast_rtc::SessionId;
use onecast_rtc::rtp::Codec;
use onecast_rtc::sdp::negotiation::testing::{Client, params};
use onecast_rtc::sdp::{AnswerParams, MemberDescription, Offer, Role};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// One room with its members.
struct Bench {
    rooms: Rooms,
    maker: TrackMaker,
    program: Arc<StreamTracks>,
    now: Instant,
    clients: BTreeMap<u64, Client>,
    /// What the shards know.
    told: BTreeMap<u64, Arc<Plan>>,
    lifts: Vec<Arc<Plan>>,
    roster: Option<Arc<Roster>>,
    ends: Vec<(u64, EndReason)>,
    /// What followed, in its order.
    log: Vec<String>,
}

fn id(member: u64) -> SessionId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&member.to_be_bytes());
    SessionId::from_random(bytes)
}

/// A member with a microphone and a camera.
fn person() -> Client {
    let mut client = Client::default();
    client.add(Kind::Audio, "cam");
    client.add(Kind::Video, "cam");
    client
}

fn labels(all: &[(&str, &str)]) -> MemberInfo {
    MemberInfo {
        labels: all
            .iter()
            .map(|(mid, label)| ((*mid).into(), (*label).into()))
            .collect(),
        ..MemberInfo::default()
    }
}

impl Bench {
    fn new() -> Bench {
        let now = onecast_udp::clock::now();
        let mut maker = TrackMaker::new(Arc::new([]), 7);
        let program = maker.open(now, "main");
        Bench {
            rooms: Rooms::default(),
            maker,
            program,
            now,
            clients: BTreeMap::new(),
            told: BTreeMap::new(),
            lifts: Vec::new(),
            roster: None,
            ends: Vec::new(),
            log: Vec::new(),
        }
    }

    fn name() -> StreamName {
        "main".parse().unwrap()
    }

    /// A room of these members. Each has a microphone and a camera and is sent everything.
    fn with(members: std::ops::RangeInclusive<u64>) -> Bench {
        let mut bench = Bench::new();
        members.for_each(|member| bench.come(member));
        bench.settle();
        bench.log.clear();
        bench
    }

    fn come(&mut self, member: u64) {
        self.join(member, person(), &MemberInfo::default(), true).unwrap();
        self.connect(member);
    }

    fn join(&mut self, member: u64, mut client: Client, words: &MemberInfo, may_send: bool) -> Result<(), Refusal> {
        let name = Bench::name();
        let (offer, answer) = InitialOffer::answer(&client.offer(), params())?;
        offer.check_may_send(may_send)?;
        let joining = Joining {
            id: id(member),
            number: SessionNumber(member),
            room: &name,
            program: &self.program,
            offer,
            words,
            unix: Duration::from_secs(member),
        };
        let (now, maker) = (self.now, &mut self.maker);
        let joined = self.rooms.join(now, joining, &mut |name| maker.open(now, name));
        client.take_answer(&answer);
        self.told.insert(member, joined.membership.clone());
        let plan = Plan::clone(&joined.membership);
        let (local, direction) = (params().ice, Direction::SendReceive);
        let session = Session::new(id(member), local, joined.remote, direction, plan, now);
        self.rooms.answered(id(member), Arc::new(session));
        self.clients.insert(member, client);
        self.absorb();
        Ok(())
    }

    fn connect(&mut self, member: u64) {
        self.rooms.connected(self.now, id(member));
        self.absorb();
    }

    fn leave(&mut self, member: u64) {
        self.rooms.leave(self.now, id(member));
        self.absorb();
        self.clients.remove(&member);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.rooms.handle_timeout(self.now);
        self.absorb();
    }

    /// A client offers as it is now.
    fn offer(&mut self, member: u64, words: &MemberInfo) -> Result<(), Refusal> {
        self.offer_with(member, words, true)
    }

    fn offer_with(&mut self, member: u64, words: &MemberInfo, may_send: bool) -> Result<(), Refusal> {
        let (now, maker) = (self.now, &mut self.maker);
        let client = self.clients.get_mut(&member).unwrap();
        let offer = client.offer();
        let mut open = |name: &str| maker.open(now, name);
        let said = (MemberDescription::read(&offer), words);
        let restart = IceRestart {
            ice: params().ice,
            start: &mut |_, _| panic!("the same ICE session"),
        };
        let answer = self.rooms.offer(now, id(member), said, may_send, &mut open, restart)?;
        client.take_answer(&answer);
        self.absorb();
        Ok(())
    }

    fn next_offer(&mut self, member: u64) -> Option<ServerOffer> {
        let offer = self.rooms.next_offer(self.now, id(member)).unwrap();
        self.absorb();
        offer
    }

    fn answer(&mut self, member: u64, offer: &ServerOffer) -> Result<(), Refusal> {
        let answer = self.clients.get_mut(&member).unwrap().answer(&offer.sdp);
        self.answer_with(member, Some(offer.number), &answer)
    }

    fn answer_with(&mut self, member: u64, number: Option<u64>, answer: &str) -> Result<(), Refusal> {
        let (now, maker) = (self.now, &mut self.maker);
        let mut open = |name: &str| maker.open(now, name);
        let answer = MemberDescription::read(answer);
        self.rooms.answer(now, id(member), number, answer, &mut open)?;
        self.absorb();
        Ok(())
    }

    /// All members answer until no offer waits. Returns how many offers that took.
    fn settle(&mut self) -> usize {
        let members: Vec<u64> = self.clients.keys().copied().collect();
        let mut offers = 0;
        for member in members {
            while let Some(offer) = self.next_offer(member) {
                self.answer(member, &offer).unwrap();
                offers += 1;
                assert!(offers < 1_000, "offers without end");
            }
        }
        offers
    }

    fn speaks(&mut self, member: u64, speaks: bool) {
        let key = self.source(member, 0);
        self.rooms.speaking(self.now, id(member), key, speaks);
        self.absorb();
    }

    fn change(&mut self, member: u64, change: Change) {
        self.rooms.change(self.now, id(member), &change).unwrap();
        self.absorb();
    }

    /// A stream that a member sends.
    fn source(&self, member: u64, place: usize) -> StreamKey {
        self.told[&member].sources[place].tracks.key
    }

    /// What a member is sent, for instance `m2.0 av` or, of one that is switched off, `m2.0`.
    fn sees(&self, member: u64) -> Vec<String> {
        let subscriptions = self.told[&member].subscriptions.iter();
        let text = |spec: &onecast_engine::fanout::SubscriptionSpec| {
            let audio = if spec.audio.is_some() { "a" } else { "" };
            let video = if spec.video.is_some() { "v" } else { "" };
            format!("{} {audio}{video}", spec.tracks.name).trim().to_owned()
        };
        subscriptions.map(text).collect()
    }

    /// What a member sends, in the same words.
    fn sends(&self, member: u64) -> Vec<String> {
        let sources = self.told[&member].sources.iter();
        let text = |spec: &onecast_engine::fanout::SourceSpec| {
            let audio = if spec.audio.is_some() { "a" } else { "" };
            let video = if spec.video.is_some() { "v" } else { "" };
            format!("{} {audio}{video}", spec.tracks.name).trim().to_owned()
        };
        sources.map(text).collect()
    }

    /// Whose stream viewers of the room see.
    fn on_air(&self) -> Vec<u64> {
        let on_air = |plan: &Plan| plan.sources.iter().any(|source| source.program.is_some());
        let all = self.told.iter().filter(|(_, membership)| on_air(membership));
        all.map(|(member, _)| *member).collect()
    }

    fn absorb(&mut self) {
        while let Some(effect) = self.rooms.poll_effect() {
            let number = |of: SessionId| (1..=200).find(|member| id(*member) == of).unwrap();
            self.log.push(match effect {
                RoomEffect::Plan(session, plan) if session.direction == Direction::SendOnly => {
                    assert!(!self.told.contains_key(&number(session.id)));
                    self.lifts.push(plan);
                    "lift".to_owned()
                }
                RoomEffect::Plan(session, membership) => {
                    let member = number(session.id);
                    let before = self.told.insert(member, membership.clone()).unwrap();
                    assert!(membership.number > before.number, "each has a number of its own");
                    format!("told {member}")
                }
                RoomEffect::Wake(of) => format!("wake {}", number(of)),
                RoomEffect::Roster(roster) => {
                    self.roster = Some(roster);
                    "roster".to_owned()
                }
                RoomEffect::Program(_) => "air".to_owned(),
                RoomEffect::End(of, why) => {
                    self.ends.push((number(of), why));
                    "end".to_owned()
                }
                RoomEffect::Close(tracks) => {
                    self.maker.close(tracks.key);
                    format!("close {}", tracks.name)
                }
            });
        }
    }
}
