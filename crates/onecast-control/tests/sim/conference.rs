//! A conference as its server runs it: the real rooms and shards, and signalling over ways that are slow and lose things.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_control::conference::{
    Change, IceRestart, InitialOffer, Joining, MemberInfo, RoomEffect, Rooms, ServerOffer,
};
use onecast_control::{EndReason, Refusal, SessionNumber, StreamName, TrackMaker};
use onecast_engine::fanout::{Command, Direction, Event, Plan, Session};
use onecast_engine::media::StreamTracks;
use onecast_engine::media::lane::StreamSlot;
use onecast_rtc::client_peer::{Answered, ClientPeer};
use onecast_rtc::rtp::Ssrc;
use onecast_rtc::sdp::{MemberDescription, NegotiationParams};
use onecast_rtc::{IceCredentials, SessionId};

use crate::caller::Caller;
use crate::calls::{Calls, sections};
use crate::client::Actor;
use crate::guard::Allowed;
use crate::network::{Link, Random};
use crate::person::{Person, Reply, Request, Stage, Way};
use crate::scenarios::ms;
use crate::world::{World, certificate, client_certificate};

pub(crate) struct Conference {
    pub(crate) world: World,
    pub(crate) people: Vec<Person>,
    pub(crate) rooms: Rooms,
    name: StreamName,
    maker: TrackMaker,
    program: Arc<StreamTracks>,
    /// Tracks that are not closed, by slot.
    open: BTreeMap<StreamSlot, Arc<StreamTracks>>,
    closed: Vec<Arc<StreamTracks>>,
    members: BTreeMap<usize, Member>,
    by_id: HashMap<SessionId, usize>,
    mail: BinaryHeap<Reverse<Mail>>,
    letters: HashMap<u64, Letter>,
    /// When the last letter of a socket arrives, by person and direction.
    busy: HashMap<(usize, bool), Instant>,
    written: u64,
    random: Random,
    events: usize,
    joined: u32,
    /// Members whom rooms have ended.
    pub(crate) ended: Vec<EndReason>,
    /// Most tracks at once.
    pub(crate) tracks_max: usize,
    pub(crate) offers: usize,
    pub(crate) refused: usize,
}

/// The server's books of a member, by its place among the clients.
struct Member {
    id: SessionId,
    person: usize,
    address: SocketAddr,
    session: Arc<Session>,
    /// The offer that waits.
    waiting: Option<ServerOffer>,
    /// A question for offers that is kept waiting, and until when.
    polled: Option<(u64, Instant)>,
    follower: Option<u64>,
    look_at: Instant,
    /// It never heard that it is in.
    lost_until: Option<Instant>,
}

type Mail = (Instant, u64);

/// A message on its way.
struct Letter {
    person: usize,
    connection: u32,
    ticket: u64,
    what: What,
}

enum What {
    Request(Option<SessionId>, Request),
    Reply(Reply),
}

/// How long one step takes at most: how late the server hears of its shards.
const STEP: Duration = ms(20);
/// Per mille.
const LETTERS_LOST: u64 = 40;
/// What is taken away may be under way.
const GRACE: Duration = ms(500);

impl Conference {
    pub(crate) fn new(seed: u64, shards: usize, link: Link) -> Conference {
        let mut world = World::new(seed, shards, link);
        world.guard.allowed = Some(Allowed::default());
        let mut random = Random::new(seed ^ 0x5a5a);
        let mut maker = TrackMaker::new(world.inboxes.clone(), random.next() as u32);
        let program = maker.open(world.now, "main");
        Conference {
            world,
            people: Vec::new(),
            rooms: Rooms::default(),
            name: "main".parse().unwrap(),
            maker,
            program,
            open: BTreeMap::new(),
            closed: Vec::new(),
            members: BTreeMap::new(),
            by_id: HashMap::new(),
            mail: BinaryHeap::new(),
            letters: HashMap::new(),
            busy: HashMap::new(),
            written: 0,
            random,
            events: 0,
            joined: 0,
            ended: Vec::new(),
            tracks_max: 0,
            offers: 0,
            refused: 0,
        }
    }

