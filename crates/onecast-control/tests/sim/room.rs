//! A room whose members send and are sent, as its server decides it.

use std::sync::Arc;

use onecast_engine::fanout::{
    Command, Direction, Plan, Session, SourceSpec, StartConfig, SubscriptionSpec, ViewerLine,
};
use onecast_engine::media::lane::{StreamKey, StreamSlot};
use onecast_engine::media::{LayerLimit, StreamTracks};
use onecast_rtc::rtp::{Codec, Ssrc};
use onecast_rtc::sdp::{MediaLine, Negotiated};

use crate::client::Actor;
use crate::member::Member;
use crate::network::Link;
use crate::publisher::{LEVEL_ID, Ledger, Publisher};
use crate::scenarios::{FOR_EVER, ms};
use crate::viewer::{Received, Viewer};
use crate::world::{Joining, World};

/// A room as its server's side decides it, and its members.
pub(crate) struct Room {
    pub(crate) world: World,
    pub(crate) members: Vec<Place>,
    number: u64,
    serial: u32,
}

/// One member: whether it is there, what it sends and what it is to be sent.
pub(crate) struct Place {
    pub(crate) client: usize,
    pub(crate) session: Arc<Session>,
    pub(crate) tracks: Arc<StreamTracks>,
    pub(crate) lines: Negotiated,
    pub(crate) ledger: usize,
    camera: bool,
    pub(crate) air: bool,
    left: bool,
    /// Members whose video it is not sent.
    pub(crate) paused: Vec<usize>,
    /// Members whose streams were announced to it, in the order of its viewers.
    told: Vec<usize>,
}

impl Room {
    pub(crate) fn new(seed: u64, shards: usize, link: Link) -> Room {
        Room::with(seed, shards, link, StartConfig::default())
    }

    pub(crate) fn with(seed: u64, shards: usize, link: Link, start: StartConfig) -> Room {
        Room {
            world: World::with(seed, shards, link, start),
            members: Vec::new(),
            number: 1,
            serial: 100,
        }
    }

    pub(crate) fn tracks(&mut self, slot: u32) -> Arc<StreamTracks> {
        self.serial += 1;
        let base = 0x2222_0000 + 16 * self.serial;
        let ssrcs = [base + 1, base + 2, base + 3].map(Ssrc);
        self.world.guard.rtx_ssrcs.insert(ssrcs[1]);
        let key = StreamKey {
            slot: StreamSlot(slot),
            serial: self.serial,
        };
        let (inboxes, now) = (self.world.inboxes.clone(), self.world.now);
        Arc::new(StreamTracks::new(key, "m", ssrcs, inboxes, now))
    }

    /// Adds a member that sends a stream in the slot. The next [`Room::tell`] announces what it receives.
    pub(crate) fn join(&mut self, slot: u32) -> usize {
        let tracks = self.tracks(slot);
        let world = &mut self.world;
        world.ledgers.push(Ledger::default());
        let ledger = world.ledgers.len() - 1;
        let seed = world.seed + 1_000 * ledger as u64;
        let rtx = world.seed.is_multiple_of(2);
        let publisher = Publisher::new(ledger, seed, Codec::Vp8, rtx, true, FOR_EVER);
        let joining = Joining {
            publishes: true,
            rtx,
            active: ledger.is_multiple_of(2),
        };
        let mut lines = None;
        let actor = Actor::Member(Box::new(Member::new(Some(publisher))));
        let client = world.join_as(joining, actor, tracks.clone(), |_, plan| {
            let source = &plan.sources[0];
            lines = Some(Negotiated {
                audio: source.audio.clone(),
                video: source.video.clone(),
            });
            (Direction::SendReceive, Plan::default())
        });
        self.members.push(Place {
            client,
            session: world.clients[client].session.clone(),
            tracks,
            lines: lines.unwrap(),
            ledger,
            camera: true,
            air: false,
            left: false,
            paused: Vec::new(),
            told: Vec::new(),
        });
        self.members.len() - 1
    }

    /// Its client writes audio levels (RFC 6464), and how loud it is: 0 to 127 -dBov.
    pub(crate) fn set_level(&mut self, at: usize, level: u8) {
        let member = &mut self.members[at];
        if let Some(audio) = &mut member.lines.audio {
            audio.extensions.audio_level = Some(LEVEL_ID);
        }
        let publisher = self.world.clients[member.client].member().publisher.as_mut();
        publisher.unwrap().level = Some(level);
    }

    /// Announces to shards and clients what each member sends and receives now.
    pub(crate) fn tell(&mut self) {
        self.number += 1;
        for at in 0..self.members.len() {
            self.tell_client(at);
            let member = &self.members[at];
            let plan = Plan {
                number: self.number,
                sources: Box::new([self.source(member)]),
                subscriptions: (0..self.members.len())
                    .filter_map(|of| self.subscription(at, of))
                    .collect(),
            };
            if !member.left {
                let command = Command::Plan(member.session.clone(), Arc::new(plan));
                self.world.command(&command);
            }
        }
    }

