//! A part of a layer: the frames up to a spatial and a temporal layer, with a numbering of their own.
//!
//! A viewer that is sent only some of the frames must see no gaps, or it would ask for what is left out. The packets that remain are numbered
//! once for all viewers of the part. A packet that comes late has its number reserved; if it turns out not to belong to the part, an empty
//! packet takes the number.

use std::collections::VecDeque;

use onecast_rtc::rtp::RtpTime;

use crate::media::{Packet, Target};

/// Makes the packets of a part.
#[derive(Debug)]
pub(super) struct Derivation {
    target: Target,
    /// The highest index of the encoding so far.
    newest: Option<u64>,
    /// The timestamp of the newest keyframe.
    keyframe: Option<RtpTime>,
    /// Packets left out so far.
    left_out: u64,
    /// Where packets were left out: the index after each run of them, and how many had been left out by then.
    runs: VecDeque<(u64, u64)>,
}

impl Derivation {
    /// Runs that are remembered: a late packet is not older than a window.
    const RUNS_MAX: usize = 1_024;

    /// `None` for everything.
    pub(super) fn of(target: Target) -> Option<Derivation> {
        (target != Target::ALL).then(|| Derivation::new(target))
    }

    fn new(target: Target) -> Derivation {
        Derivation {
            target,
            newest: None,
            keyframe: None,
            left_out: 0,
            runs: VecDeque::new(),
        }
    }

    /// The packet of the part that a packet of the encoding becomes; `None` if it is left out.
    pub(super) fn take(&mut self, packet: &Packet) -> Option<Packet> {
        let is_late = self.newest.is_some_and(|newest| packet.index < newest);
        if packet.keyframe && !is_late {
            self.keyframe = Some(packet.timestamp);
        }
        let is_taken = self.target.takes(packet.place, self.keyframe == Some(packet.timestamp));
        if is_late {
            if self.run_at(packet.index).is_some() {
                return None;
            }
            let index = packet.index - self.left_out_before(packet.index)?;
            return Some(if is_taken {
                self.part(packet, index)
            } else {
                Derivation::empty(packet, index)
            });
        }
        self.newest = Some(packet.index);
        if !is_taken {
            self.leave_out(packet.index);
            return None;
        }
        Some(self.part(packet, packet.index - self.left_out))
    }

    fn leave_out(&mut self, index: u64) {
        self.left_out += 1;
        match self.runs.back_mut() {
            Some((end, left_out)) if *end == index => (*end, *left_out) = (index + 1, self.left_out),
            _ => {
                if self.runs.len() == Derivation::RUNS_MAX {
                    self.runs.pop_front();
                }
                self.runs.push_back((index + 1, self.left_out));
            }
        }
    }

    /// The number that the first packet from `index` on has in the part; `None` before the first packet, or if it is forgotten.
    pub(super) fn number_of(&self, index: u64) -> Option<u64> {
        self.newest?;
        let before = self.left_out_before(index)?;
        // Within a run, it is the number of what follows the run.
        let first = self
            .run_at(index)
            .map_or(index, |(end, left_out)| end - (left_out - before));
        Some(first - before)
    }

    /// The run that a packet that was left out is in.
    fn run_at(&self, index: u64) -> Option<(u64, u64)> {
        let before = self.left_out_before(index)?;
        let at = self.runs.partition_point(|(end, _)| *end <= index);
        let (end, left_out) = *self.runs.get(at)?;
        (index >= end - (left_out - before)).then_some((end, left_out))
    }

    /// The index that the packet with this number has in the encoding.
    pub(super) fn index_in_layer(&self, number: u64) -> Option<u64> {
        let of = |left_out: u64| number + left_out;
        let run = self.runs.iter().rev().find(|(end, left_out)| of(*left_out) >= *end);
        match run {
            Some((_, left_out)) => Some(of(*left_out)),
            None if self.runs.len() < Derivation::RUNS_MAX => Some(number),
            None => None,
        }
    }

    /// How many packets were left out before this one; `None` if that is forgotten.
    fn left_out_before(&self, index: u64) -> Option<u64> {
        let at = self.runs.partition_point(|(end, _)| *end <= index);
        match at.checked_sub(1) {
            Some(before) => Some(self.runs[before].1),
            None if self.runs.len() < Derivation::RUNS_MAX => Some(0),
            None => None,
        }
    }

    /// The picture ends where the highest spatial layer of the part does.
    fn part(&self, packet: &Packet, index: u64) -> Packet {
        let is_end = packet.ends_frame && self.target.ends_with(packet.place);
        Packet {
            index,
            marker: packet.marker || is_end,
            ..packet.clone()
        }
    }

    fn empty(packet: &Packet, index: u64) -> Packet {
        Packet {
            index,
            marker: false,
            keyframe: false,
            refresh: None,
            payload: Box::default(),
            sets: None,
            extensions: Default::default(),
            ..packet.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;

    fn take(part: &mut Derivation, index: u64, spatial: u8, temporal: u8) -> Option<(u64, bool, usize)> {
        let packet = packet(index).frame_of(spatial, temporal).build();
        let part = part.take(&packet)?;
        Some((part.index, part.marker, part.payload.len()))
    }

    #[test]
    fn what_remains_is_numbered_without_gaps() {
        let mut part = Derivation::new(Target::up_to(u8::MAX, 0));
        let taken: Vec<_> = [0, 2, 1, 2, 0, 2, 0]
            .into_iter()
            .zip(100..)
            .filter_map(|(temporal, index)| take(&mut part, index, 0, temporal))
            .collect();
        assert_eq!(taken, [(100, false, 1), (101, false, 1), (102, false, 1)]);
        assert_eq!(
            [100, 101, 102].map(|number| part.index_in_layer(number)),
            [100, 104, 106].map(Some)
        );
        assert_eq!(
            [100, 101, 102, 103, 104, 105, 106, 107].map(|index| part.number_of(index)),
            [100, 101, 101, 101, 101, 102, 102, 103].map(Some)
        );
        assert_eq!(take(&mut part, 102, 0, 1), None, "left out already");
    }

    #[test]
    fn a_picture_ends_with_the_highest_spatial_layer_that_remains() {
        let mut part = Derivation::new(Target::up_to(1, u8::MAX));
        let taken = [0, 1, 2, 0, 1, 2].map(|spatial| (spatial, spatial != 2));
        for ((spatial, is_taken), index) in taken.into_iter().zip(100..) {
            let taken = take(&mut part, index, spatial, 0);
            assert_eq!(taken.is_some(), is_taken);
            assert!(taken.is_none_or(|(_, marker, _)| marker == (spatial == 1)));
        }
    }

    #[test]
    fn a_late_packet_takes_the_number_that_was_kept_for_it() {
        let mut part = Derivation::new(Target::up_to(u8::MAX, 0));
        assert_eq!(take(&mut part, 100, 0, 0), Some((100, false, 1)));
        assert_eq!(take(&mut part, 101, 0, 2), None);
        assert_eq!(take(&mut part, 104, 0, 0), Some((103, false, 1)));
        assert_eq!(take(&mut part, 105, 0, 2), None);
        assert_eq!(take(&mut part, 103, 0, 0), Some((102, false, 1)));
        assert_eq!(take(&mut part, 102, 0, 2), Some((101, false, 0)), "an empty packet");
        assert_eq!(take(&mut part, 106, 0, 0), Some((104, false, 1)));
    }
}
