//! A random walk: a client and a server change what they want, offer, answer and refuse. The lines stay consistent at every step, and once
//! both sides have settled, the server sends what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use onecast_testing::Noise;

const STREAMS: usize = 8;
const STEPS: usize = 4_800;

/// Both sides, and what the checks need to know about them.
struct Walk {
    noise: Noise,
    negotiation: Negotiation,
    client: Client,
    wanted: Vec<WantedTrack>,
    /// The server's offer that waits.
    waiting: Option<String>,
    /// Mids of the lines, as both sides last agreed.
    mids: Vec<String>,
    /// Tracks that were ever in an offer that was answered.
    answered: BTreeSet<TrackId>,
    wanted_max: usize,
    /// Lines that the client added, stopped, turned off or took for itself.
    spoilt: usize,
}

impl Walk {
    fn new(seed: u64) -> Walk {
        let mut noise = Noise::seeded(seed);
        let mut client = Client {
            numbers: [[96, 102, 111], [120, 126, 109], [45, 39, 96]][noise.below(3)],
            ..Client::default()
        };
        client.add(Kind::Audio, "cam");
        Walk {
            noise,
            negotiation: Negotiation::new(),
            client,
            wanted: Vec::new(),
            waiting: None,
            mids: Vec::new(),
            answered: BTreeSet::new(),
            wanted_max: 0,
            spoilt: 0,
        }
    }

    fn step(&mut self) {
        match self.noise.below(12) {
            0..=3 => self.change_wanted(),
            4 | 5 => self.change_client(),
            6 | 7 => self.client_offers(),
            8 => self.we_offer(),
            9 | 10 => self.client_answers(),
            _ => self.nonsense(),
        }
        self.check();
    }

    fn change_wanted(&mut self) {
        let stream = self.noise.below(STREAMS) as u32;
        let kind = [Kind::Audio, Kind::Video][self.noise.below(2)];
        let id = TrackId { stream, kind };
        match self.wanted.iter().position(|track| track.id == id) {
            Some(index) if kind == Kind::Video && self.noise.below(3) == 0 => {
                let codecs = [&[Codec::Vp8][..], &[Codec::Vp8, Codec::H264], &[Codec::Vp9, Codec::Vp8]];
                self.wanted[index].codecs = codecs[self.noise.below(3)].to_vec();
            }
            Some(index) => drop(self.wanted.remove(index)),
            None => self.wanted.push(track(stream, kind)),
        }
        self.wanted_max = self.wanted_max.max(self.wanted.len());
    }

    fn change_client(&mut self) {
        let kind = [Kind::Audio, Kind::Video][self.noise.below(2)];
        let index = self.noise.below(self.client.lines.len());
        let may_add = self.waiting.is_none() && self.client.lines.len() < 12 && self.sending() < MAX_SENDING_LINES;
        let what = self.noise.below(40);
        let line = &mut self.client.lines[index];
        match what {
            // A new line belongs to the client only once it is offered.
            0 | 1 if may_add => {
                if what == 0 {
                    self.client.add(kind, "screen");
                } else {
                    self.client.add_place(kind);
                }
                self.client_offers();
            }
            2 => line.is_stopped = true,
            3 => line.takes = !line.takes,
            4..20 if !line.mid.starts_with('s') => line.sends = !line.sends,
            20 => line.sends = true,
            _ => return,
        }
        self.spoilt += 1;
    }

    fn sending(&self) -> usize {
        let lines = self.client.lines.iter();
        lines.filter(|line| line.sends && !line.is_stopped).count()
    }

    fn client_offers(&mut self) {
        let sending = self
            .client
            .lines
            .iter()
            .filter(|line| line.sends && !line.is_stopped)
            .count();
        if self.client.lines.is_empty()
            || (self.negotiation.remote().is_none() && self.client.lines.iter().all(|l| l.is_stopped))
        {
            self.client.add(Kind::Audio, "cam");
        }
        let before = format!("{:?}", self.negotiation);
        match self.negotiation.handle_offer(&self.client.offer(), &params()) {
            Ok(answer) => {
                self.client.take_answer(&answer);
                check_numbers(&answer);
                self.agree(&answer);
            }
            Err(error) => {
                let known = match error.fault {
                    Fault::OfferPending => self.waiting.is_some(),
                    Fault::TooManySending { lines } => lines == sending,
                    _ => false,
                };
                assert!(known, "{error}\n{}", self.client.offer());
                assert_eq!(format!("{:?}", self.negotiation), before);
            }
        }
    }

    fn we_offer(&mut self) {
        if self.waiting.is_none() && self.negotiation.needs_offer(&self.wanted) {
            let offer = self.negotiation.offer(&self.wanted, &params());
            check_numbers(&offer);
            if self.noise.below(8) == 0 {
                self.negotiation.withdraw();
                return;
            }
            self.waiting = Some(offer);
        }
    }