    pub(crate) fn source(&self, member: &Place) -> SourceSpec {
        SourceSpec {
            tracks: member.tracks.clone(),
            audio: member.lines.audio.clone(),
            video: member.lines.video.clone().filter(|_| member.camera),
            program: member.air.then(|| self.world.tracks.clone()),
            detects_speech: true,
        }
    }

    fn subscription(&self, at: usize, of: usize) -> Option<SubscriptionSpec> {
        let sender = &self.members[of];
        let line = |line: &Option<MediaLine>| line.as_ref().map(ViewerLine::new);
        let sees = sender.camera && !self.members[at].paused.contains(&of);
        (at != of && !sender.left).then(|| SubscriptionSpec {
            tracks: sender.tracks.clone(),
            audio: line(&sender.lines.audio),
            video: line(&sender.lines.video).filter(|_| sees),
            limit: LayerLimit::default(),
        })
    }

    fn tell_client(&mut self, at: usize) {
        for of in 0..self.members.len() {
            if of == at || self.members[of].left || self.members[at].told.contains(&of) {
                continue;
            }
            let tracks = &self.members[of].tracks;
            let mut viewer = Viewer::new(self.world.seed);
            viewer.ssrcs = [tracks.video.ssrc(), tracks.video.rtx_ssrc(), tracks.audio.ssrc()];
            let (now, client) = (self.world.now, self.members[at].client);
            self.world.clients[client].member().expect(now, viewer);
            self.members[at].told.push(of);
        }
    }

    pub(crate) fn leave(&mut self, at: usize) {
        self.members[at].left = true;
        let client = self.members[at].client;
        self.world.goodbye(client);
    }

    pub(crate) fn camera(&mut self, at: usize, on: bool) {
        self.members[at].camera = on;
        let client = self.members[at].client;
        self.world.clients[client]
            .member()
            .publisher
            .as_mut()
            .unwrap()
            .audio_only = !on;
    }

    /// All members stop sending, and losses are repaired.
    pub(crate) fn end(&mut self) {
        for at in 0..self.members.len() {
            let client = self.members[at].client;
            self.world.clients[client].member().publisher.as_mut().unwrap().stop();
        }
        self.world.run(ms(1_500));
        for at in 0..self.members.len() {
            let client = self.members[at].client;
            for place in 0..self.members[at].told.len() {
                self.world.clients[client].member().viewers[place].check(&self.world.ledgers);
            }
        }
        self.world.check();
    }

    /// What a member has of another.
    pub(crate) fn viewer(&mut self, at: usize, of: usize) -> &mut Viewer {
        let client = self.members[at].client;
        let place = self.members[at].told.iter().position(|told| *told == of).unwrap();
        &mut self.world.clients[client].member().viewers[place]
    }

    /// The video packets that a member has of another.
    pub(crate) fn count(&mut self, at: usize, of: usize) -> usize {
        self.viewer(at, of).video.packets.len()
    }

    /// A member has every packet of another's video from its first keyframe on to the end, from no one else.
    pub(crate) fn assert_complete(&mut self, at: usize, of: usize) {
        let (seed, ledger) = (self.world.seed, self.members[of].ledger);
        let last = self.world.ledgers[ledger].video.len() - 1;
        let lossy = self.world.network.down.loss > 0;
        let viewer = self.viewer(at, of);
        // What was lost at the end, before a pause, is not sent again after it.
        let gap = if lossy {
            viewer.video.gap_since_start()
        } else {
            viewer.video.gap()
        };
        let around = |gap: u64| viewer.video.packets.range(gap - 3..gap + 8).collect::<Vec<_>>();
        assert!(
            gap.is_none(),
            "seed {seed}: {at} misses {gap:?} of {of}, {:?}, it began with {:?}",
            gap.map(around),
            viewer.video.packets.first_key_value(),
        );
        let of_sender = |received: &Received| received.packets.values().all(|got| got.publisher == ledger);
        assert!(of_sender(&viewer.video) && of_sender(&viewer.audio), "seed {seed}");
        let (first, newest) = viewer
            .video
            .span(ledger)
            .unwrap_or_else(|| panic!("seed {seed}: {at} has nothing of {of}"));
        assert!(last - newest <= 40, "seed {seed}: {at} has {newest} of {last} of {of}");
        assert!(
            viewer.audio.packets.len() > 20,
            "seed {seed}: {at} hears nothing of {of}"
        );
        // The very first packets may be lost without a trace, for instance while a handshake's last flight is repeated.
        assert!(
            lossy || self.world.ledgers[ledger].video[first].keyframe,
            "seed {seed}: {at} began amid something"
        );
    }
}