    /// Adds a person that will join after this time. Returns its index in `people`.
    pub(crate) fn invite(&mut self, way: Way, after: Duration) -> usize {
        let number = self.people.len();
        let ice = IceCredentials {
            ufrag: format!("client{number}xxxx").into(),
            pwd: format!("client{number}01234567890123456789012").into(),
        };
        let calls = Calls::new(
            ice,
            client_certificate().fingerprint().to_string(),
            number.is_multiple_of(2),
        );
        let random = Random::new(self.world.seed * 1_000 + number as u64);
        self.people
            .push(Person::new(way, calls, self.world.now + after, random));
        number
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            self.step(end);
        }
    }

    /// Until it holds; false if it did not within `time`.
    pub(crate) fn run_until(&mut self, time: Duration, holds: impl Fn(&mut Conference) -> bool) -> bool {
        let end = self.world.now + time;
        while self.world.now < end {
            if holds(self) {
                return true;
            }
            self.run(ms(100));
        }
        holds(self)
    }

    fn step(&mut self, end: Instant) {
        let now = self.world.now;
        let mail = self.mail.peek().map_or(end, |Reverse((at, _))| *at);
        let next = mail.min(end).clamp(now + ms(1), now + STEP);
        self.world.run(next - now);
        self.hear_shards();
        let now = self.world.now;
        while self.mail.peek().is_some_and(|Reverse((at, _))| *at <= now)
            && let Some(Reverse((_, number))) = self.mail.pop()
        {
            let letter = self.letters.remove(&number).unwrap();
            self.deliver(letter);
        }
        for person in 0..self.people.len() {
            self.let_live(person);
        }
        self.rooms.handle_timeout(now);
        self.bring_about();
        self.look_after_members();
    }

    /// What the shards tell, as `app/events.rs` takes it.
    fn hear_shards(&mut self) {
        let now = self.world.now;
        for place in self.events..self.world.events.len() {
            match self.world.events[place].1.clone() {
                Event::Connected { session, .. } => self.rooms.connected(now, session),
                Event::Media {
                    session,
                    stream,
                    kind,
                    codec,
                } => self.rooms.media(now, session, stream, (kind, codec)),
                Event::Speaking {
                    session,
                    stream,
                    speaking,
                } => self.rooms.speaking(now, session, stream, speaking),
                Event::Closed { session, .. } => self.end(session),
                _ => {}
            }
            self.bring_about();
        }
        self.events = self.world.events.len();
    }

    fn end(&mut self, id: SessionId) {
        let now = self.world.now;
        if let Some(client) = self.by_id.remove(&id) {
            let member = self.members.remove(&client).unwrap();
            self.world.command(&Command::Close(member.session));
            self.rooms.leave(now, id);
            self.bring_about();
        }
    }

    fn bring_about(&mut self) {
        while let Some(effect) = self.rooms.poll_effect() {
            match effect {
                RoomEffect::Plan(session, plan) => self.world.command(&Command::Plan(session, plan)),
                RoomEffect::Wake(id) => {
                    if let Some(member) = self.by_id.get(&id).and_then(|client| self.members.get_mut(client)) {
                        member.look_at = self.world.now;
                    }
                }
                RoomEffect::Roster(roster) => {
                    let tracks = roster.members.iter().map(|member| member.tracks.len()).sum();
                    self.tracks_max = self.tracks_max.max(tracks);
                }
                RoomEffect::Program(_) => {}
                RoomEffect::End(id, why) => {
                    self.ended.push(why);
                    let person = self.by_id.get(&id).map(|client| self.members[client].person);
                    self.end(id);
                    if let Some(person) = person.filter(|person| self.people[*person].way == Way::Socket) {
                        self.reply(person, 0, Reply::Closed);
                    }
                }
                RoomEffect::Close(tracks) => {
                    let known = self.open.remove(&tracks.key.slot).unwrap();
                    assert_eq!(known.key, tracks.key, "closed once");
                    self.maker.close(tracks.key);
                    self.closed.push(tracks);
                }
            }
        }
    }

    /// Pushes offers, and ends the long polls that wait for them.
    fn look_after_members(&mut self) {
        let now = self.world.now;
        let due = |member: &Member| member.look_at <= now || member.polled.is_some_and(|(_, until)| until <= now);
        let clients: Vec<usize> = self
            .members
            .iter()
            .filter(|(_, one)| due(one))
            .map(|(at, _)| *at)
            .collect();
        for client in clients {
            let member = self.members.get_mut(&client).unwrap();
            member.look_at = now + ms(500);
            let (id, person, polled) = (member.id, member.person, member.polled);
            if member.lost_until.is_some_and(|until| until <= now) {
                self.end(id);
                continue;
            }
            if member.follower.is_none() && polled.is_none() {
                continue;
            }
            let offer = self.next_offer(client);
            let is_over = polled.is_some_and(|(_, until)| until <= now);
            if offer.is_some() || is_over {
                let ticket = polled.map_or(0, |(ticket, _)| ticket);
                self.members.get_mut(&client).unwrap().polled = None;
                self.reply(person, ticket, Reply::Offer(offer));
            }
        }
    }

    /// One offer waits at a time, and stays as it is.
    fn next_offer(&mut self, client: usize) -> Option<ServerOffer> {
        let (now, seed) = (self.world.now, self.world.seed);
        let member = self.members.get_mut(&client)?;
        let offer = self.rooms.next_offer(now, member.id).unwrap()?;
        if let Some(waiting) = &member.waiting {
            assert_eq!(*waiting, offer, "seed {seed}: another offer while one waits");
            return Some(offer);
        }
        self.offers += 1;
        member.waiting = Some(offer.clone());
        let offered: Vec<Ssrc> = sections(&offer.sdp)
            .into_iter()
            .filter(|section| section.sends())
            .flat_map(|section| section.ssrcs.into_iter().map(Ssrc))
            .collect();
        let allowed = self.world.guard.allowed.as_mut().unwrap();
        for ((to, ssrc), until) in &mut allowed.until {
            if *to == member.address && !offered.contains(ssrc) && until.is_none() {
                *until = Some(now + GRACE);
            }
        }
        Some(offer)
    }

    /// Its user does something, or its page.
    fn let_live(&mut self, place: usize) {
        let now = self.world.now;
        let person = &mut self.people[place];
        let mut out = Vec::new();
        let before = person.connection;
        let mut caller = person.client.map(|client| self.world.clients[client].caller());
        if let Some(caller) = &mut caller {
            while person.plan.front().is_some_and(|(at, _)| *at <= now)
                && let Some((_, act)) = person.plan.pop_front()
            {
                person.act(now, act, caller);
            }
        }
        let cut_off = person.is_cut_off();
        person.tick(now, caller, &mut out);
        let (id, client, stage) = (person.id, person.client, person.stage);
        if cut_off && let Some(member) = client.and_then(|client| self.members.get_mut(&client)) {
            let follower = member.follower.take();
            if let Some(follower) = follower {
                self.rooms.unfollow(now, member.id, follower);
            }
        }
        if self.people[place].connection != before {
            self.busy.clear();
        }
        for (ticket, request) in out {
            self.write(place, ticket, What::Request(id, request), true);
        }
        if stage == Stage::Gone
            && let Some(client) = client
        {
            self.world.clients[client].vanished = true;
        }
    }

    fn reply(&mut self, person: usize, ticket: u64, reply: Reply) {
        self.write(person, ticket, What::Reply(reply), false);
    }

    /// A letter goes on its way, or is lost.
    fn write(&mut self, person: usize, ticket: u64, what: What, up: bool) {
        let now = self.world.now;
        let mut at = now + ms(5 + self.random.below(100));
        if self.random.below(20) == 0 {
            at += ms(self.random.below(800));
        }
        if self.people[person].way == Way::Socket {
            if self.people[person].is_cut_off() {
                return;
            }
            let busy = self.busy.entry((person, up)).or_insert(at);
            at = at.max(*busy);
            *busy = at;
        } else if self.random.below(1_000) < LETTERS_LOST {
            return;
        }
        self.written += 1;
        let connection = self.people[person].connection;
        let letter = Letter {
            person,
            connection,
            ticket,
            what,
        };
        self.letters.insert(self.written, letter);
        self.mail.push(Reverse((at, self.written)));
        assert!(self.letters.len() < 1_000, "letters pile up");
    }

    fn deliver(&mut self, letter: Letter) {
        let person = &mut self.people[letter.person];
        let is_lost = person.way == Way::Socket && (person.connection != letter.connection || person.is_cut_off());
        match letter.what {
            _ if is_lost => {}
            What::Reply(reply) => {
                let joined = match &reply {
                    Reply::Joined(_, client, _) => Some(*client),
                    _ => None,
                };
                person.take(self.world.now, letter.ticket, reply);
                if let Some(client) = joined.filter(|client| person.client == Some(*client)) {
                    self.world.clients[client].vanished = false;
                    if let Some(member) = self.members.get_mut(&client) {
                        member.lost_until = None;
                    }
                }
            }
            What::Request(id, request) => self.take(letter.person, letter.ticket, id, request),
        }
        self.bring_about();
    }

    fn take(&mut self, person: usize, ticket: u64, id: Option<SessionId>, request: Request) {
        let now = self.world.now;
        let client = id.and_then(|id| self.by_id.get(&id).copied());
        let reply = match (request, client.zip(id)) {
            (Request::Join(offer), _) => self.join(person, &offer),
            (Request::Leave, _) => {
                if let Some(id) = id {
                    self.end(id);
                }
                Reply::Left
            }
            (Request::Offer(_), None) => Reply::Answered(Err(Refusal::UnknownSession)),
            (_, None) => Reply::Closed,
            (Request::Offer(offer), Some((_, id))) => {
                let (maker, open, guard) = (&mut self.maker, &mut self.open, &mut self.world.guard);
                let mut open = |name: &str| open_tracks(now, name, maker, open, &mut guard.rtx_ssrcs);
                let words = MemberInfo::default();
                let said = (MemberDescription::read(&offer), &words);
                let restart = IceRestart {
                    ice: IceCredentials {
                        ufrag: "unused".into(),
                        pwd: "unused".into(),
                    },
                    start: &mut |_, _| panic!("no person restarts ICE"),
                };
                let answered = self.rooms.offer(now, id, said, true, &mut open, restart);
                self.refused += usize::from(answered.is_err());
                Reply::Answered(answered)
            }
            (Request::Answer(number, answer), Some((client, _))) => Reply::Taken(self.answer(client, number, &answer)),
            (Request::Poll, Some((client, _))) => {
                let offer = self.next_offer(client);
                let waits = offer.is_none() && self.people[person].way == Way::Waits;
                if waits {
                    self.members.get_mut(&client).unwrap().polled = Some((ticket, now + ms(2_000)));
                    return;
                }
                Reply::Offer(offer)
            }
            (Request::Follow, Some((client, id))) => {
                let follower = self.rooms.follow(now, id).unwrap();
                let member = self.members.get_mut(&client).unwrap();
                (member.follower, member.look_at) = (Some(follower), now);
                Reply::Followed
            }
        };
        self.reply(person, ticket, reply);
    }

    fn answer(&mut self, client: usize, number: u64, answer: &str) -> Result<(), Refusal> {
        let now = self.world.now;
        let (maker, open, guard) = (&mut self.maker, &mut self.open, &mut self.world.guard);
        let mut open = |name: &str| open_tracks(now, name, maker, open, &mut guard.rtx_ssrcs);
        let member = self.members.get_mut(&client).unwrap();
        let answer = MemberDescription::read(answer);
        self.rooms.answer(now, member.id, Some(number), answer, &mut open)?;
        let offer = member.waiting.take().unwrap();
        assert_eq!(offer.number, number);
        let allowed = self.world.guard.allowed.as_mut().unwrap();
        for section in sections(&offer.sdp).iter().filter(|section| section.sends()) {
            let ssrcs = section.ssrcs.iter().map(|ssrc| ((member.address, Ssrc(*ssrc)), None));
            allowed.until.extend(ssrcs);
        }
        Ok(())
    }

    fn join(&mut self, person: usize, offer: &str) -> Reply {
        let now = self.world.now;
        self.joined += 1;
        let handle = self.joined;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&handle.to_be_bytes());
        let id = SessionId::from_random(id);
        let local = IceCredentials {
            ufrag: format!("server{handle}xxxx").into(),
            pwd: format!("server{handle}01234567890123456789012").into(),
        };
        let params = NegotiationParams {
            ice: local.clone(),
            fingerprint: certificate().fingerprint(),
            candidates: vec![SocketAddr::from(([192, 0, 2, 1], 8_080))],
            session_id: u64::from(handle),
        };
        let (offer, answer) = InitialOffer::answer(offer, params).unwrap();
        let joining = Joining {
            id,
            number: SessionNumber(handle.into()),
            room: &self.name,
            program: &self.program,
            offer,
            words: &MemberInfo::default(),
            unix: Duration::from_secs(1_000),
        };
        let (maker, open, guard) = (&mut self.maker, &mut self.open, &mut self.world.guard);
        let mut open = |name: &str| open_tracks(now, name, maker, open, &mut guard.rtx_ssrcs);
        let joined = self.rooms.join(now, joining, &mut open);
        let plan = Plan::clone(&joined.membership);
        let session = Session::new(id, local, joined.remote, Direction::SendReceive, plan, now);
        let session = Arc::new(session);
        self.rooms.answered(id, session.clone());
        let calls = &self.people[person].calls;
        let active = person.is_multiple_of(2);
        let answered = Answered::parse(&answer).unwrap();
        let peer = ClientPeer::new(&calls.ice, &answered, active, client_certificate(), now);
        let caller = Caller::new(self.world.seed, handle);
        let client = self
            .world
            .add_silent(peer, session.clone(), Actor::Caller(Box::new(caller)));
        let follower = (self.people[person].way == Way::Socket).then(|| self.rooms.follow(now, id).unwrap());
        let member = Member {
            id,
            person,
            address: self.world.clients[client].address,
            session,
            waiting: None,
            polled: None,
            follower,
            look_at: now + ms(500),
            lost_until: Some(now + ms(5_000)),
        };
        self.members.insert(client, member);
        self.by_id.insert(id, client);
        Reply::Joined(id, client, answer)
    }

    /// How many videos a member wants from now on.
    pub(crate) fn set_last_n(&mut self, person: usize, last_n: usize) {
        let Some(id) = self.people[person].id else { return };
        let change = Change {
            last_n: Some(last_n),
            ..Change::default()
        };
        // Wishes of a person that has left are ignored.
        let _ = self.rooms.change(self.world.now, id, &change);
        self.bring_about();
    }

    /// How far a source is.
    pub(crate) fn sent(&mut self, person: usize, sender: usize) -> Option<(u32, u32)> {
        let client = self.people[person].client?;
        let source = &self.world.clients[client].caller().sources[sender];
        (source.on && self.people[person].stage == Stage::In).then_some((source.id, source.sent))
    }

    /// Nothing is held of anybody.
    pub(crate) fn assert_empty(&mut self) {
        let seed = self.world.seed;
        assert!(
            self.members.is_empty() && self.open.is_empty(),
            "seed {seed}: {:?}",
            self.open
        );
        assert!(self.rooms.roster(&self.name).is_none());
        self.rooms.handle_timeout(self.world.now + Duration::from_secs(3_600));
        assert!(
            self.rooms.poll_effect().is_none(),
            "seed {seed}: a room waits for something"
        );
        let is_bound = |tracks: &Arc<StreamTracks>| tracks.video.is_bound() || tracks.audio.is_bound();
        assert!(
            !self.closed.iter().any(is_bound),
            "seed {seed}: a shard holds on to a stream"
        );
        assert_eq!(
            (self.world.peers(), self.world.sessions(), self.world.starting()),
            (0, 0, 0),
            "seed {seed}"
        );
    }

    /// Whether anything is left of members that are gone.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.world.peers() + self.world.sessions() == 0
    }
}

fn open_tracks(
    now: Instant,
    name: &str,
    maker: &mut TrackMaker,
    open: &mut BTreeMap<StreamSlot, Arc<StreamTracks>>,
    rtx_ssrcs: &mut std::collections::HashSet<Ssrc>,
) -> Arc<StreamTracks> {
    let tracks = maker.open(now, name);
    rtx_ssrcs.insert(tracks.video.rtx_ssrc());
    assert!(
        open.insert(tracks.key.slot, tracks.clone()).is_none(),
        "a slot of two streams"
    );
    tracks
}