    fn client_answers(&mut self) {
        let Some(offer) = self.waiting.take() else { return };
        if self.noise.below(16) == 0 {
            self.client.rejects = vec![self.noise.below(STREAMS) as u32];
            self.spoilt += 2;
        }
        let offered: Vec<TrackId> = self.negotiation.offered().map(|(_, track)| track).collect();
        let answer = self.client.answer(&offer);
        self.client.rejects.clear();
        self.negotiation
            .handle_answer(&answer)
            .unwrap_or_else(|e| panic!("{e}\n{offer}\n{answer}"));
        self.answered.extend(offered);
        self.agree(&answer);
    }

    fn nonsense(&mut self) {
        let text = match self.noise.below(3) {
            0 => String::from_utf8_lossy(&self.noise.bytes(64)).into_owned(),
            1 => self.client.offer().replace("m=audio", "m=video"),
            _ => self
                .client
                .offer()
                .lines()
                .take(20)
                .map(|line| format!("{line}\r\n"))
                .collect(),
        };
        let before = format!("{:?}", self.negotiation);
        let mut negotiation = Negotiation::new();
        std::mem::swap(&mut negotiation, &mut self.negotiation);
        if negotiation.handle_answer(&text).is_err() {
            assert_eq!(format!("{negotiation:?}"), before);
            self.negotiation = negotiation;
        } else {
            panic!("taken as an answer: {text}");
        }
    }

    /// Lines keep their places; a line with port 0 may get a new mid.
    fn agree(&mut self, sdp: &str) {
        let all = sections(sdp);
        let mids: Vec<String> = all.iter().map(|section| section.mid.clone()).collect();
        assert!(mids.len() >= self.mids.len(), "a line was taken away");
        assert_eq!(mids[..self.mids.len()], self.mids, "{sdp}");
        assert_eq!(mids.iter().collect::<BTreeSet<_>>().len(), mids.len(), "{mids:?}");
        self.mids = mids;
    }

    fn check(&self) {
        let sent: Vec<TrackId> = self.negotiation.sent().map(|sent| sent.track).collect();
        let unique: BTreeSet<_> = sent.iter().collect();
        assert_eq!(unique.len(), sent.len(), "a track on two lines");
        assert!(
            sent.iter().all(|track| self.answered.contains(track)),
            "sent before its answer"
        );
        assert!(self.negotiation.sent().all(|sent| !sent.line.formats.is_empty()));
        assert_eq!(self.negotiation.is_offering(), self.waiting.is_some());
        // Twice, because a track that goes and one that comes in the same offer have a line each.
        let bound = 2 * self.wanted_max + 1 + self.spoilt;
        assert!(
            self.negotiation.lines() <= bound.min(256),
            "{} lines, at most {bound}",
            self.negotiation.lines()
        );
    }

    /// Both sides offer and answer until neither wants a change.
    fn settle(&mut self) {
        self.client_answers();
        let spare = self
            .client
            .lines
            .iter_mut()
            .filter(|line| line.sends && !line.is_stopped)
            .skip(MAX_SENDING_LINES);
        spare.for_each(|line| line.sends = false);
        self.client_offers();
        for round in 0.. {
            assert!(round < 3, "{:?} is never settled", self.wanted);
            if !self.negotiation.needs_offer(&self.wanted) {
                break;
            }
            let offer = self.negotiation.offer(&self.wanted, &params());
            self.waiting = Some(offer);
            self.client_answers();
        }
        let taken: BTreeSet<TrackId> = self.negotiation.sent().map(|sent| sent.track).collect();
        let wanted: BTreeSet<TrackId> = self.wanted.iter().map(|track| track.id).collect();
        assert!(taken.is_subset(&wanted));
        for missing in wanted.difference(&taken) {
            let lines = self.negotiation.agreed.lines.iter();
            let mut holding = lines
                .zip(&self.client.lines)
                .filter(|(line, _)| line.track.as_ref().is_some_and(|t| t.id == *missing));
            let refuses = |line: &Line| line.is_stopped || !line.takes;
            let is_refused = holding.any(|(line, client)| line.is_dead || refuses(client));
            let is_hopeless = self
                .negotiation
                .agreed
                .offerable(&track(missing.stream, missing.kind))
                .is_empty();
            assert!(
                is_refused || is_hopeless || self.negotiation.lines() == 256,
                "{missing:?} is not sent"
            );
        }
    }
}

/// One number means one thing in all lines of a description.
pub(super) fn check_numbers(sdp: &str) {
    let (mut formats, mut extensions) = (BTreeMap::new(), BTreeMap::new());
    for section in sections(sdp) {
        for (number, name) in section.formats {
            let name = name.to_lowercase();
            assert_eq!(
                formats.entry(number).or_insert(name.clone()),
                &name,
                "payload type {number}: {sdp}"
            );
        }
        for (id, uri) in section.extensions {
            assert_eq!(
                extensions.entry(id).or_insert(uri.clone()),
                &uri,
                "extension {id}: {sdp}"
            );
        }
    }
}

#[test]
fn lines_stay_consistent_through_random_changes_of_both_sides() {
    for seed in 1..=16 {
        let mut walk = Walk::new(seed);
        walk.client_offers();
        println!("seed {seed}");
        for step in 0..STEPS / 16 {
            walk.step();
            if step % 25 == 24 {
                walk.settle();
                walk.check();
            }
        }
    }
}
