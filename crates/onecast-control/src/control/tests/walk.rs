//! Everything that can happen, in a random order: nothing of it remains.

use std::collections::BTreeMap;
use std::time::Duration;

use onecast_engine::fanout::CloseCause;
use onecast_rtc::rtp::Codec;

use super::Bench;
use super::bench::{LIMITS, id};
use crate::control::Control;
use crate::port::Protocol;
use crate::refusal::Refusal;
use crate::registry::Limits;
use crate::whep_events::{EventSet, EventStreamId, NewEvents};

/// Random numbers with a seed, so that a failure can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// The server, and how often each thing happened.
struct Walk {
    bench: Bench,
    chance: Chance,
    joined: u128,
    done: BTreeMap<&'static str, u64>,
}

const STREAMS: [&str; 3] = ["a", "b", "c"];

impl Walk {
    fn new(seed: u64) -> Walk {
        let limits = Limits { viewers: 12, ..LIMITS };
        Walk {
            bench: Bench::with(limits),
            chance: Chance(seed),
            joined: 0,
            done: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        let busy = self.chance.below(8) == 0;
        self.bench.control.set_shards_busy(busy);
        match self.chance.below(12) {
            0..=4 => self.join(),
            5..=7 => self.connect(),
            8 => self.send(),
            9 => self.leave(),
            10 => self.open_events(),
            _ => {
                let time = Duration::from_millis(self.chance.below(4_000));
                self.bench.pass(time);
            }
        }
        self.bench.log();
        self.check();
    }

    fn join(&mut self) {
        self.joined += 1;
        let number = self.joined;
        let stream = STREAMS[self.chance.below(3) as usize];
        let credential = [None, None, Some("studio")][self.chance.below(3) as usize];
        let bench = &mut self.bench;
        let (what, joined) = match self.chance.below(4) {
            0 => ("published", bench.publish(number, stream, credential)),
            1 => ("watched", bench.watch(number, stream)),
            2 => ("participated", bench.participate(number, stream, true).map(drop)),
            _ => (
                "offered",
                bench
                    .join(number, stream, None, Control::handle_counter_offer)
                    .map(drop),
            ),
        };
        let what = match joined {
            Ok(()) => what,
            Err(Refusal::Taken { .. }) => "taken",
            Err(Refusal::Overloaded) => "overloaded",
            Err(Refusal::Full { .. } | Refusal::StreamFull { .. } | Refusal::RoomFull { .. }) => "full",
            Err(other) => panic!("{other:?}"),
        };
        *self.done.entry(what).or_default() += 1;
    }

    fn any_session(&mut self) -> Option<u128> {
        let present = self.bench.present();
        let index = self.chance.below(present.len().max(1) as u64) as usize;
        present.get(index).copied()
    }

    fn connect(&mut self) {
        if let Some(number) = self
            .any_session()
            .filter(|number| self.bench.at_shards.contains_key(&id(*number)))
        {
            self.bench.connect(number);
        }
    }

    /// A packet comes from a publisher or a member: viewers have no sources.
    fn send(&mut self) {
        let Some(number) = self.any_session() else { return };
        let session = self.bench.at_shards.get(&id(number));
        if session.is_some_and(|session| !session.plan.sources.is_empty()) {
            self.bench.send(number, Codec::Vp8);
        }
    }

    fn leave(&mut self) {
        let Some(number) = self.any_session() else { return };
        match self.chance.below(2) {
            0 => self.bench.closed(number, CloseCause::Full),
            _ => self.end(number),
        }
    }

    /// A client says goodbye, whatever it is.
    fn end(&mut self, number: u128) {
        let ended = self.bench.call(|control, now| {
            let publisher = control.handle_close(now, id(number), Protocol::Whip);
            let viewer = publisher.or_else(|_| control.handle_close(now, id(number), Protocol::Whep));
            viewer.or_else(|_| control.handle_leave(now, id(number)))
        });
        assert_eq!(ended, Ok(()));
    }

    fn open_events(&mut self) {
        let Some(number) = self.any_session() else { return };
        self.joined += 1;
        let new = NewEvents {
            id: EventStreamId::from_random(self.joined.to_be_bytes()),
            jitter: 7,
        };
        let wanted = EventSet::of_names(["active"]).unwrap();
        let opened = self
            .bench
            .call(|control, now| control.handle_open_events(now, id(number), wanted, new));
        *self.done.entry("followed").or_default() += u64::from(opened.is_ok());
    }

    /// The shards know exactly the sessions whose answer has been made.
    fn check(&mut self) {
        let present = self.bench.present();
        for number in &self.bench.at_shards {
            assert!(present.iter().any(|known| id(*known) == *number.0));
        }
        let waiting = present
            .iter()
            .filter(|number| !self.bench.at_shards.contains_key(&id(**number)));
        let waiting: Vec<u128> = waiting.copied().collect();
        for number in waiting {
            assert!(self.bench.control.registry.awaits_answer(id(number)), "{number}");
        }
    }
}

#[test]
fn whatever_happens_in_whatever_order_nothing_remains_of_it() {
    let mut done = BTreeMap::<&str, u64>::new();
    for seed in 0..6 {
        let mut walk = Walk::new(seed);
        for _ in 0..1_500 {
            walk.step();
        }
        for number in walk.bench.present() {
            walk.end(number);
        }
        walk.check();
        let (bench, now) = (&walk.bench, walk.bench.now);
        assert!(
            bench.at_shards.is_empty() && bench.control.streams(now).is_empty(),
            "seed {seed}"
        );
        assert_eq!(bench.half_open(), 0, "seed {seed}");
        for stream in STREAMS {
            assert!(bench.control.roster(&stream.parse().unwrap()).is_none());
        }
        for (what, count) in walk.done {
            *done.entry(what).or_default() += count;
        }
    }
    for what in [
        "published",
        "watched",
        "participated",
        "offered",
        "followed",
        "taken",
        "overloaded",
        "full",
    ] {
        assert!(done.get(what).is_some_and(|&count| count > 10), "{what}: {done:?}");
    }
}
