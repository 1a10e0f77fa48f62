//! The group of pictures (GOP) at the end of a window: where its keyframe begins, and how much followed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_rtc::rtp::{Refresh, RtpTime, keyframe};

use super::Packet;
use super::parameter_sets::packet_in_front_of;
use super::window::CacheBounds;

/// The newest keyframe and what followed it; without a keyframe near enough, a recovery point and what followed that.
#[derive(Debug)]
pub struct Gop {
    /// Timestamp and first index of what may turn out to be a keyframe: parameter sets come before the picture.
    candidate: Option<(RtpTime, u64)>,
    start: Option<u64>,
    /// The group starts with a keyframe, not at a recovery point.
    is_keyframe: bool,
    /// Parameter sets to send in front of the start.
    in_front: Option<Arc<Packet>>,
    /// A recovery point after the start. It replaces the start when the keyframe is too long ago, or, if the start is a recovery point
    /// too, as soon as it is complete.
    later: Option<EntryPoint>,
    /// The newest picture with parameter sets in front or made of intra slices. Where there is no start, it serves a decoder better
    /// than any other picture.
    fair: Option<EntryPoint>,
    packets: u64,
    bytes: usize,
    frames: u32,
    /// Index and timestamp of the newest packet.
    newest: Option<(u64, RtpTime)>,
    began: Option<Instant>,
    newest_at: Option<Instant>,
    /// Pixels of a picture.
    pixels: u64,
    previous_packets: u64,
}

/// The first packet of a picture at which a decoder can begin.
#[derive(Debug, Clone)]
pub(super) struct EntryPoint {
    pub(super) index: u64,
    /// Parameter sets to send in front of it.
    pub(super) in_front: Option<Arc<Packet>>,
    /// A recovery point is complete when the group has this many pictures.
    ready_at: u32,
}

impl Default for Gop {
    fn default() -> Gop {
        Gop {
            candidate: None,
            start: None,
            is_keyframe: false,
            in_front: None,
            later: None,
            fair: None,
            packets: 0,
            bytes: 0,
            frames: 0,
            newest: None,
            began: None,
            newest_at: None,
            pixels: Gop::PIXELS_DEFAULT,
            previous_packets: 0,
        }
    }
}

impl Gop {
    /// Memory that a packet takes besides its payload, in bytes.
    pub(super) const PACKET_OVERHEAD: usize = 96;
    /// Pictures of unknown size count as 1280 x 720.
    pub const PIXELS_DEFAULT: u64 = 1_280 * 720;

    /// Notes a packet that the window took. Returns true if the group begins with it, or turns out to begin elsewhere; the caller has
    /// to [count](Self::count) the packets of the group then.
    pub(super) fn note(&mut self, packet: &Packet) -> bool {
        let before = self.candidate;
        let same_picture = before.is_some_and(|(timestamp, _)| timestamp == packet.timestamp);
        if self.start.is_some_and(|start| packet.index < start) && !same_picture {
            return false;
        }
        if packet.keyframe {
            self.pixels = pixels(packet).unwrap_or(self.pixels);
            if !same_picture || before.is_some_and(|(_, index)| packet.index < index) {
                self.candidate = Some((packet.timestamp, packet.index));
            }
        }
        let candidate = self.candidate.filter(|(timestamp, _)| *timestamp == packet.timestamp);
        self.note_fair(packet, candidate);
        if let Some((_, index)) = candidate
            && self.start_at(
                index,
                same_picture && self.start == before.map(|(_, index)| index),
                packet,
            )
        {
            return true;
        }
        if self.start.is_some_and(|start| packet.index >= start) {
            self.count(packet);
        }
        let complete = |point: &EntryPoint| self.frames >= point.ready_at;
        !self.is_keyframe && self.later.as_ref().is_some_and(complete) && self.fall_back()
    }

    /// Whether the group now starts at `index` and did not before. `moved`: it started at another packet of the same picture, whose
    /// parameter sets were overtaken.
    fn start_at(&mut self, index: u64, moved: bool, packet: &Packet) -> bool {
        let is_new = self.start != Some(index);
        let in_front = || packet_in_front_of(packet).filter(|_| packet.index == index);
        match packet.refresh {
            Some(Refresh::Keyframe) if is_new || !self.is_keyframe => self.begin(index, true, in_front()),
            Some(Refresh::Recovery { .. }) if is_new && self.start.is_none() => self.begin(index, false, in_front()),
            _ if is_new && moved => self.begin(index, self.is_keyframe, None),
            Some(Refresh::Recovery { frames }) if is_new => {
                // Recovery points that come faster than they complete would replace each other and never be used.
                if self.later.as_ref().is_none_or(|point| self.frames >= point.ready_at) {
                    self.later = Some(EntryPoint {
                        index,
                        in_front: in_front(),
                        ready_at: self.frames + 1 + u32::from(frames),
                    });
                }
                return false;
            }
            _ => return false,
        }
        self.pixels = pixels(packet).unwrap_or(self.pixels).max(1);
        true
    }

