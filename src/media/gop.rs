//! The group of pictures that a window is in: where its keyframe begins, and how much came since.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Packet;
use super::parameter_sets::ParameterSets;
use super::window::CacheBounds;

/// The newest keyframe and what followed.
#[derive(Debug)]
pub struct Gop {
    /// Timestamp and first number of what may become a keyframe: parameter sets come before the picture.
    candidate: Option<(u32, u64)>,
    start: Option<u64>,
    packets: u64,
    bytes: usize,
    frames: u32,
    /// Number and timestamp of the newest packet.
    newest: Option<(u64, u32)>,
    began: Option<Instant>,
    newest_at: Option<Instant>,
    pixels: u64,
    previous_packets: u64,
    kept: ParameterSets,
    in_front: Option<Arc<Packet>>,
}

impl Default for Gop {
    fn default() -> Gop {
        Gop {
            candidate: None,
            start: None,
            packets: 0,
            bytes: 0,
            frames: 0,
            newest: None,
            began: None,
            newest_at: None,
            pixels: Gop::PIXELS_DEFAULT,
            previous_packets: 0,
            kept: ParameterSets::default(),
            in_front: None,
        }
    }
}

impl Gop {
    /// What a packet takes besides its payload.
    const PACKET_OVERHEAD: usize = 96;
    /// Pictures whose size is not known count as these: 1280 x 720.
    pub const PIXELS_DEFAULT: u64 = 1_280 * 720;

    /// Notes a packet that the window took. True when a keyframe begins with it, or is found to have begun: then its packets are yet
    /// to be [counted](Self::count).
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
        let confirmed = packet.refresh || same_picture && self.start == before.map(|(_, index)| index);
        let candidate = self.candidate.filter(|(timestamp, _)| *timestamp == packet.timestamp);
        if let Some((_, index)) = candidate.filter(|(_, index)| confirmed && self.start != Some(*index)) {
            self.begin(index, packet);
            return true;
        }
        self.kept.note(packet);
        if self.start.is_some_and(|start| packet.index >= start) {
            self.count(packet);
        }
        false
    }

    /// Adds a packet of the group.
    pub(super) fn count(&mut self, packet: &Packet) {
        self.packets += 1;
        self.bytes += packet.payload.len() + Gop::PACKET_OVERHEAD;
        // A late packet is taken for one of a picture that is counted already.
        if self.newest.is_none_or(|(index, _)| packet.index > index) {
            self.frames += u32::from(self.newest.is_none_or(|(_, timestamp)| packet.timestamp != timestamp));
            self.newest = Some((packet.index, packet.timestamp));
        }
        self.began = self.began.or(Some(packet.arrived));
        self.newest_at = self.newest_at.max(Some(packet.arrived));
    }

    /// First number of the newest keyframe.
    pub fn start(&self) -> Option<u64> {
        self.start
    }

    /// Packets since then.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes that those take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Pictures since then, the keyframe included.
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

    /// Bytes a second since the keyframe; `None` when it is too young to tell.
    pub fn bytes_per_second(&self) -> Option<u32> {
        let age = self.age();
        (age >= Duration::from_millis(200)).then(|| (self.bytes as f64 / age.as_secs_f64()) as u32)
    }

    /// Nothing but the keyframe has come.
    pub(super) fn is_fresh(&self) -> bool {
        self.frames <= 1
    }

    pub(super) fn is_within(&self, bounds: &CacheBounds) -> bool {
        self.bytes <= bounds.bytes && u64::from(self.frames).saturating_mul(self.pixels) <= bounds.pixels
    }

    pub(super) fn parameter_sets(&self) -> Option<Arc<Packet>> {
        self.in_front.clone()
    }

    /// Sets that were sent before this window began.
    pub(super) fn adopt_parameter_sets(&mut self, packet: Option<Arc<Packet>>) {
        if let Some(packet) = packet {
            self.kept.note(&packet);
            self.in_front = self.in_front.take().or(Some(packet));
        }
    }

    /// Packets of the group before this one.
    pub(super) fn previous_packets(&self) -> u64 {
        self.previous_packets
    }

    /// Its packets are yet to be [counted](Self::count).
    pub(super) fn forget_counts(&mut self) {
        (self.packets, self.bytes, self.frames) = (0, 0, 0);
        (self.newest, self.began, self.newest_at) = (None, None, None);
    }

    fn begin(&mut self, index: u64, packet: &Packet) {
        self.previous_packets = self.packets.max(self.previous_packets / 2);
        self.start = Some(index);
        self.forget_counts();
        // Sets in packets of their own came before, with this timestamp: then the keyframe brings what it needs.
        self.in_front = if index == packet.index {
            self.kept.in_front_of(packet)
        } else {
            None
        };
        self.kept.note(packet);
        self.pixels = pixels(packet).unwrap_or(self.pixels).max(1);
    }
}

fn pixels(packet: &Packet) -> Option<u64> {
    let (width, height) = crate::rtp::keyframe::picture_size(packet.codec, &packet.payload)?;
    Some(u64::from(width) * u64::from(height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;
    use crate::rtp::Codec;

    const SPS: &[u8] = &[0x67, 0x42, 0, 30, 0x80];
    const PPS: &[u8] = &[0x68, 0xce, 0x80];

    #[test]
    fn parameter_sets_and_the_picture_behind_them_begin_where_the_sets_do() {
        let mut gop = Gop::default();
        let h264 = |index, payload| packet(index).codec(Codec::H264).timestamp(5).payload(payload);
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
        gop.note(&h264(1, 5, SPS).before_refresh().build());
        gop.note(&h264(2, 5, PPS).build());
        gop.note(&h264(3, 6, &[0x41, 0x9a]).build());
        assert_eq!(gop.start(), None);
        assert!(gop.note(&h264(4, 7, &[0x65, 0x88]).keyframe().build()));
        assert_eq!(gop.start(), Some(4));
        assert!(gop.parameter_sets().is_some());
    }

    #[test]
    fn sets_that_were_overtaken_by_their_picture_move_the_start() {
        let mut gop = Gop::default();
        let h264 = |index, payload| packet(index).codec(Codec::H264).timestamp(5).payload(payload);
        assert!(gop.note(&h264(3, &[0x65, 0x88]).keyframe().build()));
        assert!(gop.note(&h264(2, SPS).before_refresh().build()));
        assert_eq!(gop.start(), Some(2));
    }

    #[test]
    fn a_late_packet_of_an_older_keyframe_changes_nothing() {
        let mut gop = Gop::default();
        assert!(gop.note(&packet(10).timestamp(900).keyframe().build()));
        assert!(!gop.note(&packet(4).timestamp(100).keyframe().build()));
        assert_eq!(gop.start(), Some(10));
    }
}
