//! What must be true of everything that a viewer received.

use std::collections::BTreeMap;

use onecast_rtc::rtp::Kind;

use super::{Got, Received, Viewer};
use crate::publisher::{Ledger, NTP, Sent};

impl Viewer {
    /// Everything that can only be said when all is there: numbering, timestamps, and the clocks of sender reports.
    pub(crate) fn check(&self, ledgers: &[Ledger]) {
        let seed = self.seed;
        let video = self.video.check(
            seed,
            &ledgers.iter().map(|ledger| &ledger.video[..]).collect::<Vec<_>>(),
        );
        let audio = self.audio.check(
            seed,
            &ledgers.iter().map(|ledger| &ledger.audio[..]).collect::<Vec<_>>(),
        );
        self.check_frames(ledgers);
        self.check_ends(ledgers);
        for &(kind, ntp, rtp, publishers) in &self.mapped {
            let offsets = if kind == Kind::Audio { &audio } else { &video };
            let (Some(&offset), 1, 1) = (offsets.get(&0), publishers, ledgers.len()) else {
                continue;
            };
            let seconds = |ntp: u64| ntp as f64 / (1u64 << 32) as f64;
            let (epoch, timestamps) = ledgers[0].epoch;
            assert_eq!(epoch, NTP);
            let rate = if kind == Kind::Audio { 48_000.0 } else { 90_000.0 };
            let ticks = rtp.wrapping_sub(offset).wrapping_sub(timestamps[kind as usize]);
            let difference = seconds(ntp) - seconds(epoch) - f64::from(ticks) / rate;
            assert!(difference.abs() < 0.001, "seed {seed}: {kind:?} is {difference} s off");
        }
    }

    /// Frame numbers only grow, or a receiver would drop what it was sent; in between, frames are as far apart as at the publisher.
    fn check_frames(&self, ledgers: &[Ledger]) {
        let mut before: Option<(u64, &Got, u16)> = None;
        for (&index, got) in &self.video.packets {
            let Some(frame) = got.frame else { continue };
            let own = |got: &Got| ledgers[got.publisher].video[got.position].frame;
            if let Some((before_index, before, before_frame)) = before {
                let (step, own_step) = (frame.wrapping_sub(before_frame), own(got).wrapping_sub(own(before)));
                let is_right = match got.goes_on(index, (before_index, before)) {
                    true => step == own_step,
                    false => (1..1 << 15).contains(&step),
                };
                assert!(
                    is_right,
                    "seed {}: frame {frame} at {index} after {before_frame}: {got:?}",
                    self.seed
                );
            }
            before = Some((index, got, frame));
        }
    }

    /// Of pictures with spatial layers the last packet has the marker, and no other: receivers wait for it.
    fn check_ends(&self, ledgers: &[Ledger]) {
        let packets: Vec<_> = self.video.packets.iter().collect();
        for pair in packets.windows(2) {
            let [(&index, got), (&next_index, next)] = [pair[0], pair[1]];
            if ledgers[got.publisher].video[got.position].may_end && next_index == index + 1 {
                let is_end = next.timestamp != got.timestamp;
                assert_eq!(got.marker, is_end, "seed {}: marker of {index}: {got:?}", self.seed);
            }
        }
    }
}

impl Received {
    /// Frames have one timestamp each and these only grow. From a start on, frames of the past carry later timestamps than their own, until
    /// the track's timestamps begin; from then on there is nothing else. Returns what those differ by from each publisher's.
    fn check(&self, seed: u64, ledgers: &[&[Sent]]) -> BTreeMap<usize, u32> {
        let mut offsets: BTreeMap<usize, u32> = BTreeMap::new();
        let offset = |got: &Got| {
            got.timestamp
                .wrapping_sub(ledgers[got.publisher][got.position].timestamp)
        };
        for got in self.packets.values() {
            let least = offsets.entry(got.publisher).or_insert(offset(got));
            if offset(got).wrapping_sub(*least).cast_signed() < 0 {
                *least = offset(got);
            }
        }
        let is_audio = !ledgers.iter().any(|list| list.iter().any(|sent| sent.keyframe));
        let sent = |got: &Got| &ledgers[got.publisher][got.position];
        let is_later = |one: u32, other: u32| one.wrapping_sub(other).cast_signed() > 0;
        let mut before: Option<(u64, &Got)> = None;
        // Frames since the last start, and the highest timestamp before that.
        let (mut run, mut highest): (Vec<&Got>, Option<u32>) = (Vec::new(), None);
        let mut live: Option<u32> = None;
        for (&index, got) in &self.packets {
            let goes_on = before.is_some_and(|before| got.goes_on(index, before));
            if let Some((before_index, _)) = before.filter(|_| !goes_on) {
                let list = &ledgers[got.publisher][..=got.position];
                let behind = list.iter().rev().position(|sent| sent.keyframe);
                // The first packets of a keyframe may be lost.
                let has_room = behind.is_some_and(|behind| index - behind as u64 > before_index);
                assert!(
                    has_room || is_audio || self.undemanding,
                    "seed {seed}: {index} goes on amid something: {before:?}, {got:?}"
                );
                live = None;
                let all = run.drain(..).map(|got| got.timestamp).chain(highest);
                highest = all.reduce(|one, other| if is_later(one, other) { one } else { other });
            }
            assert!(
                highest.is_none_or(|highest| is_later(got.timestamp, highest)),
                "seed {seed}: {got:?} at {index} is shown before what was shown until {highest:?}"
            );
            // In order of presentation, one timestamp a frame, no two the same.
            for known in run.iter().rev().take(20) {
                let own = sent(got).timestamp.wrapping_sub(sent(known).timestamp).cast_signed();
                let step = got.timestamp.wrapping_sub(known.timestamp).cast_signed();
                assert_eq!(
                    own.signum(),
                    step.signum(),
                    "seed {seed}: {got:?} at {index} beside {known:?}, {own} ticks away"
                );
            }
            let is_own = offset(got) == offsets[&got.publisher];
            assert!(
                is_own || live.is_none_or(|live| is_later(live, sent(got).timestamp)),
                "seed {seed}: {index} has another timestamp than its own after the live edge: {before:?}, {got:?}, {}",
                offset(got).wrapping_sub(offsets[&got.publisher])
            );
            if is_own && live.is_none() {
                live = Some(sent(got).timestamp);
            }
            if run
                .last()
                .is_none_or(|known| sent(known).timestamp != sent(got).timestamp)
            {
                run.push(got);
            }
            before = Some((index, got));
        }
        offsets
    }
}