    fn note_fair(&mut self, packet: &Packet, candidate: Option<(RtpTime, u64)>) {
        if !packet.keyframe && packet.refresh != Some(Refresh::Intra) {
            return;
        }
        let index = candidate.map_or(packet.index, |(_, index)| index);
        if self.fair.as_ref().is_none_or(|fair| fair.index < index) {
            self.fair = Some(EntryPoint {
                index,
                in_front: packet_in_front_of(packet).filter(|_| packet.index == index),
                ready_at: 0,
            });
        }
    }

    /// Makes the later recovery point the start, if there is one; the caller has to [count](Self::count) its packets then.
    pub(super) fn fall_back(&mut self) -> bool {
        let Some(point) = self.later.take() else { return false };
        self.begin(point.index, false, point.in_front);
        true
    }

    /// Counts a packet of the group.
    pub(super) fn count(&mut self, packet: &Packet) {
        self.packets += 1;
        self.bytes += packet.payload.len() + Gop::PACKET_OVERHEAD;
        // A late packet probably belongs to a picture that is counted already.
        if self.newest.is_none_or(|(index, _)| packet.index > index) {
            self.frames += u32::from(self.newest.is_none_or(|(_, timestamp)| packet.timestamp != timestamp));
            self.newest = Some((packet.index, packet.timestamp));
        }
        self.began = self.began.or(Some(packet.arrived));
        self.newest_at = self.newest_at.max(Some(packet.arrived));
    }

    /// Whether the group starts with a keyframe, where every decoder can begin, and not at a recovery point.
    pub fn is_keyframe(&self) -> bool {
        self.is_keyframe
    }

    pub(super) fn fair(&self) -> Option<&EntryPoint> {
        self.fair.as_ref()
    }

    /// First index of the group.
    pub fn start(&self) -> Option<u64> {
        self.start
    }

    /// Packets since the start.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Memory that those packets take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Pictures since the start, the keyframe included.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Time from the keyframe's arrival to that of the newest packet.
    pub fn age(&self) -> Duration {
        match (self.began, self.newest_at) {
            (Some(began), Some(newest)) => newest.saturating_duration_since(began),
            _ => Duration::ZERO,
        }
    }

    /// Bytes per second since the keyframe; `None` while the group is too young to tell.
    pub fn bytes_per_second(&self) -> Option<u32> {
        let age = self.age();
        (age >= Duration::from_millis(200)).then(|| (self.bytes as f64 / age.as_secs_f64()) as u32)
    }

    /// Whether nothing followed the keyframe yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.frames <= 1
    }

    pub(super) fn is_within(&self, bounds: &CacheBounds) -> bool {
        self.allows(bounds, self.bytes, self.frames)
    }

    /// Whether a viewer may be sent this much of the past.
    pub(super) fn allows(&self, bounds: &CacheBounds, bytes: usize, frames: u32) -> bool {
        bytes <= bounds.bytes && u64::from(frames).saturating_mul(self.pixels) <= bounds.pixels
    }

    pub(super) fn parameter_sets(&self) -> Option<Arc<Packet>> {
        self.in_front.clone()
    }

    /// Packets of the previous group, or half as many as of the one before that if those were more.
    pub(super) fn previous_packets(&self) -> u64 {
        self.previous_packets
    }

    /// Resets the counts; the caller has to [count](Self::count) the packets of the group again.
    pub(super) fn forget_counts(&mut self) {
        (self.packets, self.bytes, self.frames) = (0, 0, 0);
        (self.newest, self.began, self.newest_at) = (None, None, None);
    }

    fn begin(&mut self, index: u64, is_keyframe: bool, in_front: Option<Arc<Packet>>) {
        self.previous_packets = self.packets.max(self.previous_packets / 2);
        self.start = Some(index);
        self.is_keyframe = is_keyframe;
        self.in_front = in_front;
        self.later = None;
        self.forget_counts();
    }
}

