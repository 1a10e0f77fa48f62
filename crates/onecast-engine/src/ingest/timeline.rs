//! One timeline for all layers of a track.
//!
//! Each layer of a browser has RTP timestamps with a random offset of its own, which stays constant. A viewer that changes to another
//! layer would see the time jump; receivers freeze for seconds then. The offsets are undone here, once for all viewers: pictures that were
//! taken at the same moment get the same timestamp in every layer.
//!
//! What shows the difference between two layers, the best first:
//!
//! 1. They have the same timestamps (OBS).
//! 2. An encoder that begins a layer makes a keyframe of the same picture in all of them. Keyframes that arrive together are such keyframes.
//! 3. Their arrival. It is replaced with the next keyframes that arrive together.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::RtpTime;

use crate::media::LayerIndex;

/// Which offset each layer has.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    clocks: [LayerClock; LayerIndex::COUNT],
    /// The newest timestamp of all, on the track's timeline, and when it arrived.
    newest: Option<(RtpTime, Instant)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct LayerClock {
    /// Added to its timestamps; `None` while it sends nothing.
    offset: Option<u32>,
    /// The offset is not a guess.
    is_exact: bool,
    /// A better offset, which holds from the next picture on.
    better: Option<u32>,
    /// Its newest timestamp, and when it arrived.
    newest: Option<(RtpTime, Instant)>,
    /// The timestamp of its newest keyframe, and when that began to arrive.
    keyframe: Option<(RtpTime, Instant)>,
}

impl Timeline {
    /// Keyframes of one picture arrive within this time, from each other.
    pub(super) const TOGETHER: Duration = Duration::from_millis(150);
    /// Equal timestamps arrive within this time.
    const SAME_ARRIVAL: Duration = Duration::from_millis(40);
    /// Timestamps that differ by less are of one clock: 100 ms.
    const SAME_CLOCK: i32 = 9_000;
    /// Smaller differences are of rounding.
    const ROUNDING: i32 = 3;

    /// The newest timestamp of all layers, on the track's timeline, and when it arrived.
    pub(super) fn newest(&self) -> Option<(RtpTime, Instant)> {
        self.newest
    }

    /// The offset of a layer that begins with this timestamp, if other layers show it.
    pub(super) fn offset_by_others(&self, layer: LayerIndex, first: RtpTime, now: Instant) -> Option<u32> {
        let others = || LayerIndex::all().filter(move |other| *other != layer);
        let same_clock = others().find_map(|other| {
            let clock = &self.clocks[other.index()];
            let (newest, at) = clock.newest?;
            let is_same = newest.since(first).abs() < Timeline::SAME_CLOCK
                && now.saturating_duration_since(at) < Timeline::SAME_ARRIVAL;
            clock.offset.filter(|_| is_same)
        });
        same_clock.or_else(|| others().find_map(|other| self.offset_by_keyframe(other, first, now)))
    }

    /// A layer begins with this offset.
    pub(super) fn begin(&mut self, layer: LayerIndex, offset: u32, is_exact: bool) {
        let is_alone = self.clocks.iter().all(|clock| clock.offset.is_none());
        self.clocks[layer.index()] = LayerClock {
            offset: Some(offset),
            is_exact: is_exact || is_alone,
            ..LayerClock::default()
        };
    }

    /// A layer sends nothing more with its present timestamps.
    pub(super) fn end(&mut self, layer: LayerIndex) {
        self.clocks[layer.index()] = LayerClock::default();
    }

    /// Where another publisher or track goes on: nothing is known of its layers.
    pub(super) fn restart(&mut self) {
        *self = Timeline::default();
    }

    /// A packet of a layer, in order or late. Returns another offset that holds from this packet on.
    pub(super) fn note_packet(&mut self, layer: LayerIndex, timestamp: RtpTime, now: Instant) -> Option<u32> {
        let clock = &mut self.clocks[layer.index()];
        let begins_picture = clock.newest.is_none_or(|(newest, _)| timestamp.is_after(newest));
        if !begins_picture {
            return None;
        }
        clock.newest = Some((timestamp, now));
        let better = clock.better.take();
        if better.is_some() {
            (clock.offset, clock.is_exact) = (better, true);
        }
        let own = timestamp.plus(clock.offset.unwrap_or(0));
        if self.newest.is_none_or(|(newest, _)| own.is_after(newest)) {
            self.newest = Some((own, now));
        }
        better
    }

    /// A keyframe begins. Returns whether it is the first of a picture: keyframes of other layers may follow it.
    pub(super) fn note_keyframe(&mut self, layer: LayerIndex, timestamp: RtpTime, now: Instant) -> bool {
        let before = self.clocks[layer.index()].keyframe.map(|(_, at)| at);
        let mut others = LayerIndex::all().filter(|other| *other != layer);
        // A keyframe of another layer that came after this layer's one before.
        let is_first = !others.any(|other| {
            let keyframe = self.clocks[other.index()].keyframe;
            keyframe.is_some_and(|(_, at)| before <= Some(at) && now.saturating_duration_since(at) < Timeline::TOGETHER)
        });
        let (own, is_exact) = {
            let clock = &mut self.clocks[layer.index()];
            clock.keyframe = Some((timestamp, now));
            (clock.offset, clock.is_exact)
        };
        if !is_exact {
            let mut others = LayerIndex::all().filter(|other| *other != layer && self.clocks[other.index()].is_exact);
            let offset = others.find_map(|other| self.offset_by_keyframe(other, timestamp, now));
            if let Some(offset) = offset {
                self.improve(layer, offset);
            }
        } else if let Some(own) = own {
            self.improve_others(layer, timestamp.plus(own), now);
        }
        is_first
    }