/// The size may be known only from parameter sets that the offer announced.
fn pixels(packet: &Packet) -> Option<u64> {
    let size = |payload| keyframe::picture_size(packet.codec, payload);
    let (width, height) = size(&packet.payload).or_else(|| size(packet.sets.as_deref()?))?;
    Some(u64::from(width) * u64::from(height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::{PacketBuilder, packet};
    use onecast_rtc::rtp::Codec;

    const SPS: &[u8] = &[0x67, 0x42, 0, 30, 0x80];
    const PPS: &[u8] = &[0x68, 0xce, 0x80];

    #[test]
    fn parameter_sets_and_the_picture_behind_them_begin_where_the_sets_do() {
        let mut gop = Gop::default();
        let h264 = |index, payload| packet(index).codec(Codec::H264).timestamp(RtpTime(5)).payload(payload);
        assert!(!gop.note(&h264(1, SPS).before_refresh().build()) && gop.start().is_none());
        assert!(!gop.note(&h264(2, PPS).build()));
        assert!(gop.note(&h264(3, &[0x65, 0x88]).refresh().build()));
        assert_eq!(gop.start(), Some(1));
        assert!(gop.parameter_sets().is_none());
        assert!(
            !gop.note(&h264(4, &[0x65, 0x08]).refresh().build()),
            "another slice of it"
        );
    }

    #[test]
    fn parameter_sets_amid_a_group_are_no_keyframe_and_are_kept_for_the_next() {
        let mut gop = Gop::default();
        let h264 = |index, timestamp, payload| packet(index).codec(Codec::H264).timestamp(timestamp).payload(payload);
        gop.note(&h264(1, RtpTime(5), SPS).before_refresh().build());
        gop.note(&h264(2, RtpTime(5), PPS).build());
        gop.note(&h264(3, RtpTime(6), &[0x41, 0x9a]).build());
        assert_eq!(gop.start(), None);
        assert_eq!(gop.fair().map(|point| point.index), Some(1));
        assert!(gop.note(&h264(4, RtpTime(7), &[0x65, 0x88]).keyframe().sets(&[0x78, 1]).build()));
        assert_eq!(gop.start(), Some(4));
        assert_eq!(
            gop.parameter_sets().map(|sets| sets.payload.to_vec()),
            Some(vec![0x78, 1])
        );
    }

    /// A packet a picture.
    fn picture(index: u64) -> PacketBuilder {
        packet(index).timestamp(RtpTime(index as u32 * 3_000))
    }

    #[test]
    fn without_a_keyframe_the_group_starts_at_the_newest_recovery_point_that_is_complete() {
        let mut gop = Gop::default();
        gop.note(&picture(1).build());
        assert!(gop.note(&picture(2).recovery(2).build()) && !gop.is_keyframe());
        gop.count(&picture(2).build());
        assert_eq!(gop.start(), Some(2));
        for index in 3..8 {
            assert!(!gop.note(&picture(index).build()));
        }
        assert!(!gop.note(&picture(8).recovery(2).build()), "not complete yet");
        assert!(!gop.note(&picture(9).recovery(2).build()), "one after the other");
        assert_eq!(gop.start(), Some(2));
        assert!(gop.note(&picture(10).build()));
        assert_eq!((gop.start(), gop.packets()), (Some(8), 0), "to be counted again");
    }

    #[test]
    fn a_keyframe_is_left_for_a_recovery_point_only_when_it_must_be() {
        let mut gop = Gop::default();
        assert!(gop.note(&picture(1).keyframe().build()) && gop.is_keyframe());
        gop.note(&picture(2).recovery(0).build());
        assert!(!gop.note(&picture(3).build()));
        assert_eq!(gop.start(), Some(1));
        assert!(gop.fall_back() && !gop.fall_back());
        assert_eq!((gop.start(), gop.is_keyframe()), (Some(2), false));
        assert!(gop.note(&picture(4).keyframe().build()) && gop.is_keyframe());
    }

    #[test]
    fn a_recovery_point_told_beside_a_keyframe_is_a_keyframe() {
        let mut gop = Gop::default();
        assert!(gop.note(&packet(1).timestamp(RtpTime(5)).recovery(0).build()));
        assert!(gop.note(&packet(2).timestamp(RtpTime(5)).refresh().build()));
        assert_eq!((gop.start(), gop.is_keyframe()), (Some(1), true));
    }

    #[test]
    fn sets_that_were_overtaken_by_their_picture_move_the_start() {
        let mut gop = Gop::default();
        let h264 = |index, payload| packet(index).codec(Codec::H264).timestamp(RtpTime(5)).payload(payload);
        assert!(gop.note(&h264(3, &[0x65, 0x88]).keyframe().build()));
        assert!(gop.note(&h264(2, SPS).before_refresh().build()));
        assert_eq!(gop.start(), Some(2));
    }

    #[test]
    fn a_late_packet_of_an_older_keyframe_changes_nothing() {
        let mut gop = Gop::default();
        assert!(gop.note(&packet(10).timestamp(RtpTime(900)).keyframe().build()));
        assert!(!gop.note(&packet(4).timestamp(RtpTime(100)).keyframe().build()));
        assert_eq!(gop.start(), Some(10));
    }
}