    /// The picture of an exact layer's keyframe shows the offsets of guessed layers whose keyframes came just before.
    fn improve_others(&mut self, layer: LayerIndex, picture: RtpTime, now: Instant) {
        for other in LayerIndex::all().filter(|other| *other != layer) {
            let clock = &self.clocks[other.index()];
            let together = clock
                .keyframe
                .filter(|(_, at)| now.saturating_duration_since(*at) < Timeline::TOGETHER);
            if let (Some((keyframe, _)), false) = (together, clock.is_exact) {
                self.improve(other, picture.ticks_since(keyframe));
            }
        }
    }

    fn improve(&mut self, layer: LayerIndex, offset: u32) {
        let clock = &mut self.clocks[layer.index()];
        let Some(before) = clock.offset else { return };
        let step = offset.wrapping_sub(before).cast_signed();
        if step.abs() < Timeline::ROUNDING {
            clock.is_exact = true;
        } else {
            clock.better = Some(offset);
        }
    }

    /// The offset by which `timestamp` is the picture of the other layer's newest keyframe, if that has just begun to arrive.
    fn offset_by_keyframe(&self, other: LayerIndex, timestamp: RtpTime, now: Instant) -> Option<u32> {
        let clock = &self.clocks[other.index()];
        let (keyframe, at) = clock.keyframe?;
        let offset = clock.offset?;
        let is_together = now.saturating_duration_since(at) < Timeline::TOGETHER;
        is_together.then(|| keyframe.plus(offset).ticks_since(timestamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q: LayerIndex = LayerIndex::new(0);
    const F: LayerIndex = LayerIndex::new(2);

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A layer begins with a keyframe; without others at `guess`. Returns its offset.
    fn begin(timeline: &mut Timeline, layer: LayerIndex, first: RtpTime, now: Instant, guess: u32) -> u32 {
        let by_others = timeline.offset_by_others(layer, first, now);
        let offset = by_others.unwrap_or(guess);
        timeline.begin(layer, offset, by_others.is_some());
        timeline.note_packet(layer, first, now);
        timeline.note_keyframe(layer, first, now);
        offset
    }

    #[test]
    fn keyframes_that_arrive_together_are_of_one_picture() {
        let (mut timeline, start) = (Timeline::default(), onecast_udp::clock::now());
        assert_eq!(begin(&mut timeline, F, RtpTime(5_000), start, 100), 100);
        // 3,000,000,000 is 5,100 of the track, whatever the guess would have been.
        let offset = begin(&mut timeline, Q, RtpTime(3_000_000_000), start + ms(60), 777);
        assert_eq!(RtpTime(3_000_000_000).plus(offset), RtpTime(5_100));
    }

    #[test]
    fn layers_with_equal_timestamps_have_one_offset() {
        let (mut timeline, start) = (Timeline::default(), onecast_udp::clock::now());
        begin(&mut timeline, Q, RtpTime(0), start, 100);
        timeline.note_packet(Q, RtpTime(3_000), start + ms(33));
        assert_eq!(begin(&mut timeline, F, RtpTime(3_000), start + ms(40), 777), 100);
    }

    #[test]
    fn a_guess_is_replaced_when_keyframes_arrive_together() {
        let (mut timeline, start) = (Timeline::default(), onecast_udp::clock::now());
        begin(&mut timeline, Q, RtpTime(5_000), start, 100);
        let later = start + ms(2_000);
        assert_eq!(begin(&mut timeline, F, RtpTime(900_000), later, 777), 777);
        timeline.note_packet(Q, RtpTime(185_000), later + ms(1));
        assert!(
            !timeline.note_keyframe(Q, RtpTime(185_000), later + ms(1)),
            "of the same picture"
        );
        // The picture is not torn apart.
        assert_eq!(timeline.note_packet(F, RtpTime(900_000), later + ms(2)), None);
        let better = timeline.note_packet(F, RtpTime(903_000), later + ms(33)).unwrap();
        assert_eq!(RtpTime(900_000).plus(better), RtpTime(185_100));
        assert_eq!(timeline.note_packet(F, RtpTime(906_000), later + ms(66)), None);
    }

    #[test]
    fn an_exact_offset_stays() {
        let (mut timeline, start) = (Timeline::default(), onecast_udp::clock::now());
        begin(&mut timeline, Q, RtpTime(5_000), start, 100);
        begin(&mut timeline, F, RtpTime(900_000), start, 777);
        // Keyframes of different pictures that arrive together change nothing.
        for (layer, timestamp, at) in [(Q, 95_000, 1_000), (F, 993_000, 1_040)] {
            timeline.note_packet(layer, RtpTime(timestamp), start + ms(at));
            timeline.note_keyframe(layer, RtpTime(timestamp), start + ms(at));
        }
        assert_eq!(timeline.note_packet(F, RtpTime(996_000), start + ms(1_080)), None);
        assert_eq!(timeline.newest(), Some((RtpTime(101_100), start + ms(1_080))));
    }
}
